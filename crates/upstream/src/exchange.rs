//! The exchange of one request and response, with attempts at several backends until one responds.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use tokio::time::{Instant, timeout};

use crate::attempt::{Failure, attempt};
use crate::backend_state::BackendState;
use crate::body::{InFlightGuard, UpstreamBody};
use crate::error::{BoxError, ProxyError};
use crate::pools::{BackendPools, UpstreamState};
use crate::request_body::RequestBody;
use crate::timeouts::Timeouts;

/// Sends a request to backends until one responds, or returns an error response.
pub(crate) async fn exchange<B>(
    upstream: &UpstreamState<B>,
    request: &mut Request<RequestBody<B>>,
    until: Option<Instant>,
) -> Response<UpstreamBody<B>>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let settings = &upstream.settings;
    let timeouts = Timeouts { response_head: settings.timeout, read: settings.read_timeout, deadline: until };
    settings.expect_continue.apply(request);
    let mut attempts = AttemptState {
        key: key(upstream, request),
        failed_backends: Vec::new(),
        sent_attempts: 0,
        hold: Hold::Unstarted,
        error: None,
    };
    loop {
        let Some(pools) = attempts.select(upstream, request) else {
            // All backends failed or are unavailable.
            match Box::pin(attempts.wait_for_backend(upstream)).await {
                true => continue,
                false => return attempts.into_error(upstream).into_response(UpstreamBody::full),
            }
        };
        let mut guard = settings.balance.counts_in_flight().then(|| InFlightGuard::counted(&pools.backend));
        match attempt(settings, &pools, request, timeouts, &mut guard).await {
            Ok(response) => {
                settings.budget.record_success();
                return response.map(|body| body.with_guard(guard));
            }
            Err(failure) => {
                if !attempts.record_failure(upstream, &pools, failure) {
                    return attempts.into_error(upstream).into_response(UpstreamBody::full);
                }
            }
        }
    }
}

/// Returns the hash of the request's load balancing key, if the policy needs a key.
fn key<B>(upstream: &UpstreamState<B>, request: &mut Request<RequestBody<B>>) -> Option<u64>
where
    B: Body + 'static,
{
    let balance = &upstream.settings.balance;
    if !balance.has_key() || upstream.current().backends.len() == 1 {
        return None;
    }
    let (head, body) = std::mem::replace(request, Request::new(RequestBody::empty())).into_parts();
    let key = balance.key(&head, upstream.settings.hash_key);
    *request = Request::from_parts(head, body);
    key
}

/// The state of the attempts to send one request.
struct AttemptState {
    key: Option<u64>,
    /// The backends at which an attempt failed.
    failed_backends: Vec<Arc<BackendState>>,
    /// The number of failed attempts in which a part of the request was sent.
    sent_attempts: u32,
    hold: Hold,
    error: Option<ProxyError>,
}

/// The state of the wait for an available backend.
enum Hold {
    Unstarted,
    Until(Instant),
}

impl AttemptState {
    /// Returns the backend for the next attempt, from the current backends.
    fn select<B>(&self, upstream: &UpstreamState<B>, request: &Request<RequestBody<B>>) -> Option<Arc<BackendPools<B>>>
    where
        B: Body<Data: Send> + Send + 'static,
    {
        let current = upstream.current();
        let authenticated = current.authenticated_backend(request, &self.failed_backends);
        authenticated
            .or_else(|| current.select_backend(&upstream.settings, self.key, &self.failed_backends))
            .map(Arc::clone)
    }

    /// Records a failed attempt to send the request. Returns whether another backend can be tried.
    fn record_failure<B>(&mut self, upstream: &UpstreamState<B>, pools: &BackendPools<B>, failure: Failure) -> bool
    where
        B: Body + 'static,
    {
        let Failure { is_retryable, was_sent, error } = failure;
        self.error = Some(error.at(&pools.backend.name));
        self.failed_backends.push(Arc::clone(&pools.backend));
        if was_sent {
            let may_retry = upstream.settings.budget.record_failure() && self.sent_attempts < upstream.settings.retries;
            self.sent_attempts += 1;
            return is_retryable && may_retry;
        }
        true
    }

    /// Waits until a backend may be available again. Returns `false` after the hold time.
    async fn wait_for_backend<B: Body + 'static>(&mut self, upstream: &UpstreamState<B>) -> bool {
        let settings = &*upstream.settings;
        let until = match self.hold {
            Hold::Unstarted => Instant::now() + settings.hold,
            Hold::Until(until) => until,
        };
        self.hold = Hold::Until(until);
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let changed = settings.changed.notified();
        let wait = upstream.current().retry_after().max(MIN_WAIT).min(left);
        // After both the timeout and the notification, the backends are checked again.
        let _ = timeout(wait, changed).await;
        self.failed_backends.clear();
        true
    }

    /// Returns the error of the last attempt, or an error that no backend is available.
    fn into_error<B: Body + 'static>(self, upstream: &UpstreamState<B>) -> ProxyError {
        self.error.unwrap_or_else(|| ProxyError::unavailable(upstream.current().retry_after()))
    }
}

/// The minimum time between two checks for an available backend.
const MIN_WAIT: Duration = Duration::from_millis(20);
