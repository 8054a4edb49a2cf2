//! A layer that checks requests, and its configuration.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use tower_layer::Layer;

use crate::service::RequestGuardService;

/// A layer that rejects ambiguous requests, and limits the size and time of request bodies.
///
/// It also responds to request heads that the server rejected. Only `rproxy-server` reports these, as
/// [`RejectedHead`](crate::RejectedHead). All other checks work with any server.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use rproxy_request_guard::RequestGuardLayer;
///
/// let layer = RequestGuardLayer::new().max_body(Some(8 << 20)).body_timeout(Duration::from_secs(10));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RequestGuardLayer {
    config: Arc<GuardConfig>,
}

#[derive(Clone)]
pub(crate) struct GuardConfig {
    pub(crate) max_body: Option<u64>,
    pub(crate) body_timeout: Duration,
    pub(crate) is_served: Option<Arc<IsServed>>,
}

/// A function that returns whether to serve a host to a request with these extensions.
pub(crate) type IsServed = dyn Fn(&Extensions, &str) -> bool + Send + Sync;

impl RequestGuardLayer {
    /// Creates a layer without a maximum body size, with a body timeout of 30 s, for any host.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the maximum size of request bodies. Larger ones get 413. The default is `None`, no limit.
    pub fn max_body(mut self, bytes: Option<u64>) -> Self {
        Arc::make_mut(&mut self.config).max_body = bytes;
        self
    }

    /// Sets the maximum time between two parts of a request body. Slower ones get 408. The default is 30 s.
    ///
    /// The timeout applies only until the response begins.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.config).body_timeout = timeout;
        self
    }

    /// Restricts the hosts: if `is_served(extensions, host)` is false, the response is 421.
    ///
    /// 421 (Misdirected Request, RFC 9110 §15.5.20) is for hosts that the certificate of the connection does not cover. The
    /// extensions are those of the request, in which servers describe the connection. Requests without `Host`, which
    /// HTTP/1.0 allows, are not restricted.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_request_guard::RequestGuardLayer;
    ///
    /// let layer = RequestGuardLayer::new().restrict_hosts(|_extensions, host| host == "example.org");
    /// ```
    pub fn restrict_hosts(mut self, is_served: impl Fn(&Extensions, &str) -> bool + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.config).is_served = Some(Arc::new(is_served));
        self
    }
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { max_body: None, body_timeout: Duration::from_secs(30), is_served: None }
    }
}

impl fmt::Debug for GuardConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardConfig")
            .field("max_body", &self.max_body)
            .field("body_timeout", &self.body_timeout)
            .field("is_served", &self.is_served.is_some())
            .finish()
    }
}

impl<S> Layer<S> for RequestGuardLayer {
    type Service = RequestGuardService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestGuardService::new(inner, Arc::clone(&self.config))
    }
}
