//! The response future of the static files service.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{ACCEPT, VARY};
use http::{HeaderMap, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tower_service::Service;

use crate::beneath::Waiting;
use crate::body::{FileBody, ResponseBody};
use crate::lookup::{Answer, Lookup, Settings};
use crate::rejection;

pin_project! {
    /// The response future of [`StaticFilesService`](crate::StaticFilesService).
    pub struct ResponseFuture<S, B, F> {
        #[pin]
        state: State<S, B, F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B, F> {
        Responded { response: Option<Box<Response<FileBody>>> },
        Forwarded { #[pin] future: F, varies: bool },
        LookingUp { pending: Option<Box<Pending<S, B>>> },
    }
}

/// A request whose file is looked up in a thread, and the service that is called if there is none.
struct Pending<S, B> {
    thread: Thread,
    settings: Arc<Settings>,
    service: S,
    request: Request<B>,
    /// Whether the response of the service depends on `Accept`, because the fallback could have been sent instead.
    varies: bool,
}

enum Thread {
    Running(JoinHandle<io::Result<Answer>>),
    /// Outside of a runtime, the lookup is done at once.
    Done(Option<io::Result<Answer>>),
}

impl<S, B, F> ResponseFuture<S, B, F> {
    pub(crate) fn respond(response: Response<FileBody>) -> Self {
        Self { state: State::Responded { response: Some(Box::new(response)) } }
    }

    pub(crate) fn forward(future: F) -> Self {
        Self { state: State::Forwarded { future, varies: false } }
    }

    /// Forwards a request for which the fallback would be sent with another `Accept`.
    pub(crate) fn forward_varying(future: F) -> Self {
        Self { state: State::Forwarded { future, varies: true } }
    }

    /// Looks up a file in a thread of the runtime's pool for blocking operations.
    pub(crate) fn look_up(lookup: Lookup, settings: Arc<Settings>, service: S, request: Request<B>) -> Self {
        let varies = lookup.depends_on_accept();
        let thread = match Handle::try_current() {
            Ok(runtime) => {
                let settings = Arc::clone(&settings);
                Thread::Running(runtime.spawn_blocking(move || lookup.run(&settings, Waiting::Allowed)))
            }
            Err(_) => Thread::Done(Some(lookup.run(&settings, Waiting::Allowed))),
        };
        Self {
            state: State::LookingUp { pending: Some(Box::new(Pending { thread, settings, service, request, varies })) },
        }
    }
}

impl Thread {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Answer>> {
        match self {
            Self::Running(thread) => Pin::new(thread).poll(cx).map(|result| result.unwrap_or_else(failed)),
            Self::Done(answer) => answer.take().map_or(Poll::Pending, Poll::Ready),
        }
    }
}

fn failed(error: tokio::task::JoinError) -> io::Result<Answer> {
    Err(io::Error::other(error))
}

impl<S, B, R> Future for ResponseFuture<S, B, S::Future>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Output = Result<Response<ResponseBody<R>>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let state = match self.as_mut().project().state.project() {
                StateProjection::Forwarded { future, varies } => {
                    let mut response = ready!(future.poll(cx))?;
                    if *varies {
                        vary_by_accept(response.headers_mut());
                    }
                    return Poll::Ready(Ok(response.map(ResponseBody::new)));
                }
                StateProjection::Responded { response } => {
                    // A future is not polled again after it is ready.
                    let Some(response) = response.take() else { return Poll::Pending };
                    return Poll::Ready(Ok(response.map(ResponseBody::file)));
                }
                StateProjection::LookingUp { pending } => {
                    let Some(lookup) = pending else { return Poll::Pending };
                    let answer = ready!(lookup.thread.poll(cx));
                    let Some(done) = pending.take() else { return Poll::Pending };
                    let Pending { settings, mut service, request, varies, .. } = *done;
                    let response = match answer {
                        Ok(Answer::Respond(response)) => Some(response),
                        Ok(answer) => settings.rejection(&answer, varies),
                        Err(_) => Some(rejection::file_error()),
                    };
                    match response {
                        Some(response) => State::Responded { response: Some(Box::new(response)) },
                        None => State::Forwarded { future: service.call(request), varies },
                    }
                }
            };
            self.as_mut().project().state.set(state);
        }
    }
}

/// Adds `Accept` to `Vary` (RFC 9110 §12.5.5), so that caches do not send this response to browsers that would get the fallback.
fn vary_by_accept(headers: &mut HeaderMap) {
    let is_listed =
        |member: &[u8]| matches!(member.trim_ascii(), b"*") || member.trim_ascii().eq_ignore_ascii_case(b"accept");
    let mut values = headers.get_all(VARY).iter();
    if !values.any(|value| value.as_bytes().split(|&byte| byte == b',').any(is_listed)) {
        // A full map does not grow; only a hostile backend fills it.
        let _ = headers.try_append(VARY, HeaderValue::from_name(ACCEPT));
    }
}
