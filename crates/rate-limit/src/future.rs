//! The answer: the inner one, or a refusal.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;

use crate::decision::RateLimitDecision;
use crate::limiter::Limiter;
use crate::policies::{Said, Verdict};

pin_project! {
    /// The future of [`RateLimitService`](crate::RateLimitService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        // `None`: the request is refused.
        #[pin]
        inner: Option<F>,
        decision: Option<RateLimitDecision>,
        // `None`: the client is told nothing.
        limiter: Option<Arc<Limiter>>,
        // Where there are several.
        each: Option<Box<[Said]>>,
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn unlimited(inner: F) -> Self {
        Self { inner: Some(inner), decision: None, limiter: None, each: None }
    }

    pub(crate) fn shadowed(inner: F, decision: RateLimitDecision) -> Self {
        Self { inner: Some(inner), decision: Some(decision), limiter: None, each: None }
    }

    pub(crate) fn allowed(inner: F, verdict: Verdict) -> Self {
        Self { inner: Some(inner), ..Self::refused(verdict) }
    }

    pub(crate) fn refused(Verdict { decision, each, limiter }: Verdict) -> Self {
        Self { inner: None, decision: Some(decision), limiter: Some(limiter), each }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Either<B, Full<Bytes>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.inner.as_pin_mut() {
            Some(inner) => ready!(inner.poll(cx))?.map(Either::Left),
            None => refusal(*this.decision),
        };
        if let Some(decision) = this.decision.take() {
            if let Some(limiter) = this.limiter.take() {
                let headers = response.headers_mut();
                match this.each.take() {
                    None => limiter.tell(&decision, headers),
                    Some(each) => {
                        each.iter().for_each(|(limiter, decision)| limiter.tell(decision, headers));
                        // One of them may have written a shorter one.
                        limiter.tell_retry_after(&decision, headers);
                    }
                }
                limiter.tell_legacy(&decision, headers);
            }
            response.extensions_mut().insert(decision);
        }
        Poll::Ready(Ok(response))
    }
}

fn refusal<B>(decision: Option<RateLimitDecision>) -> Response<Either<B, Full<Bytes>>> {
    let (status, text) = match decision {
        // What is missing in the program is in the decision; the client can't do anything about it.
        Some(RateLimitDecision::Unkeyed(_)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error: nobody to count this request for\n")
        }
        _ => (StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n"),
    };
    let mut response = Response::new(Either::Right(Full::new(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
