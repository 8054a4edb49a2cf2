//! The response future of the layers that may have to wait for their decision.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use rproxy_core::{Authenticated, EitherBody};
use tower_service::Service;

/// The decision about a request. `R` is the body of the response to a request that is not admitted.
pub(crate) enum Decision<R> {
    Admit(Admission),
    Respond(Response<R>),
}

/// The changes to a request that is admitted, and to its response.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    pub(crate) authenticated: Authenticated,
    /// The fields that are added to the request. Spoofed ones have been removed before.
    pub(crate) request_fields: HeaderMap,
    /// The values of `Set-Cookie` that are added to the response.
    pub(crate) cookies: Vec<HeaderValue>,
}

impl Admission {
    fn apply_to_request<B>(&mut self, request: &mut Request<B>) {
        request.headers_mut().extend(std::mem::take(&mut self.request_fields));
        request.extensions_mut().insert(self.authenticated.clone());
    }

    fn apply_to_response<B>(self, response: &mut Response<B>) {
        for cookie in self.cookies {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        response.extensions_mut().insert(self.authenticated);
    }
}

/// A decision that takes time.
// Boxed: beside a slow hash or an exchange over the network, the allocation costs nothing.
pub(crate) type PendingDecision<R> = Pin<Box<dyn Future<Output = Decision<R>> + Send>>;

pin_project! {
    /// The response future of the layers that authenticate clients.
    #[must_use = "futures do nothing unless polled"]
    pub struct DecisionFuture<S, B, R>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B, R, S::Future>,
    }
}

pin_project! {
    #[project = StateProject]
    enum State<S, B, R, F> {
        Deciding { call: Option<Box<PendingCall<S, B, R>>> },
        Inner { #[pin] future: F, admission: Option<Box<Admission>> },
        Response { response: Option<Box<Response<R>>> },
    }
}

struct PendingCall<S, B, R> {
    decision: PendingDecision<R>,
    /// The instance of the inner service whose `poll_ready` returned ready.
    inner: S,
    request: Request<B>,
}

impl<S, B, R> DecisionFuture<S, B, R>
where
    S: Service<Request<B>>,
{
    /// Creates a future that waits for the decision. `inner` must be ready.
    pub(crate) fn pending(decision: PendingDecision<R>, inner: S, request: Request<B>) -> Self {
        Self { state: State::Deciding { call: Some(Box::new(PendingCall { decision, inner, request })) } }
    }

    pub(crate) fn decided(decision: Decision<R>, inner: &mut S, request: Request<B>) -> Self {
        Self { state: State::decided(decision, inner, request) }
    }
}

impl<S, B, R> State<S, B, R, S::Future>
where
    S: Service<Request<B>>,
{
    fn decided(decision: Decision<R>, inner: &mut S, mut request: Request<B>) -> Self {
        match decision {
            Decision::Admit(mut admission) => {
                admission.apply_to_request(&mut request);
                Self::Inner { future: inner.call(request), admission: Some(Box::new(admission)) }
            }
            Decision::Respond(response) => Self::Response { response: Some(Box::new(response)) },
        }
    }
}

impl<S, B, R, T> Future for DecisionFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<T>>,
{
    type Output = Result<Response<EitherBody<T, R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProject::Deciding { call } => {
                    let decision = match call {
                        Some(call) => ready!(call.decision.as_mut().poll(cx)),
                        None => return Poll::Pending,
                    };
                    let Some(call) = call.take() else { return Poll::Pending };
                    let PendingCall { mut inner, request, .. } = *call;
                    this.state.set(State::decided(decision, &mut inner, request));
                }
                StateProject::Inner { future, admission } => {
                    let mut response = ready!(future.poll(cx))?;
                    if let Some(admission) = admission.take() {
                        admission.apply_to_response(&mut response);
                    }
                    return Poll::Ready(Ok(response.map(EitherBody::left)));
                }
                StateProject::Response { response } => {
                    return match response.take() {
                        Some(response) => Poll::Ready(Ok(response.map(EitherBody::right))),
                        None => Poll::Pending, // Polled again after it completed.
                    };
                }
            }
        }
    }
}

impl<S, B, R> fmt::Debug for DecisionFuture<S, B, R>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecisionFuture").finish_non_exhaustive()
    }
}
