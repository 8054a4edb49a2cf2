//! The task that checks the health of backends.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::backend::Backend;
use crate::backend_state::BackendState;
use crate::connector::{AllowedProtocols, Connected};
use crate::error::ProxyError;
use crate::health_check::HealthCheck;
use crate::http1::{Http1Connection, SendError};
use crate::http2::send_unpooled;
use crate::request_body::RequestBody;
use crate::rewrite::{to_http1, to_http2};
use crate::settings::Settings;
use crate::timeouts::Timeouts;

/// Runs the health checks of all backends until the future is dropped.
pub(crate) async fn check_all(settings: Arc<Settings>) {
    let Some(check) = &settings.health_check else { return std::future::pending().await };
    // The task of each backend, which ends when it is dropped.
    let mut checked: Vec<(Arc<BackendState>, JoinSet<()>)> = Vec::new();
    loop {
        // Created before the backends are read, so that it gets every later notification.
        let changed = settings.changed.notified();
        let current = settings.backends.current();
        checked.retain(|(backend, _)| current.iter().any(|other| Arc::ptr_eq(other, backend)));
        for backend in &*current {
            if !checked.iter().any(|(other, _)| Arc::ptr_eq(other, backend)) {
                let task = check_backend(Arc::clone(&settings), Arc::clone(backend), check.clone());
                checked.push((Arc::clone(backend), JoinSet::from_iter([task])));
            }
        }
        drop(current);
        changed.await;
    }
}

/// Runs the health checks of one backend at the configured interval.
async fn check_backend(settings: Arc<Settings>, backend: Arc<BackendState>, check: HealthCheck) {
    let mut ticks = interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The last result, and the number of consecutive times.
    let mut streak: Option<(bool, u32)> = None;
    loop {
        ticks.tick().await;
        let checked = check_once(&settings, &backend.config, &check).await;
        let is_healthy = checked.is_ok();
        let count = match streak {
            None => u32::MAX,
            Some((before, count)) if before == is_healthy => count.saturating_add(1),
            Some(_) => 1,
        };
        streak = Some((is_healthy, count));
        let needed = if is_healthy { check.healthy_after } else { check.unhealthy_after };
        if count >= needed && backend.health.record_check(is_healthy) {
            match checked {
                Ok(()) => {
                    tracing::info!(backend = %backend.name, "health check of the backend succeeded, sending requests to it again")
                }
                Err(error) => {
                    tracing::warn!(backend = %backend.name, "health check of the backend failed, sending no requests to it: {error}")
                }
            }
        }
    }
}

/// Checks a backend once: with the health check of the upstream, or else with a request for `/`, for which any status is
/// a success.
pub(crate) async fn probe(settings: &Settings, backend: &Backend) -> Result<(), CheckError> {
    match &settings.health_check {
        Some(check) => check_once(settings, backend, check).await,
        None => {
            let check = HealthCheck::with_path(PathAndQuery::from_static("/"));
            match check_once(settings, backend, &check).await {
                Err(CheckError::Status(_)) => Ok(()),
                checked => checked,
            }
        }
    }
}

async fn check_once(settings: &Settings, backend: &Backend, check: &HealthCheck) -> Result<(), CheckError> {
    let checked = timeout(check.timeout, send_check(settings, backend, check)).await;
    checked.unwrap_or(Err(CheckError::Timeout))
}

/// The reason that a health check failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("timeout waiting for the response to the health check")]
    Timeout,
    #[error("status {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Exchange(#[from] ProxyError),
}

/// Sends one health check, and returns an error if it failed.
async fn send_check(settings: &Settings, backend: &Backend, check: &HealthCheck) -> Result<(), CheckError> {
    let mut request = Request::new(RequestBody::<Empty<Bytes>>::empty());
    *request.uri_mut() = Uri::from(check.path.clone());
    request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("rproxy-health-check"));
    let Connected { socket, is_http2, .. } = settings.connector.connect(backend, AllowedProtocols::Any, &[]).await?;
    let timeouts = Timeouts { response_head: check.timeout, read: check.timeout, deadline: None };
    let status = if is_http2 {
        to_http2(&mut request, backend).map_err(ProxyError::from)?;
        send_unpooled(socket, &mut request, timeouts).await.map_err(|failed| failed.error)?.status()
    } else {
        to_http1(&mut request, &backend.host);
        match Http1Connection::new(socket, None).send(&mut request, timeouts).await {
            Ok(response) => response.status(),
            Err(SendError::Failed(error)) => return Err(error.into()),
            Err(SendError::Closed { error, .. }) => return Err(ProxyError::from(error).into()),
        }
    };
    match status.is_success() || status.is_redirection() {
        true => Ok(()),
        false => Err(CheckError::Status(status)),
    }
}
