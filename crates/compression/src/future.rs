//! The response future of [`CompressionService`](crate::CompressionService).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use crate::body::ResponseBody;
use crate::config::Config;
use crate::entity_tag::Variant;
use crate::private::is_private;
use crate::request::RequestContext;
use crate::response::{Facts, describe_coded, describe_without_content, has_whole_content, set_tag, vary};

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
        let (request, min_size) = (&*this.request, this.config.min_size);
        let has_content = has_whole_content(response.status());
        // A response to HEAD, a 304 and others describe content that they do not have.
        let is_small = has_content
            && !request.is_head
            && response.body().size_hint().upper().is_some_and(|upper| upper < min_size);
        let facts = Facts::of(response.headers(), min_size, is_small);
        if facts.is_compressible && has_content {
            vary(response.headers_mut());
            let is_excluded = !this.config.compresses_private && is_private(request.credentials, &response);
            let coding = request.coding.filter(|_| !is_excluded);
            // RFC 9110 §9.3.2: a response to HEAD has the fields of one to GET.
            if request.is_head
                && let Some(coding) = coding
            {
                describe_coded(response.headers_mut(), coding);
                return Poll::Ready(Ok(response.map(ResponseBody::head)));
            }
            if let Some(coding) = coding
                && let Some(permit) = this.config.encoder_limit.acquire()
            {
                describe_coded(response.headers_mut(), coding);
                let (head, body) = response.into_parts();
                let body = ready!(ResponseBody::coded(body, coding, permit, cx));
                return Poll::Ready(Ok(Response::from_parts(head, body)));
            }
        } else if describe_without_content(response.status(), response.headers_mut(), request, facts) {
            return Poll::Ready(Ok(response.map(ResponseBody::original)));
        }
        if facts.has_ambiguous_tag {
            set_tag(response.headers_mut(), Variant::Identity);
        }
        Poll::Ready(Ok(response.map(ResponseBody::original)))
    }
}
