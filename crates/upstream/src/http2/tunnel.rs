//! Tunnels by extended CONNECT (RFC 8441), each on a separate HTTP/2 connection.
//!
//! This uses the client of hyper, because the caller needs its [`OnUpgrade`](hyper::upgrade::OnUpgrade).

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::connection::{SEND_BUFFER_SIZE, STREAM_WINDOW};
use super::observed_socket::{ObservedSocket, Traffic};
use crate::error::{BodyError, BoxError, ProxyError, ProxyErrorKind};
use crate::request_body::RequestBody;
use crate::socket::Socket;
use crate::timeouts::Timeouts;

/// Sends an extended CONNECT request, if the backend supports extended CONNECT.
pub(crate) async fn open_tunnel<B>(
    socket: Socket,
    request: Request<RequestBody<B>>,
    timeouts: Timeouts,
) -> Result<Response<TunnelBody>, ProxyError>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let (wire, traffic) = ObservedSocket::new(socket);
    let (mut sender, connection) = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW)
        .max_send_buf_size(SEND_BUFFER_SIZE)
        .handshake(TokioIo::new(wire))
        .await
        .map_err(to_proxy_error)?;
    let (report, reported) = oneshot::channel();
    let settings = Arc::clone(&traffic);
    tokio::spawn(async move {
        let mut connection = pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = settings.settings() => {
                let _ = report.send(connection.is_extended_connect_protocol_enabled());
            }
        }
        let _ = connection.await;
    });
    // RFC 8441 §3: the SETTINGS of the backend contain the support for extended CONNECT.
    match timeout(timeouts.response_head, reported).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => return Err(ProxyError::new(ProxyErrorKind::HttpUpgradeFailed)),
        Ok(Err(_)) => return Err(ProxyError::new(ProxyErrorKind::ConnectionTerminated)),
        Err(_) => return Err(ProxyError::new(ProxyErrorKind::HttpResponseTimeout)),
    }
    match timeout(timeouts.response_head, sender.send_request(request)).await {
        Ok(Ok(response)) => Ok(response.map(|incoming| TunnelBody { incoming, traffic })),
        Ok(Err(error)) => Err(to_proxy_error(error)),
        Err(_) => Err(ProxyError::new(ProxyErrorKind::HttpResponseTimeout)),
    }
}

/// Converts an error of the connection into a [`ProxyError`].
fn to_proxy_error(error: hyper::Error) -> ProxyError {
    let kind = if error.is_user() { ProxyErrorKind::HttpRequestError } else { ProxyErrorKind::ConnectionTerminated };
    ProxyError::caused(kind, error)
}

/// The body of a response that rejects the tunnel.
pub(crate) struct TunnelBody {
    incoming: Incoming,
    traffic: Arc<Traffic>,
}

impl Body for TunnelBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        match polled {
            // hyper regards a reset with NO_ERROR as the end of the body.
            Poll::Ready(None) if !self.traffic.has_end_stream() => Poll::Ready(Some(Err(BodyError::Incomplete))),
            polled => polled.map_err(BodyError::Http),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream() && self.traffic.has_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
