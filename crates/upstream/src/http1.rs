//! One HTTP/1.1 connection to a backend, driven by whoever uses it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep};

use crate::body::RequestBody;
use crate::connect::Socket;
use crate::error::{BoxError, ProxyError, ProxyErrorKind};

/// A connection with nobody else to poll it.
pub(crate) struct Http1<B: Body + 'static> {
    sender: SendRequest<RequestBody<B>>,
    connection: Connection<TokioIo<Socket>, RequestBody<B>>,
    ended: bool,
    /// Reused from request to request: moving a deadline that is registered already is cheap.
    timer: Pin<Box<Sleep>>,
}

/// A request that got no response.
pub(crate) enum SendError<B> {
    /// Nothing of it was sent; here it is again.
    NotSent(Request<RequestBody<B>>),
    /// The connection ended before the response head did.
    Ended(hyper::Error),
    /// Another failure, which a new connection would not mend.
    Failed(ProxyError),
}

impl<B> Http1<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    pub(crate) async fn handshake(socket: Socket) -> Result<Box<Self>, ProxyError> {
        let (sender, connection) = Builder::new()
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|error| ProxyError::caused(ProxyErrorKind::HttpProtocolError, error))?;
        Ok(Box::new(Self { sender, connection, ended: false, timer: Box::pin(sleep(Duration::ZERO)) }))
    }

    /// Sends `request` and waits for the head of its response.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody<B>>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, SendError<B>> {
        self.timer.as_mut().reset(Instant::now() + timeout);
        let mut response = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            if !self.ended {
                self.ended = Pin::new(&mut self.connection).poll(cx).is_ready();
            }
            // The work before the timer: a response that is there has come in time.
            if let Poll::Ready(response) = response.as_mut().poll(cx) {
                return Poll::Ready(response.map_err(|mut error| match error.take_message() {
                    Some(request) => SendError::NotSent(request),
                    None => classify(error.into_error()),
                }));
            }
            match self.timer.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    Poll::Ready(Err(SendError::Failed(ProxyError::new(ProxyErrorKind::HttpResponseTimeout))))
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Moves bytes of the response body; whether anything may have come of it.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ended {
            return false;
        }
        self.ended = Pin::new(&mut self.connection).poll(cx).is_ready();
        true
    }

    /// Whether the next request may be sent: nothing is left of the last one, and the backend has
    /// neither closed nor said anything unasked.
    ///
    /// Polls without a waker, so that the task that used the connection last is not woken, nor kept
    /// in memory, by what happens to it while it is idle.
    pub(crate) fn is_reusable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.ended && self.sender.is_ready()
    }
}

fn classify<B>(error: hyper::Error) -> SendError<B> {
    if error.is_user() {
        // Its body failed: RFC 9209 calls it an error of the request.
        SendError::Failed(ProxyError::caused(ProxyErrorKind::HttpRequestError, error))
    } else if error.is_parse() {
        SendError::Failed(ProxyError::caused(ProxyErrorKind::HttpProtocolError, error))
    } else {
        SendError::Ended(error)
    }
}
