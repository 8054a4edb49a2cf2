//! The service, and who its members are.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use crate::ClientConnection;
use crate::backend::Backend;
use crate::balance::{Candidate, Turns, choose};
use crate::body::{RequestBody, UpstreamBody};
use crate::bound;
use crate::builder::{Builder, Settings};
use crate::error::{BoxError, ProxyError, ProxyErrorKind};
use crate::exchange::{Course, exchange};
use crate::hash::HashKey;
use crate::health::Health;
use crate::http2;
use crate::pool::Pool;
use crate::slots::Slots;

/// Sends requests to backends. Cheap to clone; see the [crate](crate) page.
pub struct Upstream<B: Body + 'static> {
    pub(crate) worker: Arc<Worker<B>>,
}

/// What one worker keeps for itself, and the settings it shares.
pub(crate) struct Worker<B: Body + 'static> {
    pub(crate) settings: Arc<Settings>,
    pub(crate) links: Vec<Link<B>>,
    turns: Turns,
}

/// The connections to one backend.
pub(crate) struct Link<B: Body + 'static> {
    pub(crate) index: usize,
    pub(crate) member: Arc<Member>,
    pub(crate) http1: Arc<Pool<B>>,
    pub(crate) http2: Arc<http2::Pool>,
}

/// A backend, and what all workers know of it.
pub(crate) struct Member {
    pub(crate) backend: Backend,
    pub(crate) name: Arc<str>,
    pub(crate) health: Health,
    /// Requests that are not answered to the end, where the balance asks for their number.
    pub(crate) pending: AtomicUsize,
    /// There if connections are capped.
    pub(crate) slots: Option<Slots>,
    hash_key: HashKey,
    /// The hash of the name.
    seed: u64,
}

impl Member {
    pub(crate) fn new(backend: Backend, health: Health, slots: Option<Slots>, hash_key: HashKey) -> Self {
        let name: Arc<str> = backend.origin().into();
        Self { hash_key, seed: hash_key.hash(&name), name, backend, health, pending: AtomicUsize::new(0), slots }
    }
}

impl<B: Body + 'static> Candidate for Link<B> {
    fn weight(&self) -> u16 {
        self.member.backend.weight
    }

    fn pending(&self) -> usize {
        self.member.pending.load(Relaxed)
    }

    fn hash_with(&self, key: u64) -> u64 {
        self.member.hash_key.hash((key, self.member.seed))
    }
}

impl Upstream<http_body_util::Empty<bytes::Bytes>> {
    /// Starts to build one.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<B> Upstream<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        let link = |(index, member): (usize, &Arc<Member>)| {
            let http1 = Pool::new(settings.idle_timeout, settings.max_idle);
            if let Some(slots) = &member.slots {
                let pool: Weak<Pool<B>> = Arc::downgrade(&http1);
                slots.register(pool);
            }
            let http2 = http2::Pool::new(Arc::clone(&settings), Arc::clone(member));
            Link { index, member: Arc::clone(member), http1, http2 }
        };
        let links: Vec<_> = settings.members.iter().enumerate().map(link).collect();
        let weights: Vec<_> = links.iter().map(Candidate::weight).collect();
        Self { worker: Arc::new(Worker { turns: Turns::new(&weights), settings, links }) }
    }
}

impl<B> Worker<B>
where
    B: Body<Data: Send> + Send + 'static,
{
    /// The backend that has authenticated the client's connection, if there is one: another would not know the client.
    pub(crate) fn bound(&self, request: &Request<RequestBody<B>>, course: &Course) -> Option<&Link<B>> {
        if self.links.len() == 1 || !course.tried.is_empty() {
            return None;
        }
        let client = request.extensions().get::<ClientConnection>()?;
        self.links.iter().find(|link| bound::is_bound::<B>(client, &link.member))
    }
}

impl<B: Body + 'static> Worker<B> {
    /// The backend to ask next, if there is one that may be asked.
    pub(crate) fn choose(&self, course: &Course) -> Option<&Link<B>> {
        if let [alone] = &*self.links {
            let may_ask = course.tried.is_empty()
                // With nobody else to ask, a backend that failed is asked all the same, unless there is time to wait.
                && (alone.member.health.claim() || self.settings.hold.is_zero() && alone.member.health.passes_checks());
            return may_ask.then_some(alone);
        }
        loop {
            let fit = |index| !course.tried.contains(&index) && self.links[index].member.health.down_for().is_none();
            let link = &self.links[choose(&self.settings.balance, &self.turns, course.key, &self.links, fit)?];
            // Where another request came first, the backend is down for this one.
            if link.member.health.claim() {
                return Some(link);
            }
        }
    }

    /// When the first of the backends may be asked again.
    pub(crate) fn soonest(&self) -> Duration {
        let down = self.links.iter().map(|link| link.member.health.down_for().unwrap_or_default());
        down.min().unwrap_or_default()
    }
}

impl<B: Body + 'static> Clone for Upstream<B> {
    fn clone(&self) -> Self {
        Self { worker: Arc::clone(&self.worker) }
    }
}

impl<B: Body + 'static> fmt::Debug for Upstream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backends = self.worker.links.iter().map(|link| &link.member.name);
        f.debug_struct("Upstream").field("backends", &backends.collect::<Vec<_>>()).finish()
    }
}

impl<B> Service<Request<B>> for Upstream<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<UpstreamBody<B>>;
    type Error = Infallible;
    type Future = ResponseFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let worker = Arc::clone(&self.worker);
        // Boxed: the exchange is large, so that one allocation is cheaper than carrying it inside of every layer's
        // future.
        // The request stays where it is from here on: each move of it is a copy.
        let mut request = request.map(RequestBody::new);
        let exchange: Pin<Box<dyn Future<Output = _> + Send>> = match worker.settings.request_timeout {
            None => Box::pin(async move { exchange(&worker, &mut request, None).await }),
            Some(within) => Box::pin(async move {
                let until = Instant::now() + within;
                let exchange = exchange(&worker, &mut request, Some(until));
                timeout_at(until, exchange).await.unwrap_or_else(|_| late().into_response())
            }),
        };
        ResponseFuture { exchange }
    }
}

fn late() -> ProxyError {
    ProxyError::new(ProxyErrorKind::HttpResponseTimeout)
}

/// The future of [`Upstream`].
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<B: Body + 'static> {
    exchange: Pin<Box<dyn Future<Output = Response<UpstreamBody<B>>> + Send>>,
}

impl<B: Body + 'static> fmt::Debug for ResponseFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<B: Body + 'static> Future for ResponseFuture<B> {
    type Output = Result<Response<UpstreamBody<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.exchange.as_mut().poll(cx).map(Ok)
    }
}
