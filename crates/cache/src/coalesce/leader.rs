//! The future of the leader in request coalescing.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::Body;

use crate::body::ResponseBody;
use crate::fetch::Fetch;

/// A future that waits for the inner service's response on behalf of the leader and its followers.
///
/// If the client leaves while followers wait, a background task continues. That is why the inner future is boxed.
pub(crate) struct LeaderFuture<O> {
    pending: Option<(BoxedExchange<O>, Box<Fetch>)>,
    continue_in_background: fn(BoxedExchange<O>, Box<Fetch>),
}

/// The boxed response future of the inner service.
pub(crate) type BoxedExchange<O> = Pin<Box<dyn Future<Output = O> + Send>>;

impl<B, E> LeaderFuture<Result<Response<B>, E>>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    pub(crate) fn new(inner: BoxedExchange<Result<Response<B>, E>>, fetch: Box<Fetch>) -> Self
    where
        E: Send + 'static,
    {
        Self { pending: Some((inner, fetch)), continue_in_background: continue_in_background::<B, E> }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<ResponseBody<B>>, E>> {
        let Some((inner, _)) = &mut self.pending else {
            return Poll::Pending;
        };
        let outcome = ready!(inner.as_mut().poll(cx));
        match self.pending.take() {
            Some((_, fetch)) => Poll::Ready(fetch.finish(outcome)),
            None => Poll::Pending,
        }
    }
}

impl<O> Drop for LeaderFuture<O> {
    fn drop(&mut self) {
        // A future that panicked cannot be polled again. Each follower then sends its own request.
        if let Some((inner, fetch)) = self.pending.take()
            && !std::thread::panicking()
            && fetch.leader.as_ref().is_some_and(|leader| leader.has_followers())
        {
            (self.continue_in_background)(inner, fetch);
        }
    }
}

fn continue_in_background<B, E>(inner: BoxedExchange<Result<Response<B>, E>>, fetch: Box<Fetch>)
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
    E: Send + 'static,
{
    if let Some(runtime) = fetch.leader.as_ref().map(|leader| leader.runtime().clone()) {
        runtime.spawn(async move {
            let outcome = inner.await;
            // The followers poll the body, so the task ends here.
            let _ = fetch.finish(outcome);
        });
    }
}
