//! The backends of an upstream, for several services and workers.

use std::fmt;
use std::sync::Arc;

use http_body::Body;

use crate::backend::Backend;
use crate::connection_limit::ConnectionLimit;
use crate::error::{BoxError, BuildError};
use crate::health_checker::{CheckError, check_all, probe};
use crate::removed_backends::RemovedBackends;
use crate::service::Upstream;
use crate::settings::Settings;

/// The backends and their health, shared by several [`Upstream`]s.
#[derive(Clone)]
pub struct Backends(pub(crate) Arc<Settings>);

impl Backends {
    /// Creates an upstream with separate connections, for example for a worker thread.
    ///
    /// All upstreams share the health of the backends, the limits and the retry budget.
    pub fn upstream<B>(&self) -> Upstream<B>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        Upstream::new(Arc::clone(&self.0))
    }

    /// Returns an identifier that is equal for clones, and for the upstreams of these backends, as long as one of them
    /// exists.
    #[must_use]
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Returns whether the backends have a [health check](crate::Builder::health_check).
    #[must_use]
    pub fn has_health_check(&self) -> bool {
        self.0.health_check.is_some()
    }

    /// Runs the [health checks](crate::Builder::health_check) of all backends until the future is dropped.
    ///
    /// The future never completes. Spawn it once for all upstreams.
    pub fn run_health_checks(&self) -> impl Future<Output = ()> + Send + use<> {
        check_all(Arc::clone(&self.0))
    }

    /// Replaces the backends of all upstreams. New requests use the new ones from the moment this method returns.
    ///
    /// Requests in flight to removed backends continue; [`RemovedBackends`] waits for their end. A backend with the same
    /// [origin](Backend::origin) as a current one keeps its connections, its health and its count of requests, and gets
    /// the new weight. The health of new backends is unknown at first, see [`probe`](Self::probe). Held requests use the
    /// new backends, and the [health checks](Self::run_health_checks) check them.
    ///
    /// If one of the new backends is the first with TLS, this method reads the certificates of the system, and blocks
    /// meanwhile. The same applies to the name servers.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no backend, or if a certificate for TLS is not valid. Nothing has changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rproxy_upstream::Upstream;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let backends = Upstream::builder().backend("127.0.0.1:3000")?.build_backends()?;
    /// let upstream = backends.upstream::<http_body_util::Empty<bytes::Bytes>>();
    /// // Later, when the new version of the application listens:
    /// let removed = backends.replace(["127.0.0.1:3001".parse()?])?;
    /// removed.drained_within(Duration::from_secs(30)).await?;
    /// // The old version can be stopped.
    /// # let _ = upstream;
    /// # Ok(())
    /// # }
    /// ```
    pub fn replace(&self, backends: impl IntoIterator<Item = Backend>) -> Result<RemovedBackends, BuildError> {
        let backends: Vec<_> = backends.into_iter().collect();
        if backends.is_empty() {
            return Err(BuildError::NoBackend);
        }
        self.0.connector.prepare(&backends)?;
        let removed = self.0.backends.replace(backends, self.has_health_check());
        // Wakes held requests and the health checks.
        self.0.changed.notify_waiters();
        Ok(RemovedBackends::new(removed))
    }

    /// Checks once whether a backend responds. It need not be one of these.
    ///
    /// The backend gets the request of the [health check](crate::Builder::health_check), which must succeed. Without a
    /// health check it gets `GET /`, for which any status is a success. Cancel safe: a dropped future closes the connection.
    ///
    /// # Errors
    ///
    /// Returns the reason why the backend is not healthy, or why no request can be sent to it.
    pub async fn probe(&self, backend: &Backend) -> Result<(), ProbeError> {
        self.0.connector.prepare(std::slice::from_ref(backend)).map_err(ProbeError::Build)?;
        Ok(probe(&self.0, backend).await?)
    }

    /// Returns the current backends with their health and the number of their requests in flight.
    #[must_use]
    pub fn status(&self) -> Vec<BackendStatus> {
        let backends = self.0.backends.current();
        let status = backends.iter().map(|state| BackendStatus {
            backend: state.config.clone().weight(state.weight()),
            is_healthy: state.health.unavailable_for().is_none(),
            in_flight: self.0.backends.in_flight(state),
        });
        status.collect()
    }
}

impl<B> Upstream<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    /// Returns the backends of the upstream, which [`Backends::replace`] replaces.
    #[must_use]
    pub fn backends(&self) -> Backends {
        Backends(Arc::clone(&self.state.settings))
    }
}

/// A backend with its current state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendStatus {
    /// The backend.
    pub backend: Backend,
    /// Whether the backend is neither ejected nor failing its health checks.
    pub is_healthy: bool,
    /// The number of requests in flight in all upstreams, until the end of their responses. WebSockets are not counted.
    pub in_flight: usize,
}

/// The error of a [probe](Backends::probe).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The TLS configuration for the backend is not valid.
    #[error(transparent)]
    Build(BuildError),
    /// The backend did not respond, or with a status that is not healthy.
    #[error("{0}")]
    Unhealthy(String),
}

impl From<CheckError> for ProbeError {
    fn from(error: CheckError) -> Self {
        Self::Unhealthy(error.to_string())
    }
}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &*self.0;
        let backends = settings.backends.current();
        let limit = backends.iter().find_map(|backend| backend.connection_limit.as_deref());
        f.debug_struct("Backends")
            .field("backends", &backends.iter().map(|backend| &backend.name).collect::<Vec<_>>())
            .field("balance", &settings.balance)
            .field("timeout", &settings.timeout)
            .field("connect_timeout", &settings.connector.timeout)
            .field("read_timeout", &settings.read_timeout)
            .field("request_timeout", &settings.request_timeout)
            .field("max_connections", &limit.map(ConnectionLimit::max))
            .field("http2_ping_interval", &settings.http2_ping_interval)
            .field("expect_continue", &settings.expect_continue)
            .field("retries", &settings.retries)
            .field("hold", &settings.hold)
            .field("health_check", &settings.health_check)
            .finish_non_exhaustive()
    }
}
