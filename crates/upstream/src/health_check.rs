//! The settings of an active health check.

use std::time::Duration;

use http::uri::{InvalidUri, PathAndQuery};

/// An active health check: a `GET` request that is sent to each backend at an interval.
///
/// A check succeeds if the status is from 200 to 399. While a backend is unhealthy, it gets no requests.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use rproxy_upstream::HealthCheck;
///
/// # fn main() -> Result<(), http::uri::InvalidUri> {
/// let check = HealthCheck::new("/healthz")?.interval(Duration::from_secs(2)).unhealthy_after(3);
/// # let _ = check;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct HealthCheck {
    pub(crate) path: PathAndQuery,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) unhealthy_after: u32,
    pub(crate) healthy_after: u32,
}

impl HealthCheck {
    /// Creates a health check that requests `path`, such as `/healthz`. `Host` is the address of the backend.
    ///
    /// # Errors
    ///
    /// Returns an error if `path` is not a valid path.
    pub fn new(path: &str) -> Result<Self, InvalidUri> {
        Ok(Self::with_path(path.parse()?))
    }

    /// Sets the time between two health checks. The default is 5 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        // tokio panics if the interval is zero.
        self.interval = interval.max(Duration::from_millis(1));
        self
    }

    /// Sets the combined timeout for connecting and receiving the response head. The default is 2 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the number of consecutive failures after which a backend is unhealthy. The default is 2.
    ///
    /// A failure of the first check is sufficient.
    pub fn unhealthy_after(mut self, failures: u32) -> Self {
        self.unhealthy_after = failures;
        self
    }

    /// Sets the number of consecutive successes after which a backend is healthy again. The default is 2.
    pub fn healthy_after(mut self, successes: u32) -> Self {
        self.healthy_after = successes;
        self
    }

    /// Creates a health check of a path, with the default settings.
    pub(crate) fn with_path(path: PathAndQuery) -> Self {
        Self {
            path,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            unhealthy_after: 2,
            healthy_after: 2,
        }
    }

    /// Returns the time between two health checks.
    pub(crate) fn check_interval(&self) -> Duration {
        self.interval
    }
}
