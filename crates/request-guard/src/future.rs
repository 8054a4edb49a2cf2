//! The response future of the request guard: the inner response or a rejection.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderValue, Response, Version, header};
use pin_project_lite::pin_project;
use rproxy_core::ResponseBody;

use crate::body::Progress;
use crate::rejection::RequestRejection;

pin_project! {
    /// The response future of [`RequestGuardService`](crate::RequestGuardService).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        version: Version,
        #[pin]
        stage: Stage<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StageProject]
    enum Stage<F> {
        Rejected { rejection: RequestRejection },
        Inner { #[pin] future: F, progress: Option<Progress> },
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn rejected(version: Version, rejection: RequestRejection) -> Self {
        Self { version, stage: Stage::Rejected { rejection } }
    }

    pub(crate) fn inner(version: Version, future: F, progress: Option<Progress>) -> Self {
        Self { version, stage: Stage::Inner { future, progress } }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.stage.project() {
            StageProject::Rejected { rejection } => Poll::Ready(Ok(reject(*this.version, *rejection))),
            StageProject::Inner { future, progress } => {
                let response = ready!(future.poll(cx))?;
                if let Some(progress) = progress {
                    // If the body failed, the client gets the reason, and not the response of the inner service to that.
                    if let Some(rejection) = progress.rejection() {
                        return Poll::Ready(Ok(reject(*this.version, rejection)));
                    }
                    progress.set_has_response();
                }
                Poll::Ready(Ok(response.map(ResponseBody::inner)))
            }
        }
    }
}

fn reject<B>(version: Version, rejection: RequestRejection) -> Response<ResponseBody<B>> {
    let mut response = rejection.rejection().into_response(ResponseBody::full(rejection.text()));
    let headers = response.headers_mut();
    if version < Version::HTTP_2 {
        // RFC 9112 §9.6: the end of the message, and so the start of the next one, may be unknown.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if rejection == RequestRejection::Connect {
        // RFC 9110 §15.5.6, §10.2.1: a 405 response must list the allowed methods.
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    response
}
