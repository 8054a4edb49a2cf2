//! A service adapter for hyper that closes connections after the last response and removes ignored `Upgrade` fields.

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

use super::connection_state::ConnectionState;
use super::request_head::has_token;

/// A service that adds `Connection: close` to the last response, so that hyper closes the connection.
#[derive(Clone, Debug)]
pub(super) struct LastResponseService<S, F> {
    pub(super) inner: S,
    /// A function that returns whether the current request is the last one on the connection.
    pub(super) is_last: F,
    pub(super) state: Arc<ConnectionState>,
}

impl<S, F, B> hyper::service::Service<Request<Incoming>> for LastResponseService<S, F>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    F: Fn() -> bool,
    B: Body,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = LastResponseFuture<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let is_http10 = request.version() == Version::HTTP_10;
        if request.headers().contains_key(UPGRADE) && (is_http10 || !lists(request.headers(), b"upgrade")) {
            // RFC 9110 §7.8: Upgrade is ignored if Connection does not nominate it, and in HTTP/1.0.
            request.headers_mut().remove(UPGRADE);
            request.extensions_mut().remove::<OnUpgrade>();
        }
        let must_close = is_http10 && !lists(request.headers(), b"keep-alive");
        let is_last = (self.is_last)() || must_close;
        LastResponseFuture { inner: self.inner.call(request), is_last, is_http10, state: Arc::clone(&self.state) }
    }
}

pin_project! {
    /// The response future of [`LastResponseService`].
    pub(super) struct LastResponseFuture<F> {
        #[pin]
        inner: F,
        is_last: bool,
        is_http10: bool,
        state: Arc<ConnectionState>,
    }
}

impl<F, B, E> Future for LastResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        // RFC 9110 §2.5: the version is that of this server, not that of the backend.
        *response.version_mut() = Version::HTTP_11;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Poll::Ready(Ok(response));
        }
        // RFC 9112 §9.3, §9.6: close if the request content has not been read, because it is discarded. In HTTP/1.0, a
        // body of unknown length ends with the connection.
        let has_no_length = *this.is_http10 && response.body().size_hint().exact().is_none();
        if *this.is_last || has_no_length || this.state.has_unread_content() || this.state.is_half_closed() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}

/// Returns whether the `Connection` field lists `option`.
fn lists(headers: &HeaderMap, option: &[u8]) -> bool {
    headers.get_all(CONNECTION).iter().any(|line| has_token(line.as_bytes(), option))
}
