//! The response future of the cache service.

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
use crate::cache_status::{CacheStatus, append_key};
use crate::coalesce::follower::{FollowerFuture, Outcome};
use crate::coalesce::leader::{BoxedExchange, LeaderFuture};
use crate::exchange::Exchange;
use crate::fetch::Fetch;
use crate::key::CacheKey;
use crate::store::resource::Resource;

pin_project! {
    /// The response future of [`CacheService`](crate::CacheService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, B>
    where
        F: Future,
    {
        #[pin]
        kind: Kind<F, B>,
        // The key to report in `Cache-Status`.
        key: Option<CacheKey>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<F, B>
    where
        F: Future,
    {
        // Boxed, because all outer layers move this future, for every request.
        Ready { response: Option<Box<Response<ResponseBody<B>>>> },
        Forward { #[pin] inner: F, exchange: Option<Exchange> },
        Leader { future: LeaderFuture<F::Output> },
        Follower { future: Box<FollowerFuture<F>> },
        LoadFromTier { load: Box<TierLoad<F, B>> },
    }
}

/// A boxed future that reads a resource from the second-level store.
pub(crate) type TierLookup = Pin<Box<dyn Future<Output = Option<Arc<Resource>>> + Send>>;

/// A pending read from the second-level store, and the function that continues with its result.
struct TierLoad<F: Future, B> {
    lookup: TierLookup,
    then: Option<Box<Then<F, B>>>,
}

type Then<F, B> = dyn FnOnce(Option<Arc<Resource>>) -> ResponseFuture<F, B> + Send;

impl<F: Future, B> ResponseFuture<F, B> {
    /// Creates a response future that resolves immediately to `response`.
    pub(crate) fn ready(response: Response<ResponseBody<B>>) -> Self {
        Self { kind: Kind::Ready { response: Some(Box::new(response)) }, key: None }
    }

    /// Creates a response future that waits for the inner service's response.
    ///
    /// `key` is the key to report in `Cache-Status`.
    pub(crate) fn forward(inner: F, exchange: Exchange, key: Option<CacheKey>) -> Self {
        Self { kind: Kind::Forward { inner, exchange: Some(exchange) }, key }
    }

    /// Creates the response future of a leader, whose response also serves the followers.
    pub(crate) fn lead<E>(inner: BoxedExchange<F::Output>, fetch: Box<Fetch>) -> Self
    where
        F: Future<Output = Result<Response<B>, E>>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
        E: Send + 'static,
    {
        Self { kind: Kind::Leader { future: LeaderFuture::new(inner, fetch) }, key: None }
    }

    /// Creates the response future of a follower.
    pub(crate) fn follow(future: Box<FollowerFuture<F>>) -> Self {
        Self { kind: Kind::Follower { future }, key: None }
    }

    /// Creates a response future that reads from the second-level store and continues with the future from `then`.
    pub(crate) fn load(lookup: TierLookup, then: impl FnOnce(Option<Arc<Resource>>) -> Self + Send + 'static) -> Self {
        let load = Box::new(TierLoad { lookup, then: Some(Box::new(then)) });
        Self { kind: Kind::LoadFromTier { load }, key: None }
    }

    /// Sets the cache key to include in `Cache-Status`.
    pub(crate) fn with_reported_key(self, key: Option<CacheKey>) -> Self {
        Self { key, ..self }
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
        let mut outcome = loop {
            match self.as_mut().project().kind.project() {
                // Polled again after its end, a future may stay pending.
                KindProjection::Ready { response } => match response.take() {
                    Some(response) => break Ok(*response),
                    None => return Poll::Pending,
                },
                KindProjection::Forward { inner, exchange } => {
                    let outcome = ready!(inner.poll(cx));
                    break exchange.take().unwrap_or(Exchange::PassThrough).finish(outcome);
                }
                KindProjection::Leader { future } => break ready!(future.poll(cx)),
                KindProjection::LoadFromTier { load } => {
                    let loaded = ready!(load.lookup.as_mut().poll(cx));
                    let Some(then) = load.then.take() else { return Poll::Pending };
                    let next = then(loaded);
                    self.as_mut().project().kind.set(next.kind);
                }
                KindProjection::Follower { future } => match ready!(future.poll(cx)) {
                    Outcome::Served(response) => break Ok(*response),
                    Outcome::Forwarded(inner, fetch) => {
                        let exchange = Some(Exchange::Fetch(fetch));
                        self.as_mut().project().kind.set(Kind::Forward { inner, exchange });
                    }
                },
            }
        };
        // Without the extension, the response has no member of this cache.
        if let (Some(key), Ok(response)) = (&self.key, &mut outcome)
            && response.extensions().get::<CacheStatus>().is_some()
        {
            append_key(response.headers_mut(), key.as_str());
        }
        Poll::Ready(outcome)
    }
}
