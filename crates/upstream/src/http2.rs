//! The HTTP/2 connection to one backend, shared by all requests of a worker.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::timeout;

use crate::backend::Backend;
use crate::body::RequestBody;
use crate::connect::Connector;
use crate::error::{BoxError, ProxyError, ProxyErrorKind};

/// A connection that is made when first needed, and again when it has ended.
pub(crate) struct Http2<B: Body> {
    sender: Mutex<Option<SendRequest<RequestBody<B>>>>,
}

impl<B> Http2<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    pub(crate) fn new() -> Self {
        Self { sender: Mutex::new(None) }
    }

    /// Sends `request`; gives it back where nothing of it was sent.
    pub(crate) async fn send(
        &self,
        connector: &Connector,
        backend: &Backend,
        mut request: Request<RequestBody<B>>,
        within: Duration,
    ) -> Result<Response<Incoming>, (Option<Request<RequestBody<B>>>, ProxyError)> {
        // A connection that is going away (GOAWAY) gives the request back; a second one is new.
        for _ in 0..2 {
            let mut sender = match self.sender(connector, backend).await {
                Ok(sender) => sender,
                Err(error) => return Err((Some(request), error)),
            };
            match timeout(within, sender.try_send_request(request)).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(mut error)) => {
                    self.forget();
                    match error.take_message() {
                        Some(unsent) => request = unsent,
                        None => return Err((None, failed(error.into_error()))),
                    }
                }
                Err(_) => return Err((None, ProxyError::new(ProxyErrorKind::HttpResponseTimeout))),
            }
        }
        Err((Some(request), ProxyError::new(ProxyErrorKind::ConnectionTerminated)))
    }

    /// The connection there is, or a new one.
    async fn sender(
        &self,
        connector: &Connector,
        backend: &Backend,
    ) -> Result<SendRequest<RequestBody<B>>, ProxyError> {
        let present = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sender) = present.filter(|sender| !sender.is_closed()) {
            return Ok(sender);
        }
        let socket = connector.connect(backend).await?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(failed)?;
        // Many requests share it, so none of them can drive it.
        tokio::spawn(connection);
        *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender.clone());
        Ok(sender)
    }

    fn forget(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn failed(error: hyper::Error) -> ProxyError {
    let kind = if error.is_user() { ProxyErrorKind::HttpRequestError } else { ProxyErrorKind::ConnectionTerminated };
    ProxyError::caused(kind, error)
}

const KEEP_ALIVE: Duration = Duration::from_secs(30);
