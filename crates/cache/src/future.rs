//! The answer: from the store at once, from the inner service when it comes, or from what comes for another request.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use crate::body::ResponseBody;
use crate::cache_status::{CacheStatus, tell_key};
use crate::exchange::Exchange;
use crate::fetch::Fetch;
use crate::follower::{Outcome, Waiting};
use crate::key::Key;
use crate::leading::{Asking, Leading};
use crate::resource::Resource;

pin_project! {
    /// The future of [`CacheService`](crate::CacheService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, B>
    where
        F: Future,
    {
        #[pin]
        kind: Kind<F, B>,
        // To be told in `Cache-Status`.
        key: Option<Key>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<F, B>
    where
        F: Future,
    {
        // Boxed, as all the layers further out move the room for it, whatever becomes of a request.
        Ready { response: Option<Box<Response<ResponseBody<B>>>> },
        Forward { #[pin] inner: F, exchange: Option<Exchange> },
        Lead { leading: Leading<F::Output> },
        Wait { waiting: Box<Waiting<F>> },
        Load { behind: Box<Behind<F, B>> },
    }
}

/// What the tier behind memory is asked for.
pub(crate) type Loading = Pin<Box<dyn Future<Output = Option<Arc<Resource>>> + Send>>;

/// Waits for the tier behind memory; boxed, which spares the futures of all other requests the room for it.
struct Behind<F: Future, B> {
    loading: Loading,
    then: Option<Box<Then<F, B>>>,
}

type Then<F, B> = dyn FnOnce(Option<Arc<Resource>>) -> ResponseFuture<F, B> + Send;

impl<F: Future, B> ResponseFuture<F, B> {
    pub(crate) fn ready(response: Response<ResponseBody<B>>) -> Self {
        Self { kind: Kind::Ready { response: Some(Box::new(response)) }, key: None }
    }

    pub(crate) fn forward(inner: F, exchange: Exchange) -> Self {
        Self { kind: Kind::Forward { inner, exchange: Some(exchange) }, key: None }
    }

    pub(crate) fn lead<E>(inner: Asking<F::Output>, fetch: Box<Fetch>) -> Self
    where
        F: Future<Output = Result<Response<B>, E>>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
        E: Send + 'static,
    {
        Self { kind: Kind::Lead { leading: Leading::new(inner, fetch) }, key: None }
    }

    pub(crate) fn wait(waiting: Box<Waiting<F>>) -> Self {
        Self { kind: Kind::Wait { waiting }, key: None }
    }

    pub(crate) fn load(loading: Loading, then: impl FnOnce(Option<Arc<Resource>>) -> Self + Send + 'static) -> Self {
        let behind = Box::new(Behind { loading, then: Some(Box::new(then)) });
        Self { kind: Kind::Load { behind }, key: None }
    }

    pub(crate) fn tell(&mut self, key: Option<Key>) {
        self.key = key;
    }
}

impl<F: Future, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = loop {
            match self.as_mut().project().kind.project() {
                // Polled again after its end, it waits for ever, as a future may.
                KindProjection::Ready { response } => match response.take() {
                    Some(response) => break Ok(*response),
                    None => return Poll::Pending,
                },
                KindProjection::Forward { inner, exchange } => {
                    let outcome = ready!(inner.poll(cx));
                    break exchange.take().unwrap_or(Exchange::Untouched).finish(outcome);
                }
                KindProjection::Lead { leading } => break ready!(leading.poll(cx)),
                KindProjection::Load { behind } => {
                    let loaded = ready!(behind.loading.as_mut().poll(cx));
                    let Some(then) = behind.then.take() else { return Poll::Pending };
                    let next = then(loaded);
                    self.as_mut().project().kind.set(next.kind);
                }
                KindProjection::Wait { waiting } => match ready!(waiting.poll(cx)) {
                    Outcome::Answered(response) => break Ok(*response),
                    Outcome::Alone(inner, fetch) => {
                        self.as_mut()
                            .project()
                            .kind
                            .set(Kind::Forward { inner, exchange: Some(Exchange::Fetch(fetch)) });
                    }
                },
            }
        };
        Poll::Ready(outcome.map(|mut response| {
            // Without it there is no member of ours.
            if let Some(key) = &self.key
                && response.extensions().get::<CacheStatus>().is_some()
            {
                tell_key(response.headers_mut(), key.as_str());
            }
            response
        }))
    }
}
