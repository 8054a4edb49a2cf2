//! From settings to layers.

use rproxy_cache::{CacheLayer, CacheStore};
use rproxy_client_ip::ClientIpLayer;
use rproxy_forward_headers::ForwardHeadersLayer;
use rproxy_path_filter::PathFilterLayer;
use rproxy_rate_limit::{ClientKey, Quota, RateLimitLayer};
use rproxy_security_headers::SecurityHeadersLayer;
use rproxy_server::RequestGuardLayer;
use rproxy_tls::{Acme, Certificates, CertificatesBuilder, Local};
use rproxy_upstream::{BuildError, ProxyError, ProxyErrorKind, Upstream};
use rproxy_ws_passthrough::WsPassthroughLayer;

use crate::compression::CompressionLayer;
use crate::config::{AccessLog, Config};
use crate::observe::{Format, Metrics, ObserveLayer, Writer};
use crate::stack::Stack;

/// A stack that can't be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// The backends make no upstream.
    #[error(transparent)]
    Upstream(#[from] BuildError),
    /// The access log has nobody to write it.
    #[error("can't start the access log: {0}")]
    AccessLog(#[source] std::io::Error),
}

/// Builds the stack that `config` describes, to serve in a program of one's own:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = rproxy::Config::default();
/// let stack = rproxy::stack(&config)?;
/// let app: axum::Router = axum::Router::new().fallback_service(stack.service::<axum::body::Body>());
/// # let _ = app;
/// # Ok(())
/// # }
/// ```
///
/// The server has to put the peer's address into each request, as `rproxy_client_ip::PeerAddr` or, with the feature
/// `axum`, as axum's `ConnectInfo<SocketAddr>`: without it every answer is 500.
///
/// # Errors
///
/// What the configuration can't show to be wrong: see [`StackError`].
pub fn stack(config: &Config) -> Result<Stack, StackError> {
    let shared = Shared::new(config)?;
    shared.stack(config)
}

/// What outlives a reload: what is counted, stored and open.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) observe: ObserveLayer,
    pub(crate) cache: Option<CacheStore>,
    pub(crate) ws_passthrough: WsPassthroughLayer,
    rate_limit: Option<RateLimitLayer>,
}

impl Shared {
    pub(crate) fn new(config: &Config) -> Result<Self, StackError> {
        let writer = || Writer::start(std::io::stdout()).map_err(StackError::AccessLog);
        let log = match config.access_log {
            AccessLog::Off => None,
            AccessLog::Text => Some((Format::Text, writer()?)),
            AccessLog::Json => Some((Format::Json, writer()?)),
        };
        Ok(Self {
            observe: ObserveLayer::new(Metrics::new(), log),
            cache: config.cache_enabled.then(|| CacheStore::in_memory(config.cache_size)),
            ws_passthrough: WsPassthroughLayer::new(),
            rate_limit: config.rate_limit_enabled.then(|| rate_limit(config)),
        })
    }

    pub(crate) fn stack(&self, config: &Config) -> Result<Stack, StackError> {
        let security_headers = SecurityHeadersLayer::recommended();
        let ws_passthrough = self.ws_passthrough.clone().paths(config.ws_paths.value().clone());
        let cache = self.cache.clone().map(|store| {
            CacheLayer::new(store)
                .paths(config.cache_paths.value().clone())
                .max_object(config.cache_max_object)
                .unreachable_when(|head| {
                    // A body that the client broke off says nothing of the backend.
                    let error = head.extensions.get::<ProxyError>();
                    error.is_some_and(|error| error.kind() != ProxyErrorKind::HttpRequestError)
                })
        });
        Ok(Stack {
            client_ip: ClientIpLayer::new(config.trusted_proxies.value().clone()),
            observe: self.observe.clone(),
            security_headers: if config.hsts { security_headers } else { security_headers.without_hsts() },
            guard: RequestGuardLayer::new().max_body(config.max_body),
            rate_limit: self.rate_limit.clone(),
            path_filter: config.filter_enabled.then(|| PathFilterLayer::new(config.blocked_paths.value().clone())),
            ws_passthrough: if config.ws_enabled { ws_passthrough } else { ws_passthrough.refuse_all() },
            cache,
            compression: config.compression.then_some(CompressionLayer),
            forward_headers: ForwardHeadersLayer::new().via("rproxy"),
            backends: Upstream::builder()
                .backends(config.upstream.iter().cloned())
                .timeout(config.upstream_timeout)
                .build_backends()?,
        })
    }
}

impl Stack {
    /// Answers 421 to hosts that these certificates do not vouch for.
    pub(crate) fn certificates(mut self, certificates: Certificates) -> Self {
        self.guard = self.guard.serves(move |name, host| certificates.covers(name, host));
        self
    }
}

fn rate_limit(config: &Config) -> RateLimitLayer {
    let quota = Quota::per_second(config.rate_limit.get()).burst(config.rate_burst.get());
    RateLimitLayer::new(quota).key(ClientKey::default().ipv6_prefix(config.rate_ipv6_prefix))
}

/// The certificates to serve, if there are to be any.
pub(crate) fn certificates(config: &Config) -> Result<Option<Certificates>, rproxy_tls::Error> {
    if !config.tls() {
        return Ok(None);
    }
    let mut builder = with_files(Certificates::builder(), config);
    if config.tls_local {
        let names = config.tls_domains.iter().map(|name| name.as_str().to_owned());
        builder = builder.local(Local::new(&config.tls_cache_dir).names(names));
    }
    if !config.acme_domains().is_empty() {
        let names = config.acme_domains().iter().map(|name| name.as_str().to_owned());
        let mut acme = Acme::new(&config.tls_cache_dir).domains(names).directory(config.acme_directory.to_string());
        if let Some(contact) = &config.tls_email {
            acme = acme.contact(contact);
        }
        if let Some(ca) = &config.acme_ca {
            acme = acme.directory_ca_file(ca);
        }
        if let (Some(kid), Some(key)) = (&config.acme_eab_kid, &config.acme_eab_hmac_key) {
            acme = acme.external_account(kid, key.expose());
        }
        builder = builder.acme(acme);
    }
    builder.build().map(Some)
}

/// Only those of files, which can be built without leaving a trace.
pub(crate) fn certificates_of_files(config: &Config) -> Result<Option<Certificates>, rproxy_tls::Error> {
    config.tls_cert.as_ref().map(|_| with_files(Certificates::builder(), config).build()).transpose()
}

fn with_files(builder: CertificatesBuilder, config: &Config) -> CertificatesBuilder {
    match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => builder.files(certificate, key),
        _ => builder,
    }
}
