//! HTTP/2 to one backend: a pool of connections that is shared by all requests of a worker.
//!
//! This uses h2 directly. The client of hyper does not expose the number of streams that the backend allows, whether a
//! request was processed before its connection was closed, and whether a response was complete when its stream was
//! reset.

mod connection;
mod connections;
mod download;
mod error;
mod exchange;
mod frames;
mod observed_socket;
mod pool;
mod tunnel;
mod upload;

use std::sync::Arc;

use http::{Request, Response};
use http_body::Body;
use tokio::time::timeout;

pub(crate) use self::connection::MAX_EXCHANGE_SIZE;
use self::connections::ConnectionId;
pub(crate) use self::download::Download;
use self::exchange::{SendError, UnprocessedReason};
pub(crate) use self::pool::{Acquired, Pool, StreamPermit};
pub(crate) use self::tunnel::{TunnelBody, open_tunnel};
use crate::connector::Connected;
use crate::error::{BoxError, ProxyError, ProxyErrorKind};
use crate::request_body::RequestBody;
use crate::retry_budget::RetryBudget;
use crate::socket::Socket;
use crate::timeouts::Timeouts;

/// The outcome of a request that was sent through an HTTP/2 pool.
pub(crate) enum SendOutcome {
    Response(Response<Box<Download>>),
    /// The backend selected HTTP/1.1 by ALPN; contains the connection if one was opened. The request is complete.
    Http1(Option<Box<Connected>>),
    /// The backend requires HTTP/1.1 for this request (`HTTP_1_1_REQUIRED`, RFC 9113 §7). The request is complete.
    NeedsHttp1,
}

/// The failure of an HTTP/2 request that received no response.
pub(crate) struct SendFailure {
    /// Whether the request may be sent to another backend.
    pub(crate) is_retryable: bool,
    /// Whether a part of the request was sent.
    pub(crate) was_sent: bool,
    pub(crate) error: ProxyError,
}

/// Sends a request on the stream `first` if given, or else on a stream from the pool.
///
/// A request that was not processed is sent again on another connection (RFC 9113 §8.7), with any method.
pub(crate) async fn send<B>(
    pool: &Arc<Pool>,
    request: &mut Request<RequestBody<B>>,
    timeouts: Timeouts,
    mut first: Option<StreamPermit>,
) -> Result<SendOutcome, SendFailure>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let is_safe_to_retry = request.body().is_empty() && request.method().is_idempotent();
    if request.body().content_length() == Some(u64::MAX)
        && let Err(error) = request.body_mut().peek().await
    {
        let error = ProxyError::caused(ProxyErrorKind::HttpRequestError, error);
        return Err(SendFailure { is_retryable: false, was_sent: false, error });
    }
    let mut retries = RetryCounts::default();
    let mut avoided: Option<ConnectionId> = None;
    loop {
        let permit = match first.take() {
            Some(permit) => permit,
            None => match pool.acquire(avoided, request.body().content_length()).await {
                Ok(Acquired::Stream(permit)) => permit,
                Ok(Acquired::Http1(connected)) => return Ok(SendOutcome::Http1(connected)),
                Err(error) => return Err(SendFailure { is_retryable: true, was_sent: false, error }),
            },
        };
        let (id, is_first, traffic) = (permit.id, permit.is_first, Arc::clone(&permit.connection.traffic));
        let (may_retry, is_retryable, error) = match exchange::send(permit, request, timeouts).await {
            Ok(response) => return Ok(SendOutcome::Response(response)),
            Err(SendError::Unprocessed { reason: UnprocessedReason::NeedsHttp1, .. }) => {
                return Ok(SendOutcome::NeedsHttp1);
            }
            Err(SendError::Unprocessed { reason, error }) => {
                if let (UnprocessedReason::GoAway, Some(limit)) = (reason, traffic.processed()) {
                    pool.set_request_limit(limit);
                }
                (retries.allow_unprocessed(pool.budget()), true, error)
            }
            // The backend closed the connection at the same moment. As over HTTP/1.1, another connection is used
            // once.
            Err(SendError::Closed { is_stream_error, error }) => {
                (is_safe_to_retry && !is_stream_error && !is_first && retries.allow_closed(), is_safe_to_retry, error)
            }
            Err(SendError::Failed(error)) => (false, false, error),
        };
        if !may_retry {
            return Err(SendFailure { is_retryable, was_sent: true, error });
        }
        avoided = Some(id);
    }
}

/// The retry counters of one request at one backend.
#[derive(Default)]
struct RetryCounts {
    unprocessed: u32,
    was_closed: bool,
}

impl RetryCounts {
    /// Returns whether a request that the backend did not process may be retried.
    fn allow_unprocessed(&mut self, budget: &RetryBudget) -> bool {
        self.unprocessed += 1;
        self.unprocessed <= FREE_RETRIES || self.unprocessed <= MAX_RETRIES && budget.record_failure()
    }

    /// Returns whether a request may be retried after its connection was closed before the response.
    fn allow_closed(&mut self) -> bool {
        !std::mem::replace(&mut self.was_closed, true)
    }
}

/// Sends a request on a separate HTTP/2 connection.
pub(crate) async fn send_unpooled<B>(
    socket: Socket,
    request: &mut Request<RequestBody<B>>,
    timeouts: Timeouts,
) -> Result<Response<Box<Download>>, SendFailure>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let (connection, driver) = match timeout(timeouts.response_head, connection::handshake(socket)).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => return Err(SendFailure { is_retryable: true, was_sent: false, error }),
        Err(_) => {
            let error = ProxyError::new(ProxyErrorKind::ConnectionTimeout);
            return Err(SendFailure { is_retryable: true, was_sent: false, error });
        }
    };
    tokio::spawn(driver.run_unpooled());
    match exchange::send(StreamPermit::unpooled(connection), request, timeouts).await {
        Ok(response) => Ok(response),
        Err(SendError::Unprocessed { error, .. }) => Err(SendFailure { is_retryable: true, was_sent: true, error }),
        Err(SendError::Closed { error, .. }) => {
            let is_retryable = request.body().is_empty() && request.method().is_idempotent();
            Err(SendFailure { is_retryable, was_sent: true, error })
        }
        Err(SendError::Failed(error)) => Err(SendFailure { is_retryable: false, was_sent: true, error }),
    }
}

/// The maximum number of retries of an unprocessed request outside of the retry budget.
///
/// A backend that closes each connection after a number of requests leaves later requests unprocessed, perhaps on
/// several connections in succession.
const FREE_RETRIES: u32 = 2;
/// The maximum total number of retries of an unprocessed request, with or without the retry budget.
const MAX_RETRIES: u32 = 4;
