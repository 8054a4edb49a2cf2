//! The answer: the inner one, or a refusal.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::body::RateLimitBody;
use crate::decision::RateLimitDecision;
use crate::in_flight::Permit;
use crate::limiter::Limiter;
use crate::policies::{Said, Verdict};
use crate::question::Question;

pin_project! {
    /// The future of [`RateLimitService`](crate::RateLimitService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        state: State<S, R, S::Future>,
        report: Report,
    }
}

pin_project! {
    #[project = StateProject]
    enum State<S, R, F> {
        Called { #[pin] inner: F },
        Refused,
        // Where a store is asked, there is a way over a network to go: a box is nothing beside it, and everybody else's
        // future is the smaller for it. `None` once it has been answered.
        Asking { asking: Option<Box<Asking<S, R>>> },
    }
}

struct Asking<S, R> {
    question: Question,
    /// The one that was ready.
    inner: S,
    request: R,
    shadow: bool,
}

/// What there is to tell of the request when it is answered.
#[derive(Default)]
struct Report {
    decision: Option<RateLimitDecision>,
    // `None`: the client is told nothing.
    limiter: Option<Arc<Limiter>>,
    // Where there are several.
    each: Option<Box<[Said]>>,
    permit: Option<Box<Permit>>,
}

impl<S, R> ResponseFuture<S, R>
where
    S: Service<R>,
{
    pub(crate) fn unlimited(inner: S::Future) -> Self {
        Self { state: State::Called { inner }, report: Report::default() }
    }

    pub(crate) fn allowed(inner: S::Future, verdict: Verdict, shadow: bool) -> Self {
        Self { state: State::Called { inner }, report: Report::new(verdict, shadow) }
    }

    pub(crate) fn refused(verdict: Verdict) -> Self {
        Self { state: State::Refused, report: Report::new(verdict, false) }
    }

    /// `inner` is the service that was ready.
    pub(crate) fn asking(question: Question, inner: S, request: R, shadow: bool) -> Self {
        let asking = Some(Box::new(Asking { question, inner, request, shadow }));
        Self { state: State::Asking { asking }, report: Report::default() }
    }
}

impl<S, R> fmt::Debug for ResponseFuture<S, R>
where
    S: Service<R>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<S, R, B> Future for ResponseFuture<S, R>
where
    S: Service<R, Response = Response<B>>,
{
    type Output = Result<Response<RateLimitBody<B>>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let mut response = match this.state.as_mut().project() {
                StateProject::Called { inner } => {
                    ready!(inner.poll(cx))?.map(|body| RateLimitBody::new(body, this.report.permit.take()))
                }
                StateProject::Refused => refusal(this.report.decision),
                StateProject::Asking { asking } => {
                    let verdict = match asking {
                        Some(asking) => ready!(asking.question.poll(cx)),
                        None => None,
                    };
                    let (Some(verdict), Some(asking)) = (verdict, asking.take()) else {
                        return Poll::Pending; // Polled after it was ready.
                    };
                    let Asking { mut inner, request, shadow, .. } = *asking;
                    let refuses = verdict.decision.refuses() && !shadow;
                    *this.report = Report::new(verdict, shadow);
                    this.state.set(match refuses {
                        true => State::Refused,
                        false => State::Called { inner: inner.call(request) },
                    });
                    continue;
                }
            };
            this.report.tell(&mut response);
            return Poll::Ready(Ok(response));
        }
    }
}

impl Report {
    fn new(Verdict { decision, each, limiter, permit }: Verdict, shadow: bool) -> Self {
        match shadow {
            true => Self { decision: Some(decision.shadowed()), limiter: None, each: None, permit },
            false => Self { decision: Some(decision), limiter: Some(limiter), each, permit },
        }
    }

    fn tell<B>(&mut self, response: &mut Response<B>) {
        let Some(decision) = self.decision.take() else { return };
        if let Some(limiter) = self.limiter.take() {
            self.tell_client(&limiter, &decision, response.headers_mut());
        }
        response.extensions_mut().insert(decision);
    }

    fn tell_client(&mut self, limiter: &Limiter, decision: &RateLimitDecision, headers: &mut HeaderMap) {
        match self.each.take() {
            None => limiter.tell(decision, headers),
            Some(each) => {
                each.iter().for_each(|(limiter, decision)| limiter.tell(decision, headers));
                // One of them may have written a shorter one.
                limiter.tell_retry_after(decision, headers);
            }
        }
        limiter.tell_legacy(decision, headers);
    }
}

fn refusal<B>(decision: Option<RateLimitDecision>) -> Response<RateLimitBody<B>> {
    let (status, text) = match decision {
        // What is missing in the program is in the decision; the client can't do anything about it.
        Some(RateLimitDecision::Unkeyed(_)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error: nobody to count this request for\n")
        }
        Some(RateLimitDecision::StoreUnavailable) => (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n"),
        _ => (StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n"),
    };
    let mut response = Response::new(RateLimitBody::refusal(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
