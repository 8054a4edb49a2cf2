//! A layer that a setting can disable.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::EitherBody;

/// A layer that can be absent, such as one that a setting disables.
///
/// `tower::util::option_layer` requires that a service has the same response type with and without the layer. Most layers
/// for HTTP change the type of the response body. This layer combines both types in an [`EitherBody`].
///
/// ```
/// use http::{Request, Response};
/// use rproxy_core::{OptionalLayer, ResponseBody};
/// use tower::{ServiceBuilder, service_fn};
/// # use std::convert::Infallible;
/// # type Body = http_body_util::Full<bytes::Bytes>;
/// # let app = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::from("hello"))));
/// # let greeting = tower::util::MapResponseLayer::new(|response: Response<Body>| response.map(ResponseBody::inner));
///
/// let is_enabled = std::env::var_os("GREETING").is_some();
/// let service = ServiceBuilder::new().layer(OptionalLayer::new(is_enabled.then_some(greeting))).service(app);
/// # async fn check(mut service: impl tower::Service<Request<Body>>) { let _ = service.call(Request::default()).await; }
/// # let _ = check(service);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct OptionalLayer<L> {
    layer: Option<L>,
}

impl<L> OptionalLayer<L> {
    /// Creates a layer that applies `layer`, or nothing if it is `None`.
    pub const fn new(layer: Option<L>) -> Self {
        Self { layer }
    }
}

impl<L: Layer<S>, S> Layer<S> for OptionalLayer<L> {
    type Service = OptionalService<L::Service, S>;

    fn layer(&self, inner: S) -> Self::Service {
        let kind = match &self.layer {
            Some(layer) => Kind::With(layer.layer(inner)),
            None => Kind::Without(inner),
        };
        OptionalService { kind }
    }
}

/// The service of an [`OptionalLayer`].
#[derive(Clone, Debug)]
pub struct OptionalService<A, B> {
    kind: Kind<A, B>,
}

#[derive(Clone, Debug)]
enum Kind<A, B> {
    With(A),
    Without(B),
}

impl<A, B, R, BodyA, BodyB> Service<R> for OptionalService<A, B>
where
    A: Service<R, Response = Response<BodyA>>,
    B: Service<R, Response = Response<BodyB>, Error = A::Error>,
{
    type Response = Response<EitherBody<BodyA, BodyB>>;
    type Error = A::Error;
    type Future = OptionalFuture<A::Future, B::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match &mut self.kind {
            Kind::With(service) => service.poll_ready(cx),
            Kind::Without(service) => service.poll_ready(cx),
        }
    }

    fn call(&mut self, request: R) -> Self::Future {
        let state = match &mut self.kind {
            Kind::With(service) => State::With { future: service.call(request) },
            Kind::Without(service) => State::Without { future: service.call(request) },
        };
        OptionalFuture { state }
    }
}

pin_project! {
    /// The response future of an [`OptionalService`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct OptionalFuture<A, B> {
        #[pin]
        state: State<A, B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProject]
    enum State<A, B> {
        With { #[pin] future: A },
        Without { #[pin] future: B },
    }
}

impl<A, B, BodyA, BodyB, E> Future for OptionalFuture<A, B>
where
    A: Future<Output = Result<Response<BodyA>, E>>,
    B: Future<Output = Result<Response<BodyB>, E>>,
{
    type Output = Result<Response<EitherBody<BodyA, BodyB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().state.project() {
            StateProject::With { future } => ready!(future.poll(cx)).map(|response| response.map(EitherBody::left)),
            StateProject::Without { future } => ready!(future.poll(cx)).map(|response| response.map(EitherBody::right)),
        })
    }
}
