//! A layer that a setting can disable.
//!
//! `tower::util::option_layer` requires the same response type with and without the layer; here the bodies differ.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body_util::Either;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// A layer that can be absent.
#[derive(Clone, Debug)]
pub(crate) struct OptionalLayer<L>(pub(crate) Option<L>);

impl<L: Layer<S>, S> Layer<S> for OptionalLayer<L> {
    type Service = OptionalService<L::Service, S>;

    fn layer(&self, inner: S) -> Self::Service {
        match &self.0 {
            Some(layer) => OptionalService::With(layer.layer(inner)),
            None => OptionalService::Without(inner),
        }
    }
}

/// A service, with or without the optional layer.
#[derive(Clone, Debug)]
pub(crate) enum OptionalService<A, B> {
    With(A),
    Without(B),
}

impl<A, B, R, BodyA, BodyB> Service<R> for OptionalService<A, B>
where
    A: Service<R, Response = Response<BodyA>>,
    B: Service<R, Response = Response<BodyB>, Error = A::Error>,
{
    type Response = Response<Either<BodyA, BodyB>>;
    type Error = A::Error;
    type Future = OptionalFuture<A::Future, B::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self {
            Self::With(service) => service.poll_ready(cx),
            Self::Without(service) => service.poll_ready(cx),
        }
    }

    fn call(&mut self, request: R) -> Self::Future {
        match self {
            Self::With(service) => OptionalFuture::With { future: service.call(request) },
            Self::Without(service) => OptionalFuture::Without { future: service.call(request) },
        }
    }
}

pin_project! {
    /// The response future of [`OptionalService`].
    #[project = OptionalFutureProject]
    pub(crate) enum OptionalFuture<A, B> {
        With { #[pin] future: A },
        Without { #[pin] future: B },
    }
}

impl<A, B, BodyA, BodyB, E> Future for OptionalFuture<A, B>
where
    A: Future<Output = Result<Response<BodyA>, E>>,
    B: Future<Output = Result<Response<BodyB>, E>>,
{
    type Output = Result<Response<Either<BodyA, BodyB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project() {
            OptionalFutureProject::With { future } => ready!(future.poll(cx)).map(|r| r.map(Either::Left)),
            OptionalFutureProject::Without { future } => ready!(future.poll(cx)).map(|r| r.map(Either::Right)),
        })
    }
}
