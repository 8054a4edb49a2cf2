//! The response future of the router.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use rproxy_core::{ProxyErrorType, Rejection, ResponseBody};
use tower_service::Service;

use crate::router::RouteMatch;

pin_project! {
    /// The response future of [`Router`](crate::Router).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, ReqBody>
    where
        S: Service<Request<ReqBody>>,
    {
        found: Option<RouteMatch>,
        #[pin]
        state: State<S, ReqBody, S::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, ReqBody, F> {
        /// Waits until the service of the route is ready.
        Ready { service: S, request: Option<Request<ReqBody>> },
        Called { #[pin] future: F },
        Rejected { reason: RejectedRoute },
    }
}

impl<S, ReqBody> ResponseFuture<S, ReqBody>
where
    S: Service<Request<ReqBody>>,
{
    pub(crate) fn forwarded(service: S, request: Request<ReqBody>, found: RouteMatch) -> Self {
        Self { found: Some(found), state: State::Ready { service, request: Some(request) } }
    }

    pub(crate) fn rejected(reason: RejectedRoute) -> Self {
        Self { found: None, state: State::Rejected { reason } }
    }
}

/// The reason why a request has no route.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RejectedRoute {
    UnknownHost,
    AmbiguousPath,
}

impl RejectedRoute {
    fn response<B>(self) -> Response<ResponseBody<B>> {
        let (reason, status, text) = match self {
            Self::UnknownHost => ("unknown_host", StatusCode::NOT_FOUND, "unknown host\n"),
            Self::AmbiguousPath => ("ambiguous_path", StatusCode::BAD_REQUEST, "ambiguous path\n"),
        };
        Rejection::new("router", reason, status)
            .with_error_type(ProxyErrorType::HttpRequestError)
            .into_response(ResponseBody::full(text))
    }
}

impl<S, ReqBody, ResBody> Future for ResponseFuture<S, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Output = Result<Response<ResponseBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Ready { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    let Some(request) = request.take() else { return Poll::Pending };
                    let future = service.call(request);
                    this.state.set(State::Called { future });
                }
                StateProjection::Called { future } => {
                    let mut response = ready!(future.poll(cx))?;
                    if let Some(found) = this.found.take() {
                        response.extensions_mut().insert(found);
                    }
                    return Poll::Ready(Ok(response.map(ResponseBody::inner)));
                }
                StateProjection::Rejected { reason } => return Poll::Ready(Ok(reason.response())),
            }
        }
    }
}
