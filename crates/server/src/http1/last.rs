//! What hyper is not to know of requests and responses: upgrades that are none, and how the connection goes on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use pin_project_lite::pin_project;

use super::request::has_token;
use super::watch::Watch;

/// Tells hyper which response is the last of the connection; hyper tells the client, and closes.
#[derive(Clone, Debug)]
pub(super) struct LastService<S, F> {
    pub(super) inner: S,
    /// Whether the request that is about to be called is the last.
    pub(super) is_last: F,
    pub(super) watch: Arc<Watch>,
}

impl<S, F, B> hyper::service::Service<Request<Incoming>> for LastService<S, F>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    F: Fn() -> bool,
    B: Body,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = LastFuture<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let is_http10 = request.version() == Version::HTTP_10;
        if request.headers().contains_key(UPGRADE) && (is_http10 || !lists(request.headers(), b"upgrade")) {
            // RFC 9110 §7.8: an Upgrade that Connection does not name is ignored, and so is one in HTTP/1.0.
            request.headers_mut().remove(UPGRADE);
            request.extensions_mut().remove::<OnUpgrade>();
        }
        let has_to_close = is_http10 && !lists(request.headers(), b"keep-alive");
        let is_last = (self.is_last)() || has_to_close;
        LastFuture { inner: self.inner.call(request), is_last, is_http10, watch: Arc::clone(&self.watch) }
    }
}

pin_project! {
    /// Waits for the response.
    pub(super) struct LastFuture<F> {
        #[pin]
        inner: F,
        is_last: bool,
        is_http10: bool,
        watch: Arc<Watch>,
    }
}

impl<F, B, E> Future for LastFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        // The version of a backend's response is nobody's business but the backend's.
        *response.version_mut() = Version::HTTP_11;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Poll::Ready(Ok(response));
        }
        // RFC 9112 §9.3, §9.6: a response ahead of the request's content, which is not read any more; and HTTP/1.0 knows
        // no other end of a body whose length is unknown.
        let has_no_length = *this.is_http10 && response.body().size_hint().exact().is_none();
        if *this.is_last || has_no_length || this.watch.has_content_left() || this.watch.is_half_closed() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}

/// Whether `Connection` lists `option`.
fn lists(headers: &HeaderMap, option: &[u8]) -> bool {
    headers.get_all(CONNECTION).iter().any(|line| has_token(line.as_bytes(), option))
}
