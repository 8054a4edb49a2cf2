//! The response future and response body of [`ForwardHeadersService`](crate::ForwardHeadersService).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use pin_project_lite::pin_project;
use rproxy_core::{ProxyErrorType, Rejection, ResponseBody};

use crate::decision::ForwardHeadersDecision;
use crate::hop_by_hop;
use crate::request_id::RequestId;

pin_project! {
    /// The response future of [`ForwardHeadersService`](crate::ForwardHeadersService).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        // `None` if this layer responds itself.
        #[pin]
        inner: Option<F>,
        id: Option<RequestId>,
        local_response: Option<Box<Response<Bytes>>>,
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn inner(inner: F, id: RequestId) -> Self {
        Self { inner: Some(inner), id: Some(id), local_response: None }
    }

    pub(crate) fn loop_detected() -> Self {
        let rejection = Rejection::new("forward_headers", "loop", StatusCode::LOOP_DETECTED)
            .with_error_type(ProxyErrorType::ProxyLoopDetected);
        Self::local(rejection.into_response(Bytes::from_static(b"Loop Detected\n")))
    }

    pub(crate) fn options() -> Self {
        Self::final_recipient("text/plain; charset=utf-8", Bytes::new())
    }

    pub(crate) fn trace(text: String) -> Self {
        Self::final_recipient("message/http", text.into())
    }

    fn final_recipient(media_type: &'static str, body: Bytes) -> Self {
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        response.extensions_mut().insert(ForwardHeadersDecision::FinalRecipient);
        Self::local(response)
    }

    fn local(response: Response<Bytes>) -> Self {
        Self { inner: None, id: None, local_response: Some(Box::new(response)) }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            let response = this.local_response.take().map(|response| response.map(ResponseBody::full));
            return Poll::Ready(Ok(response.unwrap_or_else(|| Response::new(ResponseBody::full(Bytes::new())))));
        };
        let mut response = ready!(inner.poll(cx))?.map(ResponseBody::inner);
        let is_switch = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let upgrade = if is_switch { response.headers().get(UPGRADE).cloned() } else { None };
        hop_by_hop::remove(response.headers_mut(), |_| {});
        // RFC 9110 §15.2.2: a 101 names the new protocol in `Upgrade`, which a proxy that forwards the 101 keeps.
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
