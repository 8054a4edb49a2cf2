//! The answer, without what was about the connection to the upstream; or one that is given here.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;

use crate::hop_by_hop;
use crate::request_id::RequestId;

pin_project! {
    /// The future of [`ForwardHeadersService`](crate::ForwardHeadersService).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Option<F>,
        id: Option<RequestId>,
        // Where the answer is given here.
        own: Option<Box<Response<Full<Bytes>>>>,
    }
}

/// Response extension: why the request went no further. Absent where it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardHeadersDecision {
    /// Answered 508: it has come by too often.
    LoopDetected,
    /// Answered here: `Max-Forwards` was zero.
    FinalRecipient,
}

impl<F> ResponseFuture<F> {
    pub(crate) fn inner(inner: F, id: RequestId) -> Self {
        Self { inner: Some(inner), id: Some(id), own: None }
    }

    pub(crate) fn loop_detected() -> Self {
        let (status, decision) = (StatusCode::LOOP_DETECTED, ForwardHeadersDecision::LoopDetected);
        Self::own(status, "text/plain; charset=utf-8", Bytes::from_static(b"Loop Detected\n"), decision)
    }

    pub(crate) fn options() -> Self {
        let decision = ForwardHeadersDecision::FinalRecipient;
        Self::own(StatusCode::OK, "text/plain; charset=utf-8", Bytes::new(), decision)
    }

    pub(crate) fn trace(text: String) -> Self {
        Self::own(StatusCode::OK, "message/http", text.into(), ForwardHeadersDecision::FinalRecipient)
    }

    fn own(status: StatusCode, media_type: &'static str, body: Bytes, decision: ForwardHeadersDecision) -> Self {
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        response.extensions_mut().insert(decision);
        Self { inner: None, id: None, own: Some(Box::new(response)) }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Either<B, Full<Bytes>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            let own = this.own.take().map(|own| own.map(Either::Right));
            return Poll::Ready(Ok(own.unwrap_or_else(|| Response::new(Either::Right(Full::default())))));
        };
        let mut response = ready!(inner.poll(cx))?.map(Either::Left);
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
