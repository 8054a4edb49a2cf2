//! The answer, without what was about the connection to the upstream.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use pin_project_lite::pin_project;

use crate::hop_by_hop;
use crate::request_id::RequestId;

pin_project! {
    /// The future of [`ForwardHeadersService`](crate::ForwardHeadersService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        id: Option<RequestId>,
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn new(inner: F, id: RequestId) -> Self {
        Self { inner, id: Some(id) }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        let upgrade = response.headers().get(UPGRADE).filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS);
        let upgrade = upgrade.cloned();
        hop_by_hop::remove(response.headers_mut());
        // RFC 9110 §15.2.2: a 101 says in `Upgrade` what it switches to, and that is passed on by
        // whoever passes the switch on.
        if let Some(upgrade) = upgrade {
            response.headers_mut().insert(UPGRADE, upgrade);
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        if let Some(id) = this.id.take() {
            response.extensions_mut().insert(id);
        }
        Poll::Ready(Ok(response))
    }
}
