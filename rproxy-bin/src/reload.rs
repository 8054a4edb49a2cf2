//! A service that can be replaced while it serves requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tower_service::Service;

/// A slot that contains the current service of one worker.
pub(crate) struct ServiceSlot<S> {
    /// The number of replacements of the service, which a request compares to detect a new service.
    generation: AtomicU64,
    current: Mutex<S>,
}

impl<S: Clone> ServiceSlot<S> {
    pub(crate) fn new(service: S) -> Arc<Self> {
        Arc::new(Self { generation: AtomicU64::new(0), current: Mutex::new(service) })
    }

    /// Replaces the service for new requests. Requests in flight finish with the previous one.
    pub(crate) fn replace(&self, service: S) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = service;
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Returns a service that always calls the current service of this slot.
    pub(crate) fn service(self: &Arc<Self>) -> ReloadableService<S> {
        ReloadableService {
            generation: self.generation.load(Ordering::Acquire),
            current: self.current(),
            slot: Arc::clone(self),
        }
    }

    fn current(&self) -> S {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A service that calls a cached clone of the current service in a slot.
#[derive(Clone)]
pub(crate) struct ReloadableService<S> {
    generation: u64,
    current: S,
    slot: Arc<ServiceSlot<S>>,
}

impl<S, R> Service<R> for ReloadableService<S>
where
    S: Service<R> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let generation = self.slot.generation.load(Ordering::Acquire);
        if self.generation != generation {
            *self = Self { generation, current: self.slot.current(), slot: Arc::clone(&self.slot) };
        }
        self.current.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.current.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use tower::{ServiceExt, service_fn};

    #[tokio::test]
    async fn replacement_service_handles_new_requests() {
        let answer = |text: &'static str| service_fn(move |()| async move { Ok::<_, Infallible>(text) });
        let slot = ServiceSlot::new(answer("old"));
        let service = slot.service();
        assert_eq!(service.clone().oneshot(()).await, Ok("old"));
        slot.replace(answer("new"));
        assert_eq!(service.oneshot(()).await, Ok("new"));
    }
}
