//! The service that selects the site or route for a request.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use pin_project_lite::pin_project;
use rproxy_router::{Found, request_host};
use tower::util::Oneshot;
use tower_service::Service;

use super::Routes;
use crate::observe::SiteLabel;
use crate::site::AmbiguousPath;

/// A router over the stacks of all sites and routes, without boxing and locking.
pub(super) struct SiteRouter<S> {
    // One allocation per worker: a clone for each request writes to no memory of another worker.
    inner: Arc<Inner<S>>,
}

struct Inner<S> {
    routes: Routes,
    stacks: Box<[Stack<S>]>,
}

impl<S: Clone> SiteRouter<S> {
    pub(super) fn new(routes: &Routes, stacks: Box<[S]>) -> Self {
        let stacks = stacks.into_iter().map(Stack::new).collect();
        Self { inner: Arc::new(Inner { routes: routes.clone(), stacks }) }
    }
}

impl<S> Inner<S> {
    /// Returns the index of the stack that handles a request.
    fn choose<B>(&self, request: &mut Request<B>) -> usize {
        let Routes { table, sites, labels, rejecting, .. } = &self.routes;
        // One site without routes needs no look-up.
        if labels.is_empty() {
            return 0;
        }
        match table.find(&request_host(request), request.method(), request.uri().path()) {
            Found::Route { site, route } => sites[site] + route.map_or(0, |route| route + 1),
            Found::AmbiguousPath { .. } => {
                request.extensions_mut().insert(AmbiguousPath);
                *rejecting
            }
            _ => *rejecting,
        }
    }
}

impl<S> Clone for SiteRouter<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<S, B, R> Service<Request<B>> for SiteRouter<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible> + Clone,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = RouterFuture<S, B>;

    /// Always returns ready, because the stack is unknown before the request arrives.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let index = self.inner.choose(&mut request);
        let label = self.inner.routes.labels.get(index).cloned();
        self.inner.stacks[index].call(label, request)
    }
}

/// The stack of a site or route, which the connections of a worker share.
///
/// A clone in each connection would take an eighth more memory, and a clone for each request would write to twenty
/// reference counts.
struct Stack<S> {
    shared: Mutex<S>,
    /// For calls from another thread, which do not wait for the lock. A worker has a single thread.
    original: S,
}

impl<S: Clone> Stack<S> {
    fn new(stack: S) -> Self {
        Self { shared: Mutex::new(stack.clone()), original: stack }
    }

    fn call<B, R>(&self, label: Option<SiteLabel>, request: Request<B>) -> RouterFuture<S, B>
    where
        S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    {
        let (mut shared, mut clone) = (self.shared.try_lock(), None);
        let stack = match &mut shared {
            Ok(stack) => &mut **stack,
            Err(_) => clone.insert(self.original.clone()),
        };
        // The layers of the stacks are always ready.
        match stack.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => RouterFuture { label, call: Call::Ready { future: stack.call(request) } },
            Poll::Pending => {
                let future = Box::pin(Oneshot::new(stack.clone(), request));
                RouterFuture { label, call: Call::Waiting { future } }
            }
        }
    }
}

pin_project! {
    /// The response future of [`SiteRouter`].
    pub(super) struct RouterFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        label: Option<SiteLabel>,
        #[pin]
        call: Call<S, B, S::Future>,
    }
}

pin_project! {
    #[project = CallProjection]
    enum Call<S, B, F>
    where
        S: Service<Request<B>>,
    {
        Ready { #[pin] future: F },
        Waiting { future: Pin<Box<Oneshot<S, Request<B>>>> },
    }
}

impl<S, B, R> Future for RouterFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
{
    type Output = Result<Response<R>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut polled = match this.call.project() {
            CallProjection::Ready { future } => future.poll(cx),
            CallProjection::Waiting { future } => future.as_mut().poll(cx),
        };
        if let Poll::Ready(Ok(response)) = &mut polled
            && let Some(label) = this.label.take()
        {
            response.extensions_mut().insert(label);
        }
        polled
    }
}
