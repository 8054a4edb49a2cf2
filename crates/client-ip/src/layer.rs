//! A tower layer that determines the client's address.

use std::sync::Arc;

use tower_layer::Layer;

use crate::config::Config;
use crate::resolve::ClientIpSource;
use crate::service::ClientIpService;
use crate::trusted_proxies::TrustedProxies;

/// A layer that inserts the client's address into each request as [`ClientIp`](crate::ClientIp).
///
/// # Examples
///
/// ```
/// use rproxy_client_ip::{ClientIpLayer, TrustedProxies};
///
/// let layer = ClientIpLayer::new(TrustedProxies::none().trust("10.0.0.0/8".parse()?));
/// # let _ = layer;
/// # Ok::<(), rproxy_client_ip::CidrError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientIpLayer {
    config: Arc<Config>,
}

impl ClientIpLayer {
    /// Creates a layer that determines the client from the `X-Forwarded-For` of trusted proxies.
    ///
    /// A peer that is not trusted is the client, even if its header fields name another one.
    pub fn new(trusted: TrustedProxies) -> Self {
        Self { config: Arc::new(Config { trusted, source: ClientIpSource::default() }) }
    }

    /// Sets the header field in which trusted proxies report the client's address; default `X-Forwarded-For`.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_client_ip::{ClientIpLayer, ClientIpSource, TrustedProxies};
    ///
    /// let cloudflare: TrustedProxies = "cloudflare".parse()?;
    /// let layer = ClientIpLayer::new(cloudflare).source("CF-Connecting-IP".parse()?);
    /// # let _ = layer;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn source(mut self, source: ClientIpSource) -> Self {
        Arc::make_mut(&mut self.config).source = source;
        self
    }
}

impl<S> Layer<S> for ClientIpLayer {
    type Service = ClientIpService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClientIpService::new(inner, Arc::clone(&self.config))
    }
}
