//! The future of the responses of [`CompressionService`](crate::CompressionService).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use crate::body::ResponseBody;
use crate::config::Config;
use crate::request::RequestContext;
use crate::response::{describe_coded, has_whole_content, is_compressible, vary};

pin_project! {
    /// The response future of [`CompressionService`](crate::CompressionService).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        request: RequestContext,
        config: Config,
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn new(inner: F, request: RequestContext, config: Config) -> Self {
        Self { inner, request, config }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        let RequestContext { coding, is_head } = *this.request;
        let min_size = this.config.min_size;
        let is_small = !is_head && response.body().size_hint().upper().is_some_and(|upper| upper < min_size);
        if is_small || !has_whole_content(response.status()) || !is_compressible(response.headers(), min_size) {
            return Poll::Ready(Ok(response.map(ResponseBody::original)));
        }
        vary(response.headers_mut());
        let Some(coding) = coding else {
            return Poll::Ready(Ok(response.map(ResponseBody::original)));
        };
        // RFC 9110 §9.3.2: a response to HEAD has the fields of one to GET.
        if is_head {
            describe_coded(response.headers_mut(), coding);
            return Poll::Ready(Ok(response.map(ResponseBody::original)));
        }
        let Some(permit) = this.config.encoder_limit.acquire() else {
            return Poll::Ready(Ok(response.map(ResponseBody::original)));
        };
        describe_coded(response.headers_mut(), coding);
        let (head, body) = response.into_parts();
        let body = ready!(ResponseBody::coded(body, coding, permit, cx));
        Poll::Ready(Ok(Response::from_parts(head, body)))
    }
}
