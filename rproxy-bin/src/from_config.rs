//! Builds the layers, backends and certificates that a configuration describes.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;
use http::uri::InvalidUri;
use hyper::ext::Protocol;
use rproxy_cache::{CacheLayer, CacheStore, Disk, DiskError, RequestHead};
use rproxy_client_ip::{ClientIpLayer, ClientIpSource};
use rproxy_forward_headers::{ForwardHeadersLayer, TraceContext};
use rproxy_path_filter::PathFilterLayer;
use rproxy_security_headers::{CookieAttributes, SecurityHeadersLayer};
use rproxy_server::{ClientCertificateLayer, RequestGuardLayer};
use rproxy_tls::{Acme, Certificates, CertificatesBuilder, ClientAuth, LocalCa};
use rproxy_upstream::{Backends, BuildError, HealthCheck, ProxyError, ProxyErrorKind, Upstream};
use rproxy_ws_passthrough::WsPassthroughLayer;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::close_codes::CloseCodes;
use crate::compression::CompressionLayer;
use crate::config::{self, AccessLog, BlockedPathResponse, ClientAuthentication, Config, SecurityProfile, TlsHost};
use crate::error_response::ErrorResponseLayer;
use crate::observe::{Format, Metrics, ObserveLayer, Writer};
use crate::rate_limit::{RateLimit, RateLimitError};
use crate::stack::Stack;

/// An error that prevents the layer stack from being built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// The upstream cannot be built.
    #[error(transparent)]
    Upstream(#[from] BuildError),
    /// [`Config::upstream_health_path`] is not a valid path.
    #[error("bad upstream_health_path {0:?}")]
    HealthPath(String, #[source] InvalidUri),
    /// [`Config::upstream_server_name`] is not a valid name for a certificate.
    #[error("bad upstream_server_name {0:?}: neither a DNS name nor an address")]
    ServerName(String),
    /// A file does not contain a certificate or private key in PEM.
    #[error("cannot read a certificate or key from {}", file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// The reason.
        #[source]
        error: pem::Error,
    },
    /// The directory [`Config::cache_disk`] cannot be used.
    #[error("cannot open cache_disk")]
    CacheDisk(#[from] DiskError),
    /// The rate limit cannot be built.
    #[error(transparent)]
    RateLimit(#[from] RateLimitError),
    /// The thread of the access log cannot be started.
    #[error("cannot start the access log")]
    AccessLog(#[source] std::io::Error),
}

/// Builds the layer stack that `config` describes, to serve it in another program.
///
/// The server has to add the peer address to each request, as `rproxy_client_ip::PeerAddr` or, with the feature
/// `axum`, as axum's `ConnectInfo<SocketAddr>`. Without it, every response is a 500.
///
/// # Errors
///
/// Returns an error for problems that validation of the configuration cannot find: see [`StackError`].
///
/// # Examples
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
pub fn stack(config: &Config) -> Result<Stack, StackError> {
    let shared = ProcessState::new(config)?;
    shared.stack(config)
}

/// The state that survives a reload: metrics, cached responses, quotas and open tunnels.
#[derive(Clone, Debug)]
pub(crate) struct ProcessState {
    pub(crate) observe: ObserveLayer,
    pub(crate) cache: Option<CacheStore>,
    pub(crate) ws_passthrough: WsPassthroughLayer,
    pub(crate) close_codes: CloseCodes,
    pub(crate) rate_limit: Option<RateLimit>,
}

impl ProcessState {
    pub(crate) fn new(config: &Config) -> Result<Self, StackError> {
        let writer = || Writer::start(std::io::stdout()).map_err(StackError::AccessLog);
        let log = match config.access_log {
            AccessLog::Off => None,
            AccessLog::Text => Some((Format::Text, writer()?)),
            AccessLog::Json => Some((Format::Json, writer()?)),
        };
        let close_codes = CloseCodes::new();
        Ok(Self {
            observe: ObserveLayer::new(Metrics::new(), log),
            cache: config.cache_enabled.then(|| cache(config)).transpose()?,
            ws_passthrough: WsPassthroughLayer::new().on_close({
                let codes = close_codes.clone();
                move |summary| codes.count(summary.close_code())
            }),
            close_codes,
            rate_limit: config.rate_limit_enabled.then(|| RateLimit::new(config)).transpose()?,
        })
    }

    pub(crate) fn stack(&self, config: &Config) -> Result<Stack, StackError> {
        let cache = self.cache.clone().map(|store| {
            let fields = uncacheable_fields(config);
            // The cache recognises a WebSocket handshake by its key, which other upgrades do not have.
            let is_upgrade = |head: RequestHead<'_>| head.extensions.get::<Protocol>().is_some();
            let layer = match (&config.upgrades, fields.is_empty()) {
                (None, true) => CacheLayer::new(store),
                (Some(_), true) => CacheLayer::new(store).bypass_when(is_upgrade),
                (_, false) => CacheLayer::new(store).bypass_when(move |head| {
                    is_upgrade(head) || fields.iter().any(|name| head.headers.contains_key(name))
                }),
            };
            layer
                .paths(config.cache_paths.value().clone())
                .max_object(config.cache_max_object)
                .query(config.cache_query.clone())
                .no_vary_search(config.cache_no_vary_search)
                .set_cookie(config.cache_set_cookie)
                .heuristic_freshness(config.cache_heuristic)
                .request_directives(config.cache_request_directives)
                .status_key(config.cache_status_key)
                .unreachable_when(|head| {
                    // A request body that the client aborted does not mean that the backend is unreachable.
                    let error = head.extensions.get::<ProxyError>();
                    error.is_some_and(|error| error.kind() != ProxyErrorKind::HttpRequestError)
                })
        });
        Ok(Stack {
            client_ip: ClientIpLayer::new(config.trusted_proxies.value().clone()).source(config.client_ip_from.clone()),
            observe: self.observe.clone(),
            problem: ErrorResponseLayer::new()
                .close_on_blocked_path(config.filter_status == BlockedPathResponse::Close),
            security_headers: security_headers(config),
            guard: RequestGuardLayer::new().max_body(config.max_body).body_timeout(config.body_timeout),
            rate_limit: self.rate_limit.as_ref().map(|limit| limit.layer.clone()),
            path_filter: config.filter_enabled.then(|| {
                PathFilterLayer::new(config.blocked_paths.value().clone())
                    .status(config.filter_status.status())
                    .reject_ambiguous(config.filter_strict)
                    .shadow(config.filter_log_only)
            }),
            ws_passthrough: ws_passthrough(self.ws_passthrough.clone(), config),
            cache,
            compression: config.compression.then_some(CompressionLayer),
            forward_headers: forward_headers(config),
            client_certificate: match config.tls_client_auth {
                ClientAuthentication::Off => ClientCertificateLayer::off(),
                _ => client_certificate(config),
            },
            backends: backends(config)?,
        })
    }
}

impl Stack {
    /// Rejects with 421 all hosts that neither these certificates nor `hosts` cover.
    pub(crate) fn with_certificates(mut self, certificates: Certificates, hosts: Vec<TlsHost>) -> Self {
        self.guard = self.guard.serves(move |name, host| {
            certificates.covers(name, host) || hosts.iter().any(|served| served.matches(host))
        });
        self
    }
}

fn cache(config: &Config) -> Result<CacheStore, DiskError> {
    let store = CacheStore::in_memory(config.cache_size);
    Ok(match &config.cache_disk {
        Some(folder) => store.behind(Disk::open(folder, config.cache_disk_size)?),
        None => store,
    })
}

fn backends(config: &Config) -> Result<Backends, StackError> {
    let mut builder = Upstream::builder()
        .backends(config.upstream.iter().cloned())
        .balance(config.upstream_balance.to_balance())
        .timeout(config.upstream_timeout)
        .connect_timeout(config.upstream_connect_timeout)
        .read_timeout(config.upstream_read_timeout)
        .request_timeout(config.upstream_request_timeout)
        .max_connections(config.upstream_max_connections.map(NonZeroUsize::get))
        .http2_ping_interval(config.upstream_http2_ping_interval)
        .retries(config.upstream_retries)
        .hold(config.upstream_hold);
    if let Some(path) = &config.upstream_health_path {
        let check = HealthCheck::new(path).map_err(|error| StackError::HealthPath(path.clone(), error))?;
        let interval = config.upstream_health_interval;
        // A check must end before the next one starts.
        builder = builder.health_check(check.interval(interval).timeout(interval.min(Duration::from_secs(2))));
    }
    if let Some(file) = &config.upstream_ca {
        builder = builder.root_certificates(chain(file)?);
    }
    if let Some(name) = &config.upstream_server_name {
        builder = builder.server_name(name).map_err(|_| StackError::ServerName(name.clone()))?;
    }
    if let (Some(certificate), Some(key)) = (&config.upstream_cert, &config.upstream_key) {
        let parsed = PrivateKeyDer::from_pem_file(key);
        let parsed = parsed.map_err(|error| StackError::Pem { file: key.clone(), error })?;
        builder = builder.client_certificate(chain(certificate)?, parsed);
    }
    Ok(builder.build_backends()?)
}

/// Reads the certificates from a PEM file, at least one.
fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, StackError> {
    let bad = |error| StackError::Pem { file: file.to_owned(), error };
    let chain: Vec<_> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(bad)?;
    match chain.is_empty() {
        true => Err(bad(pem::Error::NoItemsFound)),
        false => Ok(chain),
    }
}

fn ws_passthrough(layer: WsPassthroughLayer, config: &Config) -> WsPassthroughLayer {
    if !config.ws_enabled {
        return layer.refuse_all();
    }
    let mut layer = layer
        .paths(config.ws_paths.value().clone())
        .idle_timeout(config.ws_idle_timeout)
        .ipv6_prefix(config.rate_ipv6_prefix);
    if let Some(origins) = &config.ws_origins {
        layer = layer.origins(origins.value().clone());
    }
    if let Some(protocols) = &config.upgrades {
        layer = layer.upgrades(protocols.value().clone());
    }
    if let Some(time) = config.ws_lifetime {
        layer = layer.lifetime(time);
    }
    if let Some(most) = config.ws_max_connections {
        layer = layer.max_tunnels(most.get());
    }
    if let Some(most) = config.ws_max_per_client {
        layer = layer.max_tunnels_per_client(most.get());
    }
    if let Some(bytes) = config.ws_max_message {
        layer = layer.max_message_size(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    if let Some(rate) = config.ws_message_rate {
        layer = layer.message_rate(rate);
    }
    if let Some(interval) = config.ws_ping_interval {
        layer = layer.ping(interval, Duration::from_secs(10));
    }
    layer
}

fn client_certificate(config: &Config) -> ClientCertificateLayer {
    let mut layer = ClientCertificateLayer::new();
    if let Some(field) = &config.tls_client_subject {
        layer = layer.subject(field.clone());
    }
    if let Some(field) = &config.tls_client_fingerprint {
        layer = layer.fingerprint(field.clone());
    }
    layer
}

fn security_headers(config: &Config) -> SecurityHeadersLayer {
    let mut layer = match config.security_headers {
        SecurityProfile::Recommended => SecurityHeadersLayer::recommended(),
        SecurityProfile::Strict => SecurityHeadersLayer::strict(),
        SecurityProfile::Api => SecurityHeadersLayer::api(),
        SecurityProfile::Minimal => SecurityHeadersLayer::minimal(),
    };
    if let Some(policy) = &config.content_security_policy {
        layer = layer.content_security_policy(policy.as_str());
    }
    if let Some(policy) = &config.content_security_policy_report_only {
        layer = layer.content_security_policy_report_only(policy.as_str());
    }
    layer = layer.nonce_field(config.csp_nonce_header.clone());
    if let Some(policy) = &config.permissions_policy {
        layer = layer.permissions_policy(policy.clone());
    }
    if let Some(endpoints) = &config.reporting_endpoints {
        layer = layer.reporting_endpoints(endpoints.clone());
    }
    if let Some(policy) = config.hsts_policy {
        layer = layer.hsts(policy);
    }
    if !config.hsts {
        layer = layer.without_hsts();
    }
    if config.harden_cookies {
        layer = layer.cookies(CookieAttributes::hardened());
    }
    config.keep_headers.iter().cloned().fold(layer, SecurityHeadersLayer::keep_header)
}

/// Returns the fields to accept from trusted proxies, including that of the client address, which is forwarded.
fn trusted_fields(config: &Config) -> impl Iterator<Item = &HeaderName> {
    let of_client = match &config.client_ip_from {
        ClientIpSource::Header(name) if !config.hide_client => Some(name),
        _ => None,
    };
    config.trusted_fields.iter().chain(of_client)
}

/// Returns the trusted fields that are not part of the cache key but may affect the response, such as a user name or
/// path prefix.
fn uncacheable_fields(config: &Config) -> Vec<HeaderName> {
    let is_in_key = |name: &HeaderName| *name == "x-forwarded-host" || *name == "x-forwarded-port";
    config.trusted_fields.iter().filter(|name| !is_in_key(name)).cloned().collect()
}

fn forward_headers(config: &Config) -> ForwardHeadersLayer {
    let layer = ForwardHeadersLayer::new().via("rproxy").hide_client(config.hide_client);
    let layer = layer.trace_context(match config.trace_context {
        config::TraceContext::Pass => TraceContext::Forward,
        config::TraceContext::Begin => TraceContext::Start,
        config::TraceContext::Restart => TraceContext::Restart,
    });
    let layer = trusted_fields(config).fold(layer, |layer, name| layer.trust_field(name.clone()));
    match &config.forwarded_by {
        Some(name) if config.forwarded => layer.forwarded_by(name),
        _ => layer.forwarded(config.forwarded),
    }
}

/// Builds the certificates to serve, if TLS is enabled.
pub(crate) fn certificates(config: &Config) -> Result<Option<Certificates>, rproxy_tls::Error> {
    if !config.is_tls_enabled() {
        return Ok(None);
    }
    let mut builder = with_protocol(with_files(Certificates::builder(), config), config);
    if let Some(path) = &config.tls_key_log {
        builder = builder.key_log(path);
    }
    if config.tls_local {
        let names = config.tls_domains.iter().map(|name| name.as_str().to_owned());
        builder = builder.local(LocalCa::new(&config.tls_cache_dir).names(names));
    }
    if !config.acme_domains().is_empty() {
        let names = config.acme_domains().iter().map(|name| name.as_str().to_owned());
        let acme = Acme::new(&config.tls_cache_dir).directory(config.acme_directory.to_string());
        let acme = if config.acme_one_certificate { acme.certificate(names) } else { acme.domains(names) };
        let mut acme = acme.self_signed_fallback(config.acme_self_signed_fallback);
        if let Some(contact) = &config.tls_email {
            acme = acme.contact(contact);
        }
        if let Some(ca) = &config.acme_ca {
            acme = acme.directory_ca_file(ca);
        }
        if let (Some(kid), Some(key)) = (&config.acme_eab_kid, &config.acme_eab_hmac_key) {
            acme = acme.external_account(kid, key.expose());
        }
        #[cfg(feature = "redis")]
        if let Some(url) = &config.acme_redis {
            acme = acme.redis(url.expose());
        }
        builder = builder.acme(acme);
    }
    builder.build().map(Some)
}

/// Builds the certificates from files only, which has no side effects.
pub(crate) fn file_certificates(config: &Config) -> Result<Option<Certificates>, rproxy_tls::Error> {
    let builder = || with_protocol(with_files(Certificates::builder(), config), config);
    (!config.tls_cert.is_empty()).then(|| builder().build()).transpose()
}

fn with_files(builder: CertificatesBuilder, config: &Config) -> CertificatesBuilder {
    // A missing response is the same as none.
    let responses = config.tls_ocsp.iter().map(Option::as_ref).chain(std::iter::repeat(None));
    config.tls_cert.iter().zip(&config.tls_key).zip(responses).fold(
        builder,
        |builder, ((cert, key), ocsp)| match ocsp {
            Some(ocsp) => builder.files_with_ocsp(cert, key, ocsp),
            None => builder.files(cert, key),
        },
    )
}

fn with_protocol(builder: CertificatesBuilder, config: &Config) -> CertificatesBuilder {
    let mut builder = builder.min_version(config.tls_min_version);
    if let Some(suites) = &config.tls_ciphers {
        builder = builder.cipher_suites(suites.clone());
    }
    match (config.tls_client_auth, &config.tls_client_ca) {
        (ClientAuthentication::Optional, Some(ca)) => builder.client_auth(ClientAuth::optional(ca)),
        (ClientAuthentication::Required, Some(ca)) => builder.client_auth(ClientAuth::required(ca)),
        _ => builder,
    }
}
