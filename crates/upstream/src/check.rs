//! Active health checks: backends are asked, whether there are requests or not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{InvalidUri, PathAndQuery};
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::body::RequestBody;
use crate::builder::Settings;
use crate::connect::{Connected, Speak};
use crate::deadline::Patience;
use crate::error::ProxyError;
use crate::http1::{Http1, SendError};
use crate::http2::send_alone;
use crate::rewrite::{to_http1, to_http2};
use crate::service::Member;

/// A `GET` that a healthy backend answers with a status from 200 to 399.
#[derive(Clone, Debug)]
#[must_use]
pub struct HealthCheck {
    path: PathAndQuery,
    interval: Duration,
    timeout: Duration,
    unhealthy_after: u32,
    healthy_after: u32,
}

impl HealthCheck {
    /// Asks for `path`, such as `/healthz`, with the backend's own name in `Host`.
    ///
    /// # Errors
    ///
    /// What is no path.
    pub fn new(path: &str) -> Result<Self, InvalidUri> {
        Ok(Self {
            path: path.parse()?,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            unhealthy_after: 2,
            healthy_after: 2,
        })
    }

    /// From one check to the next. Default 5 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        // tokio's interval takes no zero.
        self.interval = interval.max(Duration::from_millis(1));
        self
    }

    /// For connection and response head together. Default 2 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// So many failures in a row take a backend out; the very first check does so alone. Default 2.
    pub fn unhealthy_after(mut self, failures: u32) -> Self {
        self.unhealthy_after = failures;
        self
    }

    /// So many successes in a row bring a backend back. Default 2.
    pub fn healthy_after(mut self, successes: u32) -> Self {
        self.healthy_after = successes;
        self
    }

    pub(crate) fn every(&self) -> Duration {
        self.interval
    }
}

/// Checks all backends until it is dropped. Never ends by itself.
pub(crate) async fn check_all(settings: Arc<Settings>) {
    let mut checks = JoinSet::new();
    if let Some(check) = &settings.health_check {
        for member in &settings.members {
            checks.spawn(watch(Arc::clone(&settings), Arc::clone(member), check.clone()));
        }
    }
    while checks.join_next().await.is_some() {}
    std::future::pending().await
}

async fn watch(settings: Arc<Settings>, member: Arc<Member>, check: HealthCheck) {
    let mut ticks = interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // How often in a row it has been this way.
    let mut streak: Option<(bool, u32)> = None;
    loop {
        ticks.tick().await;
        let checked = match timeout(check.timeout, ask(&settings, &member, &check)).await {
            Ok(checked) => checked,
            Err(_) => Err(Failed::Late),
        };
        let is_up = checked.is_ok();
        let count = match streak {
            None => u32::MAX,
            Some((before, count)) if before == is_up => count.saturating_add(1),
            Some(_) => 1,
        };
        streak = Some((is_up, count));
        let needed = if is_up { check.healthy_after } else { check.unhealthy_after };
        if count >= needed && member.health.checked(is_up) {
            match checked {
                Ok(()) => tracing::info!(backend = %member.name, "passes its health checks again"),
                Err(why) => tracing::warn!(backend = %member.name, "fails its health checks: {why}"),
            }
        }
    }
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("no answer in time")]
    Late,
    #[error("status {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Exchange(#[from] ProxyError),
}

async fn ask(settings: &Settings, member: &Member, check: &HealthCheck) -> Result<(), Failed> {
    let mut request = Request::new(RequestBody::<Empty<Bytes>>::empty());
    *request.uri_mut() = Uri::from(check.path.clone());
    request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("rproxy-health-check"));
    let Connected { socket, is_http2, .. } = settings.connector.connect(&member.backend, Speak::Any, &[]).await?;
    let patience = Patience { head: check.timeout, silence: check.timeout, until: None };
    let status = if is_http2 {
        to_http2(&mut request, &member.backend).map_err(ProxyError::from)?;
        send_alone(socket, &mut request, patience).await.map_err(|failed| failed.error)?.status()
    } else {
        to_http1(&mut request, &member.backend.host);
        match Http1::new(socket, None).send(&mut request, patience).await {
            Ok(response) => response.status(),
            Err(SendError::Failed(error)) => return Err(error.into()),
            Err(SendError::Ended { error, .. }) => return Err(ProxyError::from(error).into()),
        }
    };
    match status.is_success() || status.is_redirection() {
        true => Ok(()),
        false => Err(Failed::Status(status)),
    }
}
