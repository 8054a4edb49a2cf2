//! The task that checks the health of backends.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

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
    let mut checks = JoinSet::new();
    if let Some(check) = &settings.health_check {
        for backend in &settings.backends {
            checks.spawn(check_backend(Arc::clone(&settings), Arc::clone(backend), check.clone()));
        }
    }
    while checks.join_next().await.is_some() {}
    std::future::pending().await
}

/// Runs the health checks of one backend at the configured interval.
async fn check_backend(settings: Arc<Settings>, backend: Arc<BackendState>, check: HealthCheck) {
    let mut ticks = interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The last result, and the number of consecutive times.
    let mut streak: Option<(bool, u32)> = None;
    loop {
        ticks.tick().await;
        let checked = match timeout(check.timeout, send_check(&settings, &backend, &check)).await {
            Ok(checked) => checked,
            Err(_) => Err(CheckError::Timeout),
        };
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

/// The reason that a health check failed.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("timeout waiting for the response to the health check")]
    Timeout,
    #[error("status {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Exchange(#[from] ProxyError),
}

/// Sends one health check, and returns an error if it failed.
async fn send_check(settings: &Settings, backend: &BackendState, check: &HealthCheck) -> Result<(), CheckError> {
    let mut request = Request::new(RequestBody::<Empty<Bytes>>::empty());
    *request.uri_mut() = Uri::from(check.path.clone());
    request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("rproxy-health-check"));
    let Connected { socket, is_http2, .. } =
        settings.connector.connect(&backend.config, AllowedProtocols::Any, &[]).await?;
    let timeouts = Timeouts { response_head: check.timeout, read: check.timeout, deadline: None };
    let status = if is_http2 {
        to_http2(&mut request, &backend.config).map_err(ProxyError::from)?;
        send_unpooled(socket, &mut request, timeouts).await.map_err(|failed| failed.error)?.status()
    } else {
        to_http1(&mut request, &backend.config.host);
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
