//! The response future of the static files service.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
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
        Forwarded { #[pin] future: F },
        LookingUp { pending: Option<Box<Pending<S, B>>> },
    }
}

/// A request whose file is looked up in a thread, and the service that is called if there is none.
struct Pending<S, B> {
    thread: Thread,
    settings: Arc<Settings>,
    service: S,
    request: Request<B>,
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
        Self { state: State::Forwarded { future } }
    }

    /// Looks up a file in a thread of the runtime's pool for blocking operations.
    pub(crate) fn look_up(lookup: Lookup, settings: Arc<Settings>, service: S, request: Request<B>) -> Self {
        let thread = match Handle::try_current() {
            Ok(runtime) => {
                let settings = Arc::clone(&settings);
                Thread::Running(runtime.spawn_blocking(move || lookup.run(&settings, Waiting::Allowed)))
            }
            Err(_) => Thread::Done(Some(lookup.run(&settings, Waiting::Allowed))),
        };
        Self { state: State::LookingUp { pending: Some(Box::new(Pending { thread, settings, service, request })) } }
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
                StateProjection::Forwarded { future } => {
                    return future.poll(cx).map_ok(|response| response.map(ResponseBody::new));
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
                    let Pending { settings, mut service, request, .. } = *done;
                    let response = match answer {
                        Ok(Answer::Respond(response)) => Some(response),
                        Ok(answer) => settings.rejection(&answer),
                        Err(_) => Some(rejection::file_error()),
                    };
                    match response {
                        Some(response) => State::Responded { response: Some(Box::new(response)) },
                        None => State::Forwarded { future: service.call(request) },
                    }
                }
            };
            self.as_mut().project().state.set(state);
        }
    }
}
