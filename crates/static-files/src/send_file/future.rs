//! The response future of the service that sends files.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::named_file::Settings;
use super::response::{RequestContext, Sending};
use crate::beneath::Waiting;
use crate::body::{FileBody, ResponseBody};
use crate::rejection::{NotSent, not_sent};

pin_project! {
    /// The response future of [`SendFileService`](crate::SendFileService).
    pub struct SendFileFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Waiting { #[pin] future: F, context: Option<Box<SendFileContext>> },
        Opening { thread: JoinHandle<Response<FileBody>> },
    }
}

/// The request, and the settings of a layer that sends files.
pub(super) struct SendFileContext {
    pub(super) request: RequestContext,
    pub(super) settings: Arc<Settings>,
}

impl<F> SendFileFuture<F> {
    /// Creates a future that sends no file without a context.
    pub(super) fn new(future: F, context: Option<Box<SendFileContext>>) -> Self {
        Self { state: State::Waiting { future, context } }
    }
}

impl<F, B, E> Future for SendFileFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut state = self.as_mut().project().state;
            let thread = match state.as_mut().project() {
                StateProjection::Opening { thread } => {
                    let response = ready!(Pin::new(thread).poll(cx)).unwrap_or_else(|_| not_sent(NotSent::Error));
                    return Poll::Ready(Ok(response.map(ResponseBody::file)));
                }
                StateProjection::Waiting { future, context } => {
                    let response = ready!(future.poll(cx))?;
                    let Some(context) = context.take() else {
                        return Poll::Ready(Ok(response.map(ResponseBody::new)));
                    };
                    let SendFileContext { request, settings } = *context;
                    let sending = match Sending::new(response, request, &settings) {
                        Err(response) => return Poll::Ready(Ok(response.map(ResponseBody::new))),
                        Ok(Err(reason)) => return Poll::Ready(Ok(not_sent(reason).map(ResponseBody::file))),
                        Ok(Ok(sending)) => sending,
                    };
                    let sending = match sending.run(&settings, Waiting::Never) {
                        Ok(response) => return Poll::Ready(Ok(response.map(ResponseBody::file))),
                        Err(sending) => sending,
                    };
                    // It does not have to wait for the second time.
                    let open = move || match sending.run(&settings, Waiting::Allowed) {
                        Ok(response) => response,
                        Err(_) => not_sent(NotSent::Error),
                    };
                    match Handle::try_current() {
                        Ok(runtime) => runtime.spawn_blocking(open),
                        Err(_) => return Poll::Ready(Ok(open().map(ResponseBody::file))),
                    }
                }
            };
            state.set(State::Opening { thread });
        }
    }
}
