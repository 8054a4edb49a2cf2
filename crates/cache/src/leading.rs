//! A request that others wait for, until its answer is here.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::Body;

use crate::body::ResponseBody;
use crate::exchange::Exchange;
use crate::fetch::Fetch;

/// Should its client go away, a task takes it over for those who wait; hence the box, which can be handed on.
pub(crate) struct Leading<O> {
    asked: Option<(Asking<O>, Box<Fetch>)>,
    take_over: fn(Asking<O>, Box<Fetch>),
}

/// The exchange with the origin.
pub(crate) type Asking<O> = Pin<Box<dyn Future<Output = O> + Send>>;

impl<B, E> Leading<Result<Response<B>, E>>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    pub(crate) fn new(inner: Asking<Result<Response<B>, E>>, fetch: Box<Fetch>) -> Self
    where
        E: Send + 'static,
    {
        Self { asked: Some((inner, fetch)), take_over: take_over::<B, E> }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<ResponseBody<B>>, E>> {
        let Some((inner, _)) = &mut self.asked else {
            return Poll::Pending;
        };
        let outcome = ready!(inner.as_mut().poll(cx));
        match self.asked.take() {
            Some((_, fetch)) => Poll::Ready(Exchange::Fetch(fetch).finish(outcome)),
            None => Poll::Pending,
        }
    }
}

impl<O> Drop for Leading<O> {
    fn drop(&mut self) {
        // A future that panicked can't be polled again: each follower sends its own request.
        if let Some((inner, fetch)) = self.asked.take()
            && !std::thread::panicking()
            && fetch.lead.as_ref().is_some_and(|lead| lead.is_awaited())
        {
            (self.take_over)(inner, fetch);
        }
    }
}

fn take_over<B, E>(inner: Asking<Result<Response<B>, E>>, fetch: Box<Fetch>)
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
    E: Send + 'static,
{
    if let Some(runtime) = fetch.lead.as_ref().map(|lead| lead.runtime().clone()) {
        runtime.spawn(async move {
            let outcome = inner.await;
            // Those who wait move the body on themselves, and so this one ends here.
            let _ = Exchange::Fetch(fetch).finish(outcome);
        });
    }
}

/// Reads a body to its end, if it is being copied.
pub(crate) async fn read_to_end<B>(body: ResponseBody<B>)
where
    B: Body<Data = Bytes>,
    B::Error: Send + 'static,
{
    let mut body = pin!(body);
    while body.is_copied() {
        match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break,
        }
    }
}
