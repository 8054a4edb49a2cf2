//! HTTP/2 to one backend: a pool of connections whose streams all requests of a worker share.
//!
//! On h2 itself and not on hyper's client, which hides what a pool needs to know: how many streams the backend allows,
//! whether a request was processed before its connection ended, and whether a response was complete when its stream was
//! reset.

mod connection;
mod connections;
mod download;
mod exchange;
mod frames;
mod pool;
mod tunnel;
mod upload;
mod wire;

use std::sync::Arc;

use http::{Request, Response};
use http_body::Body;
use tokio::time::timeout;

pub(crate) use self::connection::EXCHANGE;
use self::connections::ConnectionId;
pub(crate) use self::download::Download;
use self::exchange::{SendError, Unprocessed};
pub(crate) use self::pool::{Acquired, Pool, Slot};
pub(crate) use self::tunnel::{TunnelBody, open_tunnel};
use crate::body::RequestBody;
use crate::budget::RetryBudget;
use crate::connect::Connected;
use crate::deadline::Patience;
use crate::error::{BoxError, ProxyError, ProxyErrorKind};
use crate::socket::Socket;

/// The outcome of a request that was sent to a pool.
pub(crate) enum Sent {
    Response(Response<Box<Download>>),
    /// The backend chose HTTP/1.1, on this connection if there is one. The request is whole.
    Http1(Option<Box<Connected>>),
    /// The backend wants this request over HTTP/1.1 (RFC 9113 §7). It is whole.
    NeedsHttp1,
}

/// A request that got no response.
pub(crate) struct Failed {
    /// Whether the request may be sent to another backend.
    pub(crate) is_repeatable: bool,
    pub(crate) was_sent: bool,
    pub(crate) error: ProxyError,
}

/// Sends a request on a stream of the pool, the `first` one if there is one already. One that was not processed is sent
/// again on another connection (RFC 9113 §8.7), whatever its method.
pub(crate) async fn send<B>(
    pool: &Arc<Pool>,
    request: &mut Request<RequestBody<B>>,
    patience: Patience,
    mut first: Option<Slot>,
) -> Result<Sent, Failed>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let is_harmless = request.body().is_empty() && request.method().is_idempotent();
    if request.body().content() == Some(u64::MAX)
        && let Err(error) = request.body_mut().peek().await
    {
        let error = ProxyError::caused(ProxyErrorKind::HttpRequestError, error);
        return Err(Failed { is_repeatable: false, was_sent: false, error });
    }
    let mut repeats = Repeats::default();
    let mut refused_by: Option<ConnectionId> = None;
    loop {
        let slot = match first.take() {
            Some(slot) => slot,
            None => match pool.acquire(refused_by, request.body().content()).await {
                Ok(Acquired::Stream(slot)) => slot,
                Ok(Acquired::Http1(connected)) => return Ok(Sent::Http1(connected)),
                Err(error) => return Err(Failed { is_repeatable: true, was_sent: false, error }),
            },
        };
        let (id, is_first, traffic) = (slot.id, slot.is_first, Arc::clone(&slot.connection.traffic));
        let (may_repeat, is_repeatable, error) = match exchange::send(slot, request, patience).await {
            Ok(response) => return Ok(Sent::Response(response)),
            Err(SendError::Unprocessed { why: Unprocessed::NeedsHttp1, .. }) => return Ok(Sent::NeedsHttp1),
            Err(SendError::Unprocessed { why, error }) => {
                if let (Unprocessed::GoAway, Some(limit)) = (why, traffic.processed()) {
                    pool.set_request_limit(limit);
                }
                (repeats.allow_unprocessed(pool.budget()), true, error)
            }
            // The backend closed a connection just as it was used: once more, on another one, as over HTTP/1.1.
            Err(SendError::Ended { is_stream, error }) => {
                (is_harmless && !is_stream && !is_first && repeats.allow_ended(), is_harmless, error)
            }
            Err(SendError::Failed(error)) => (false, false, error),
        };
        if !may_repeat {
            return Err(Failed { is_repeatable, was_sent: true, error });
        }
        refused_by = Some(id);
    }
}

/// The repeats of one request at one backend.
#[derive(Default)]
struct Repeats {
    unprocessed: u32,
    has_ended: bool,
}

impl Repeats {
    /// Whether a request that was not processed may be sent again.
    fn allow_unprocessed(&mut self, budget: &RetryBudget) -> bool {
        self.unprocessed += 1;
        self.unprocessed <= FREE_REPEATS || self.unprocessed <= MAX_REPEATS && budget.failed()
    }

    /// Whether a request whose connection ended before its response may be sent again.
    fn allow_ended(&mut self) -> bool {
        !std::mem::replace(&mut self.has_ended, true)
    }
}

/// Sends a request on a connection of its own.
pub(crate) async fn send_alone<B>(
    socket: Socket,
    request: &mut Request<RequestBody<B>>,
    patience: Patience,
) -> Result<Response<Box<Download>>, Failed>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let (connection, driver) = match timeout(patience.head, connection::handshake(socket)).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => return Err(Failed { is_repeatable: true, was_sent: false, error }),
        Err(_) => {
            let error = ProxyError::new(ProxyErrorKind::ConnectionTimeout);
            return Err(Failed { is_repeatable: true, was_sent: false, error });
        }
    };
    tokio::spawn(driver.run_alone());
    match exchange::send(Slot::alone(connection), request, patience).await {
        Ok(response) => Ok(response),
        Err(SendError::Unprocessed { error, .. }) => Err(Failed { is_repeatable: true, was_sent: true, error }),
        Err(SendError::Ended { error, .. }) => {
            let is_repeatable = request.body().is_empty() && request.method().is_idempotent();
            Err(Failed { is_repeatable, was_sent: true, error })
        }
        Err(SendError::Failed(error)) => Err(Failed { is_repeatable: false, was_sent: true, error }),
    }
}

/// An error of a connection or a stream, before there is a response.
fn failed(error: h2::Error) -> ProxyError {
    let kind =
        if error.is_library() { ProxyErrorKind::HttpProtocolError } else { ProxyErrorKind::ConnectionTerminated };
    ProxyError::caused(kind, error)
}

/// How often a request that was not processed is sent again: a backend that ends a connection after some number of requests
/// leaves those above unprocessed, and so may the next connection.
const FREE_REPEATS: u32 = 2;
/// The same, while the retry budget lasts.
const MAX_REPEATS: u32 = 4;
