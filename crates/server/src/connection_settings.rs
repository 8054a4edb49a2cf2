//! The settings of client connections, which can change while the server runs.

use std::time::Duration;

use rproxy_client_ip::TrustedProxies;

use crate::limits::Limits;
use crate::listen::ProxyProtocolVersions;
use crate::transport::HalfClose;

/// The settings of client connections.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionSettings {
    pub(crate) limits: Limits,
    pub(crate) half_close: HalfClose,
    pub(crate) drain_timeout: Duration,
    pub(crate) proxy_protocol: Option<(TrustedProxies, ProxyProtocolVersions)>,
    pub(crate) exempt_proxies: TrustedProxies,
    pub(crate) h2c: bool,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            half_close: HalfClose::default(),
            drain_timeout: Duration::from_secs(30),
            proxy_protocol: None,
            exempt_proxies: TrustedProxies::none(),
            h2c: true,
        }
    }
}
