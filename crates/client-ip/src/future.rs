//! The response future and response body of [`ClientIpService`](crate::ClientIpService).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Response, StatusCode};
use pin_project_lite::pin_project;
use rproxy_core::{ProxyErrorType, Rejection, ResponseBody};

pin_project! {
    /// The response future of [`ClientIpService`](crate::ClientIpService).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        // `None`: the request has no peer address.
        #[pin]
        inner: Option<F>,
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn inner(inner: F) -> Self {
        Self { inner: Some(inner) }
    }

    pub(crate) fn no_peer_address() -> Self {
        Self { inner: None }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().inner.as_pin_mut() {
            Some(inner) => Poll::Ready(Ok(ready!(inner.poll(cx))?.map(ResponseBody::inner))),
            None => Poll::Ready(Ok(no_peer_address())),
        }
    }
}

fn no_peer_address<B>() -> Response<ResponseBody<B>> {
    const MISSING: &str = "no peer address: the server must insert rproxy_client_ip::PeerAddr into each request; \
        in axum, enable the feature `axum` and serve with into_make_service_with_connect_info::<SocketAddr>()\n";
    Rejection::new("client_ip", "no_peer_address", StatusCode::INTERNAL_SERVER_ERROR)
        .with_error_type(ProxyErrorType::ProxyConfigurationError)
        .into_response(ResponseBody::full(MISSING))
}
