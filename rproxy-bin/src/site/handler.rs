//! The innermost service of a site, which serves files, and forwards, redirects or rejects requests.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use rproxy_router::request_host;
use rproxy_server::TlsInfo;
use rproxy_static_files::{
    IndexWithoutRedirect, ResponseBody as FileBody, ResponseFuture as FileFuture, SendFileFuture, SendFileLayer,
    SendFileService, StaticFilesLayer,
};
use rproxy_target_rules::{RewrittenPath, TrailingSlash};
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use crate::config::Shared;
use crate::demo;
use crate::layers::RoutingSettings;
use crate::observe::Notices;
use crate::path_prefix::without_prefix;
use crate::redirect::{ambiguous_path, permanent, respond, unknown_host};
use crate::values::redirect::RedirectTarget;

/// The action on requests that pass all layers of a site.
#[derive(Clone, Debug)]
pub(crate) enum Handler {
    /// Forwards requests to a backend, after stripping the prefix of these settings from the path.
    Forward(Shared<RoutingSettings>),
    /// Serves files, and forwards other requests to a backend.
    Files(Arc<Files>),
    /// Forwards requests to the demo site, and adds the TLS session that the site shows.
    ForwardToDemo,
    /// Redirects requests to another URL.
    Redirect(Arc<RedirectTarget>),
    /// Rejects requests for unknown hosts or with ambiguous paths.
    Reject(Notices),
}

/// The files of a site or route. It is behind one pointer, so that sites without files take no more memory.
#[derive(Debug)]
pub(crate) struct Files {
    /// Their prefix is removed from the path before a file is looked up.
    pub(crate) routing: Shared<RoutingSettings>,
    /// The files of the root come first.
    pub(crate) static_files: StaticFilesLayer,
    /// The files that the backend names.
    pub(crate) send_file: SendFileLayer,
}

/// Request extension: the path is ambiguous and matches different routes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AmbiguousPath;

/// Request header field with the prefix that was stripped from the path.
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// The service that applies a [`Handler`], around the service of the backends.
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
    S: Service<Request<B>, Response = Response<R>, Error = Infallible> + Clone,
{
    type Response = Response<ResponseBody<R>>;
    type Error = Infallible;
    type Future = ResponseFuture<S, B, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let response = match &self.handler {
            Handler::Forward(routing) => match remove_prefix(&mut request, routing) {
                true => return ResponseFuture::Forwarded { future: self.inner.call(request) },
                false => respond(ambiguous_path()),
            },
            Handler::Files(files) => {
                if remove_prefix(&mut request, &files.routing) {
                    // A redirect would show the rewritten path, or the slash would be removed again.
                    let is_rewritten = request.extensions().get::<RewrittenPath>().is_some();
                    if is_rewritten || files.routing.trailing_slash == TrailingSlash::Remove {
                        request.extensions_mut().insert(IndexWithoutRedirect);
                    }
                    // Only this instance is known to be ready: it makes the call, and its clone stays behind.
                    let clone = self.inner.clone();
                    let ready = std::mem::replace(&mut self.inner, clone);
                    let mut service = files.static_files.layer(files.send_file.layer(ready));
                    return ResponseFuture::Files { future: Box::pin(service.call(request)) };
                }
                respond(ambiguous_path())
            }
            Handler::ForwardToDemo => {
                demo::add_tls_fields(&mut request);
                return ResponseFuture::Forwarded { future: self.inner.call(request) };
            }
            Handler::Redirect(target) => redirect(&request, target),
            Handler::Reject(_) if request.extensions().get::<AmbiguousPath>().is_some() => respond(ambiguous_path()),
            // RFC 9110 §15.5.20: over TLS, the client may retry on another connection.
            Handler::Reject(notices) => {
                let rejection = unknown_host(match request.extensions().get::<TlsInfo>() {
                    Some(_) => StatusCode::MISDIRECTED_REQUEST,
                    None => StatusCode::NOT_FOUND,
                });
                notices.unserved_host(&request_host(&request), &rejection);
                respond(rejection)
            }
        };
        ResponseFuture::Answered { response: Some(response) }
    }
}

/// Removes the prefix of these settings from the path, if there is one. Returns false if servers decode the spelling of the
/// prefix differently.
fn remove_prefix<B>(request: &mut Request<B>, routing: &RoutingSettings) -> bool {
    let Some(prefix) = &routing.strip_prefix else { return true };
    let Some(uri) = without_prefix(request.uri(), prefix) else { return false };
    *request.uri_mut() = uri;
    if let Ok(prefix) = HeaderValue::from_str(prefix) {
        request.headers_mut().insert(X_FORWARDED_PREFIX, prefix);
    }
    true
}

fn redirect<B>(request: &Request<B>, target: &RedirectTarget) -> Response<&'static str> {
    let path_and_query = request.uri().path_and_query().map_or("/", |target| target.as_str());
    // All bytes of a request target are valid in a field value.
    match HeaderValue::try_from(target.location(path_and_query)) {
        Ok(location) => permanent(request.method(), location),
        Err(_) => respond(ambiguous_path()),
    }
}

pin_project! {
    /// The response body of a backend or a file, or the text of a redirect or rejection.
    ///
    /// `Either<B, Full<Bytes>>` would make every response larger: this text fits into the unused space of other bodies.
    #[project = ResponseBodyProjection]
    pub(crate) enum ResponseBody<B> {
        Backend { #[pin] body: FileBody<FileBody<B>> },
        Text { text: &'static str },
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project() {
            ResponseBodyProjection::Backend { body } => body.poll_frame(cx),
            ResponseBodyProjection::Text { text } => {
                let text = std::mem::take(text);
                Poll::Ready((!text.is_empty()).then(|| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Backend { body } => body.is_end_stream(),
            Self::Text { text } => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Backend { body } => body.size_hint(),
            Self::Text { text } => SizeHint::with_exact(text.len() as u64),
        }
    }
}

pin_project! {
    /// The response future of [`HandlerService`].
    #[project = ResponseFutureProjection]
    pub(crate) enum ResponseFuture<S, B, F> {
        Forwarded { #[pin] future: F },
        // On the heap, so that the futures of sites without files are not larger.
        Files { future: Pin<Box<FileFuture<SendFileService<S>, B, SendFileFuture<F>>>> },
        Answered { response: Option<Response<&'static str>> },
    }
}

impl<S, B, R> Future for ResponseFuture<S, B, S::Future>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
{
    type Output = Result<Response<ResponseBody<R>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            ResponseFutureProjection::Forwarded { future } => {
                let Ok(response) = ready!(future.poll(cx));
                let wrapped = |body| ResponseBody::Backend { body: FileBody::new(FileBody::new(body)) };
                Poll::Ready(Ok(response.map(wrapped)))
            }
            ResponseFutureProjection::Files { future } => {
                let Ok(response) = ready!(future.as_mut().poll(cx));
                Poll::Ready(Ok(response.map(|body| ResponseBody::Backend { body })))
            }
            ResponseFutureProjection::Answered { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response.map(|text| ResponseBody::Text { text }))),
                None => Poll::Pending,
            },
        }
    }
}
