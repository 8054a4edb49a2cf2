//! A service that sends the files that the inner service names.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName, Request, Response};
use rproxy_core::spelling::is_spelling_of;
use tower_service::Service;

use super::future::{SendFileContext, SendFileFuture};
use super::named_file::Settings;
use super::response::RequestContext;
use crate::body::ResponseBody;

/// The fields that only a trusted proxy may send to the inner service. Rack sends files by the last two.
const FIELDS: [&str; 4] = ["x-accel-redirect", "x-sendfile", "x-sendfile-type", "x-accel-mapping"];

/// A service that sends the files that the inner service names, see [`SendFileLayer`](crate::SendFileLayer).
#[derive(Clone, Debug)]
pub struct SendFileService<S> {
    inner: S,
    settings: Option<Arc<Settings>>,
}

impl<S> SendFileService<S> {
    pub(super) fn new(inner: S, settings: Option<Arc<Settings>>) -> Self {
        Self { inner, settings }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SendFileService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = SendFileFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let context = self.settings.as_ref().map(|settings| {
            remove_fields(request.headers_mut());
            SendFileContext { request: RequestContext::new(&request), settings: Arc::clone(settings) }
        });
        SendFileFuture::new(self.inner.call(request), context.map(Box::new))
    }
}

/// Removes the fields of the client, in all spellings that the inner service can treat as the same.
fn remove_fields(headers: &mut HeaderMap) {
    let is_removed = |name: &&HeaderName| {
        name.as_str().starts_with('x') && FIELDS.iter().any(|field| is_spelling_of(name.as_str(), field))
    };
    let names: Vec<HeaderName> = headers.keys().filter(is_removed).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}
