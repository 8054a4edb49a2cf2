//! The configuration of the connections of a worker.

#[cfg(feature = "tls")]
use std::sync::Arc;

use rproxy_client_ip::{PeerAddr, TrustedProxies};
use rproxy_http1::HeadLimits;
#[cfg(feature = "tls")]
use tokio_rustls::TlsAcceptor;

use crate::connection_settings::ConnectionSettings;
use crate::limits::{LONGEST_TARGET, Limits};
use crate::listen::ProxyProtocolVersions;
use crate::transport::HalfClose;
#[cfg(feature = "tls")]
use crate::transport::handshake_limit::HandshakeLimit;
use crate::worker_settings::WorkerSettings;

/// The configuration shared by all connections of a worker.
pub(crate) struct ConnectionConfig {
    pub(crate) limits: Limits,
    pub(crate) head_limits: HeadLimits,
    pub(crate) half_close: HalfClose,
    /// Whether HTTP/2 without TLS is accepted.
    pub(crate) h2c: bool,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<TlsAcceptor>,
    #[cfg(feature = "tls")]
    pub(crate) handshakes: Arc<HandshakeLimit>,
    pub(crate) proxy_protocol: Option<(TrustedProxies, ProxyProtocolVersions)>,
    pub(crate) proxies: TrustedProxies,
    workers: usize,
}

impl ConnectionConfig {
    /// Returns whether the peer is a proxy with many clients: an exempt address, or a Unix socket (port 0).
    pub(crate) fn is_proxy(&self, peer: PeerAddr) -> bool {
        peer.0.port() == 0 || self.proxies.contains(peer.0.ip())
    }

    pub(crate) fn new(settings: &WorkerSettings) -> Self {
        Self {
            #[cfg(feature = "tls")]
            tls: settings.tls.as_ref().map(|certificates| TlsAcceptor::from(certificates.server_config())),
            #[cfg(feature = "tls")]
            handshakes: HandshakeLimit::new(settings.connections.limits.handshakes.div_ceil(settings.workers)),
            ..Self::without_tls(settings.connections.clone(), settings.workers)
        }
    }

    /// Returns a copy of the configuration with other settings, for new connections.
    pub(crate) fn with_settings(&self, settings: ConnectionSettings) -> Self {
        #[cfg(feature = "tls")]
        self.handshakes.set_max(settings.limits.handshakes.div_ceil(self.workers));
        Self {
            #[cfg(feature = "tls")]
            tls: self.tls.clone(),
            #[cfg(feature = "tls")]
            handshakes: Arc::clone(&self.handshakes),
            ..Self::without_tls(settings, self.workers)
        }
    }

    fn without_tls(settings: ConnectionSettings, workers: usize) -> Self {
        let limits = settings.limits;
        Self {
            head_limits: HeadLimits {
                size: limits.head_size,
                target: limits.target_size.min(LONGEST_TARGET),
                fields: limits.fields,
            },
            limits,
            half_close: settings.half_close,
            h2c: settings.h2c,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "tls")]
            handshakes: HandshakeLimit::new(1),
            proxy_protocol: settings.proxy_protocol,
            proxies: settings.exempt_proxies,
            workers,
        }
    }
}
