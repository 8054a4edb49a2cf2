//! A service that can be replaced while it serves requests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tower_service::Service;

/// A slot that contains the current service of one worker.
///
/// The service must always be ready. An open connection refers to the slot only, so an idle connection does not keep a
/// service that was replaced.
pub(crate) struct ServiceSlot<S> {
    current: Mutex<S>,
}

impl<S> ServiceSlot<S> {
    pub(crate) fn new(service: S) -> Arc<Self> {
        Arc::new(Self { current: Mutex::new(service) })
    }

    /// Replaces the service for new requests. Requests in flight finish with the previous one.
    pub(crate) fn replace(&self, service: S) {
        let previous = std::mem::replace(&mut *self.current(), service);
        // After the lock is released, for which the worker waits.
        drop(previous);
    }

    /// Returns a service that always calls the current service of this slot.
    pub(crate) fn service(self: &Arc<Self>) -> ReloadableService<S> {
        ReloadableService { slot: Arc::clone(self) }
    }

    /// Locks the service, which only a reload and the thread of the worker do.
    fn current(&self) -> MutexGuard<'_, S> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A service that calls the current service in a slot.
pub(crate) struct ReloadableService<S> {
    slot: Arc<ServiceSlot<S>>,
}

impl<S> Clone for ReloadableService<S> {
    fn clone(&self) -> Self {
        Self { slot: Arc::clone(&self.slot) }
    }
}

impl<S, R> Service<R> for ReloadableService<S>
where
    S: Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.slot.current().poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.slot.current().call(request)
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

    #[tokio::test]
    async fn service_of_an_idle_connection_does_not_keep_the_replaced_service() {
        let configuration = Arc::new(());
        let service = |configuration: Option<&Arc<()>>| {
            let configuration = configuration.cloned();
            service_fn(move |()| {
                let is_old = configuration.is_some();
                async move { Ok::<_, Infallible>(is_old) }
            })
        };
        let slot = ServiceSlot::new(service(Some(&configuration)));
        let mut connection = slot.service();
        assert_eq!(connection.ready().await.unwrap().call(()).await, Ok(true));
        slot.replace(service(None));
        assert_eq!(Arc::strong_count(&configuration), 1);
        assert_eq!(connection.ready().await.unwrap().call(()).await, Ok(false));
    }
}
