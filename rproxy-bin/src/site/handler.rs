//! The innermost service of a site: forwards, redirects or rejects.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;
use rproxy_server::TlsInfo;
use tower_service::Service;

use super::prefix::without_prefix;
use crate::error_response::ErrorReason;
use crate::values::redirect::RedirectTarget;

/// The action of a site on requests that pass its layers.
#[derive(Clone, Debug)]
pub(crate) enum Handler {
    /// Forwards them, with a prefix removed from their path.
    Forward { strip_prefix: Option<Arc<str>> },
    /// Redirects them.
    Redirect(Arc<RedirectTarget>),
    /// Rejects them, since no site has their host or their path is ambiguous.
    Reject,
}

/// Request extension: the path can take two routes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AmbiguousPath;

/// Request header field with the prefix that was removed from the path.
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// The service of a [`Handler`], around the service of the backends.
#[derive(Clone, Debug)]
pub(crate) struct HandlerService<S> {
    handler: Handler,
    inner: S,
}

impl<S> HandlerService<S> {
    pub(crate) fn new(handler: Handler, inner: S) -> Self {
        Self { handler, inner }
    }
}

impl<S, B, R> Service<Request<B>> for HandlerService<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
{
    type Response = Response<Either<R, Full<Bytes>>>;
    type Error = Infallible;
    type Future = OriginFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let response = match &self.handler {
            Handler::Forward { strip_prefix: None } => {
                return OriginFuture::Forwarded { future: self.inner.call(request) };
            }
            Handler::Forward { strip_prefix: Some(prefix) } => match without_prefix(request.uri(), prefix) {
                Some(uri) => {
                    *request.uri_mut() = uri;
                    if let Ok(prefix) = HeaderValue::from_str(prefix) {
                        request.headers_mut().insert(X_FORWARDED_PREFIX, prefix);
                    }
                    return OriginFuture::Forwarded { future: self.inner.call(request) };
                }
                // Servers decode the spelling of this prefix differently.
                None => rejection(StatusCode::BAD_REQUEST, ErrorReason::AmbiguousPath),
            },
            Handler::Redirect(target) => redirect(&request, target),
            Handler::Reject if request.extensions().get::<AmbiguousPath>().is_some() => {
                rejection(StatusCode::BAD_REQUEST, ErrorReason::AmbiguousPath)
            }
            // RFC 9110 §15.5.20: over TLS, the client may retry on another connection.
            Handler::Reject => match request.extensions().get::<TlsInfo>() {
                Some(_) => rejection(StatusCode::MISDIRECTED_REQUEST, ErrorReason::UnknownHost),
                None => rejection(StatusCode::NOT_FOUND, ErrorReason::UnknownHost),
            },
        };
        OriginFuture::Answered { response: Some(response) }
    }
}

fn redirect<B>(request: &Request<B>, target: &RedirectTarget) -> Response<Full<Bytes>> {
    // RFC 9110 §15.4.9: 308 keeps the method; old clients only support 301.
    let (status, body) = match *request.method() {
        Method::GET | Method::HEAD => (StatusCode::MOVED_PERMANENTLY, "Moved Permanently\n"),
        _ => (StatusCode::PERMANENT_REDIRECT, "Permanent Redirect\n"),
    };
    let path_and_query = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let mut response = text(status, body);
    // All bytes of a request target are valid in a field value.
    if let Ok(location) = HeaderValue::try_from(target.location(path_and_query)) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn rejection(status: StatusCode, reason: ErrorReason) -> Response<Full<Bytes>> {
    let mut response = text(
        status,
        match status {
            StatusCode::BAD_REQUEST => "Bad Request\n",
            StatusCode::MISDIRECTED_REQUEST => "Misdirected Request\n",
            _ => "Not Found\n",
        },
    );
    response.extensions_mut().insert(reason);
    response
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

pin_project! {
    /// The response future of [`HandlerService`].
    #[project = OriginFutureProjection]
    pub(crate) enum OriginFuture<F> {
        Forwarded { #[pin] future: F },
        Answered { response: Option<Response<Full<Bytes>>> },
    }
}

impl<F, R> Future for OriginFuture<F>
where
    F: Future<Output = Result<Response<R>, Infallible>>,
{
    type Output = Result<Response<Either<R, Full<Bytes>>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            OriginFutureProjection::Forwarded { future } => {
                let Ok(response) = ready!(future.poll(cx));
                Poll::Ready(Ok(response.map(Either::Left)))
            }
            OriginFutureProjection::Answered { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response.map(Either::Right))),
                None => Poll::Pending,
            },
        }
    }
}
