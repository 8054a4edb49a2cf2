//! The answer: the inner one, or a refusal.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Response, Version, header};
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;

use super::RequestRefusal;
use super::body::Progress;

pin_project! {
    /// The future of [`GuardService`](super::GuardService).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct GuardFuture<F> {
        version: Version,
        #[pin]
        stage: Stage<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StageProject]
    enum Stage<F> {
        Refused { refusal: RequestRefusal },
        Inner { #[pin] future: F, progress: Option<Progress> },
    }
}

impl<F> GuardFuture<F> {
    pub(super) fn refused(version: Version, refusal: RequestRefusal) -> Self {
        Self { version, stage: Stage::Refused { refusal } }
    }

    pub(super) fn inner(version: Version, future: F, progress: Option<Progress>) -> Self {
        Self { version, stage: Stage::Inner { future, progress } }
    }
}

impl<F, B, E> Future for GuardFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Either<B, Full<Bytes>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.stage.project() {
            StageProject::Refused { refusal } => Poll::Ready(Ok(refuse(*this.version, *refusal))),
            StageProject::Inner { future, progress } => {
                let response = ready!(future.poll(cx))?;
                // What the inner service made of a body that failed is not what the client did.
                Poll::Ready(Ok(match progress.as_ref().and_then(Progress::refusal) {
                    Some(refusal) => refuse(*this.version, refusal),
                    None => {
                        if let Some(progress) = progress {
                            progress.answered();
                        }
                        response.map(Either::Left)
                    }
                }))
            }
        }
    }
}

fn refuse<B>(version: Version, refusal: RequestRefusal) -> Response<Either<B, Full<Bytes>>> {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from_static(refusal.text().as_bytes()))));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if version < Version::HTTP_2 {
        // RFC 9112 §9.6: where the message's end is in doubt, so is the next one's beginning.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if refusal == RequestRefusal::Connect {
        // RFC 9110 §15.5.6, §10.2.1: a list of what may be sent instead is required.
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    response.extensions_mut().insert(refusal);
    response
}
