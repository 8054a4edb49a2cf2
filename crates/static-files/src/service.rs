//! A service that serves files.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request, Response};
use tower_service::Service;

use crate::beneath::Waiting;
use crate::body::ResponseBody;
use crate::future::ResponseFuture;
use crate::lookup::{Answer, Lookup, Settings};
use crate::rejection;

/// A service that serves files, see [`StaticFilesLayer`](crate::StaticFilesLayer).
#[derive(Clone, Debug)]
pub struct StaticFilesService<S> {
    inner: S,
    settings: Option<Arc<Settings>>,
}

impl<S> StaticFilesService<S> {
    pub(crate) fn new(inner: S, settings: Option<Arc<Settings>>) -> Self {
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

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for StaticFilesService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let Some(settings) = &self.settings else { return ResponseFuture::forward(self.inner.call(request)) };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return match settings.files_only {
                true => ResponseFuture::respond(rejection::method_not_allowed()),
                false => ResponseFuture::forward(self.inner.call(request)),
            };
        }
        let lookup = Lookup::new(&request, settings);
        // Names that are cached are looked up here: that takes less time than handing them to a thread.
        let answer = match &lookup {
            Some(lookup) => lookup.run(settings, Waiting::Never),
            None => Ok(Answer::Missing),
        };
        match (answer, lookup) {
            (Ok(Answer::Respond(response)), _) => ResponseFuture::respond(response),
            (Err(error), Some(lookup)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                // Only this instance is known to be ready: it makes the call, and its clone stays behind.
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                ResponseFuture::look_up(lookup, Arc::clone(settings), ready, request)
            }
            (Err(_), _) => ResponseFuture::respond(rejection::file_error()),
            (Ok(answer), lookup) => {
                let varies = lookup.is_some_and(|lookup| lookup.depends_on_accept());
                match settings.rejection(&answer, varies) {
                    Some(response) => ResponseFuture::respond(response),
                    None if varies => ResponseFuture::forward_varying(self.inner.call(request)),
                    None => ResponseFuture::forward(self.inner.call(request)),
                }
            }
        }
    }
}
