//! The response future of [`RateLimitService`](crate::RateLimitService).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Response, StatusCode};
use pin_project_lite::pin_project;
use rproxy_core::Rejection;
use tower_service::Service;

use crate::body::ResponseBody;
use crate::decision::{DEFAULT_RETRY_AFTER, RateLimitDecision};
use crate::in_flight::Permit;
use crate::policies::Verdict;
use crate::store_check::StoreCheck;

pin_project! {
    /// The response future of [`RateLimitService`](crate::RateLimitService).
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
        Calling { #[pin] inner: F },
        Rejected,
        // Boxed to keep the future small for layers without a store; beside a network round trip, the allocation costs
        // nothing. `None` once the store has responded.
        Pending { pending: Option<Box<PendingCall<S, R>>> },
    }
}

/// A request that is forwarded to the inner service once the store allows the request.
struct PendingCall<S, R> {
    check: StoreCheck,
    /// The inner service instance whose `poll_ready` returned ready.
    inner: S,
    request: R,
    shadow: bool,
}

/// The rate limit data that is added to the response.
#[derive(Default)]
struct Report {
    // `None` if the request is not limited.
    verdict: Option<Verdict>,
    shadow: bool,
}

impl<S, R> ResponseFuture<S, R>
where
    S: Service<R>,
{
    pub(crate) fn unlimited(inner: S::Future) -> Self {
        Self { state: State::Calling { inner }, report: Report::default() }
    }

    pub(crate) fn forwarded(inner: S::Future, verdict: Verdict, shadow: bool) -> Self {
        Self { state: State::Calling { inner }, report: Report { verdict: Some(verdict), shadow } }
    }

    pub(crate) fn rejected(verdict: Verdict) -> Self {
        Self { state: State::Rejected, report: Report { verdict: Some(verdict), shadow: false } }
    }

    /// Creates a future that waits for the store, and then calls `inner`, which must be ready.
    pub(crate) fn pending(check: StoreCheck, inner: S, request: R, shadow: bool) -> Self {
        let pending = Some(Box::new(PendingCall { check, inner, request, shadow }));
        Self { state: State::Pending { pending }, report: Report::default() }
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
    type Output = Result<Response<ResponseBody<B>>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let response = match this.state.as_mut().project() {
                StateProject::Calling { inner } => {
                    ready!(inner.poll(cx))?.map(|body| ResponseBody::new(body, this.report.take_permit()))
                }
                StateProject::Rejected => rejection(this.report.verdict.as_ref().map(|verdict| verdict.decision)),
                StateProject::Pending { pending } => {
                    let verdict = match pending {
                        Some(pending) => ready!(pending.check.poll(cx)),
                        None => None,
                    };
                    let (Some(verdict), Some(pending)) = (verdict, pending.take()) else {
                        return Poll::Pending; // Polled again after it completed.
                    };
                    let PendingCall { mut inner, request, shadow, .. } = *pending;
                    let is_rejected = verdict.decision.is_rejection() && !shadow;
                    *this.report = Report { verdict: Some(verdict), shadow };
                    this.state.set(match is_rejected {
                        true => State::Rejected,
                        false => State::Calling { inner: inner.call(request) },
                    });
                    continue;
                }
            };
            return Poll::Ready(Ok(this.report.apply(response)));
        }
    }
}

impl Report {
    fn take_permit(&mut self) -> Option<Box<Permit>> {
        self.verdict.as_mut().and_then(|verdict| verdict.permit.take())
    }

    fn apply<B>(&mut self, response: Response<B>) -> Response<B> {
        let Some(mut verdict) = self.verdict.take() else { return response };
        let (mut head, body) = response.into_parts();
        verdict.refund_for(&head);
        head.extensions.insert(match self.shadow {
            true => verdict.decision.into_shadow(),
            false => {
                write_fields(&verdict, &mut head.headers);
                verdict.decision
            }
        });
        Response::from_parts(head, body)
    }
}

fn write_fields(verdict: &Verdict, headers: &mut HeaderMap) {
    let Verdict { decision, limiter, .. } = verdict;
    match &verdict.each_policy {
        None => limiter.write_fields(decision, headers),
        Some(each_policy) => {
            each_policy.iter().for_each(|(limiter, decision)| limiter.write_fields(decision, headers));
            // Another policy may have written a shorter wait.
            limiter.write_retry_after(decision, headers);
        }
    }
    limiter.write_legacy_fields(decision, headers);
}

fn rejection<B>(decision: Option<RateLimitDecision>) -> Response<ResponseBody<B>> {
    let new = |reason, status| Rejection::new("rate_limit", reason, status);
    let (rejection, text) = match decision {
        // The decision names the missing layer: it helps the program's author, but not the client.
        Some(RateLimitDecision::MissingKey(_)) => (
            new("unkeyed", StatusCode::INTERNAL_SERVER_ERROR),
            "Internal Server Error: the request has no rate limit key\n",
        ),
        Some(RateLimitDecision::FailedClosed) => (
            new("limiter_unavailable", StatusCode::SERVICE_UNAVAILABLE).with_retry_after(DEFAULT_RETRY_AFTER),
            "Service Unavailable\n",
        ),
        Some(RateLimitDecision::Rejected { retry_after }) => {
            (new("rate_limited", StatusCode::TOO_MANY_REQUESTS).with_retry_after(retry_after), "Too Many Requests\n")
        }
        _ => (
            new("rate_limited", StatusCode::TOO_MANY_REQUESTS)
                .with_cause("too_many_in_flight")
                .with_retry_after(DEFAULT_RETRY_AFTER),
            "Too Many Requests\n",
        ),
    };
    rejection.into_response(ResponseBody::rejection(text))
}
