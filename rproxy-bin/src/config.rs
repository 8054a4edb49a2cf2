//! The configuration: one typed [`Config`], read from a TOML file, the environment and the command line.
//!
//! Each setting has one name, spelled according to its source. A later source overrides an earlier one:
//!
//! | Source | Spelling |
//! |---|---|
//! | file (TOML, one flat table) | `rate_limit = 50` |
//! | environment | `RPROXY_RATE_LIMIT=50` |
//! | command line | `--rate-limit 50` |
//!
//! A list is a comma-separated string, in the file also an array: `tls_domains = ["a.example", "b.example"]`. Unknown
//! names, invalid values and conflicting settings are errors, and [`ConfigError`] reports all of them at once.
//! [`settings()`] lists the settings; [`reference()`] returns that list as Markdown.
//!
//! ```
//! use rproxy::Config;
//! use rproxy::config::{AccessLog, Sources};
//!
//! # fn main() -> Result<(), rproxy::ConfigError> {
//! // From a given environment instead of that of the process:
//! let config = Sources::new().env([("RPROXY_UPSTREAM", "https://app.internal")]).load()?;
//! assert_eq!(config.upstream[0].to_string(), "https://app.internal:443");
//!
//! // In code:
//! let mut config = Config::default();
//! config.tls_local = true;
//! config.access_log = AccessLog::Json;
//! config.validate()?;
//! assert_eq!(config.listeners()[0].to_string(), "0.0.0.0:443");
//! # Ok(())
//! # }
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Uri};
use rproxy_cache::{CachePaths, QueryRules, SetCookie};
use rproxy_client_ip::{ClientIpSource, TrustedProxies};
use rproxy_path_filter::PathRules;
use rproxy_security_headers::{Hsts, PermissionsPolicy, ReportingEndpoints};
use rproxy_server::{Limits, Listen};
use rproxy_tls::{CipherSuites, TlsVersion};
use rproxy_upstream::Backend;
use rproxy_ws_passthrough::{UpgradeProtocols, WsOrigins, WsPaths};

use self::source::ValueSources;

pub use self::balance::UpstreamBalance;
pub use self::choice::{
    AccessLog, ClientAuthentication, HalfCloseRule, LogFilter, ProxyProtocol, Secret, SecurityProfile, TraceContext,
};
pub use self::error::{ConfigError, Problem, SettingLocation};
pub use self::filter::BlockedPathResponse;
pub use self::listen::HttpPort;
pub use self::parsed::Parsed;
pub use self::rate_limit::{Ipv6Tier, Ipv6Tiers, RateLimitFallback, RateLimitStorage};
pub use self::reference::{reference, summary};
pub use self::report::Report;
pub use self::settings::{DefaultValue, Setting, settings};
pub(crate) use self::settings::{RENAMED, find};
pub use self::source::{Sources, ValueSource};
pub use self::tls_name::{TlsHost, TlsName};
pub use self::value::ParseError;

mod balance;
mod choice;
mod defaults;
mod environment;
mod error;
mod file;
mod filter;
mod listen;
mod parsed;
mod paths;
mod rate_limit;
mod reference;
mod report;
mod rules;
mod settings;
mod source;
mod tls;
mod tls_name;
mod upstream;
mod value;

/// The configuration of the proxy.
///
/// [`settings()`] describes each field. `Default` is the configuration without any setting.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The listen addresses; if empty, port 443 with TLS and 8080 without. See [`listeners`](Self::listeners).
    pub listen: Vec<Listen>,
    /// The plain listener that redirects to HTTPS. See [`redirect_port`](Self::redirect_port).
    pub http_port: HttpPort,
    /// Whether listeners without TLS accept HTTP/2 with prior knowledge.
    pub h2c: bool,
    /// The backends to forward requests to.
    pub upstream: Vec<Backend>,
    /// The load balancing policy.
    pub upstream_balance: UpstreamBalance,
    /// The maximum time to the response head of the upstream.
    pub upstream_timeout: Duration,
    /// The maximum time to connect to a backend.
    pub upstream_connect_timeout: Duration,
    /// The maximum time between two parts of a response body.
    pub upstream_read_timeout: Duration,
    /// The maximum time from a request to the end of its response; `None` for no limit.
    pub upstream_request_timeout: Option<Duration>,
    /// The maximum number of HTTP/1.1 connections per backend; `None` for no limit.
    pub upstream_max_connections: Option<NonZeroUsize>,
    /// The idle time after which a PING is sent on an HTTP/2 connection; `None` for no pings.
    pub upstream_http2_ping_interval: Option<Duration>,
    /// The number of retries of safe requests on another backend.
    pub upstream_retries: u32,
    /// How long requests wait while no backend is reachable.
    pub upstream_hold: Duration,
    /// The path of health checks; `None` for no health checks.
    pub upstream_health_path: Option<String>,
    /// The time between two health checks.
    pub upstream_health_interval: Duration,
    /// A PEM file with the certificate authorities for backends; `None` for those of the system.
    pub upstream_ca: Option<PathBuf>,
    /// The server name to require in certificates of backends; `None` for the backend's host.
    pub upstream_server_name: Option<String>,
    /// A PEM client certificate chain for backends.
    pub upstream_cert: Option<PathBuf>,
    /// The private key of [`upstream_cert`](Self::upstream_cert).
    pub upstream_key: Option<PathBuf>,
    /// The names to obtain certificates for: by ACME, or from the local authority with
    /// [`tls_local`](Self::tls_local).
    pub tls_domains: Vec<TlsName>,
    /// The contact address for the ACME account.
    pub tls_email: Option<String>,
    /// The directory of the ACME account and certificates.
    pub tls_cache_dir: PathBuf,
    /// The URL of the ACME directory.
    pub acme_directory: Uri,
    /// A PEM file with root certificates for the TLS of the ACME directory; `None` for the web PKI roots.
    pub acme_ca: Option<PathBuf>,
    /// External account binding: the key identifier.
    pub acme_eab_kid: Option<String>,
    /// External account binding: the HMAC key, in base64url.
    pub acme_eab_hmac_key: Option<Secret>,
    /// PEM certificate chains; clients that send no server name, or an unknown one, get the first.
    pub tls_cert: Vec<PathBuf>,
    /// The private key of each [`tls_cert`](Self::tls_cert).
    pub tls_key: Vec<PathBuf>,
    /// The OCSP response for each [`tls_cert`](Self::tls_cert), if any; empty for no responses.
    pub tls_ocsp: Vec<Option<PathBuf>>,
    /// The minimum TLS version.
    pub tls_min_version: TlsVersion,
    /// The cipher suites to offer; `None` for all secure ones.
    pub tls_ciphers: Option<CipherSuites>,
    /// Whether client certificates are requested.
    pub tls_client_auth: ClientAuthentication,
    /// A PEM file with the certificate authorities for client certificates.
    pub tls_client_ca: Option<PathBuf>,
    /// The request header field that sends the upstream the subject of the client certificate.
    pub tls_client_subject: Option<HeaderName>,
    /// The request header field that sends the upstream the fingerprint of the client certificate.
    pub tls_client_fingerprint: Option<HeaderName>,
    /// A file to which TLS session secrets are appended.
    pub tls_key_log: Option<PathBuf>,
    /// Whether one ACME certificate is ordered for all names.
    pub acme_one_certificate: bool,
    /// The Redis or Valkey server in which several machines share their ACME state.
    pub acme_redis: Option<Secret>,
    /// Whether a self-signed certificate is served until the ACME certificate is issued.
    pub acme_self_signed_fallback: bool,
    /// Whether a local certificate authority issues the certificates.
    pub tls_local: bool,
    /// Further hosts to serve over TLS, besides those that a certificate covers.
    pub tls_hosts: Vec<TlsHost>,
    /// Whether the request rate of clients is limited.
    pub rate_limit_enabled: bool,
    /// Requests per second per client.
    pub rate_limit: NonZeroU32,
    /// The number of requests that a client may send at once.
    pub rate_burst: NonZeroU32,
    /// The prefix length by which IPv6 addresses count as one client, 1 to 128.
    pub rate_ipv6_prefix: u8,
    /// Additional quotas for IPv6 networks.
    pub rate_ipv6_tiers: Ipv6Tiers,
    /// The maximum number of concurrent requests per client; `None` for no limit.
    pub rate_max_in_flight: Option<NonZeroU32>,
    /// The clients exempt from the rate limit.
    pub rate_exempt: Parsed<TrustedProxies>,
    /// The paths exempt from the rate limit; `None` for no paths.
    pub rate_exempt_paths: Option<Parsed<CachePaths>>,
    /// Whether requests over the limit are forwarded, and only recorded (shadow mode).
    pub rate_shadow: bool,
    /// The store of quotas.
    pub rate_limit_store: RateLimitStorage,
    /// The handling of requests while the store is unavailable.
    pub rate_limit_fallback: RateLimitFallback,
    /// The maximum time to wait for the store.
    pub rate_limit_store_timeout: Duration,
    /// Whether responses are cached.
    pub cache_enabled: bool,
    /// The memory for the cache, in bytes.
    pub cache_size: u64,
    /// The paths whose responses may be cached.
    pub cache_paths: Parsed<CachePaths>,
    /// The maximum size of a stored body, in bytes.
    pub cache_max_object: u64,
    /// The directory of the disk cache; `None` for memory only.
    pub cache_disk: Option<PathBuf>,
    /// The maximum size of the disk cache, in bytes.
    pub cache_disk_size: u64,
    /// The normalisation of the query in cache keys.
    pub cache_query: QueryRules,
    /// Whether the `No-Vary-Search` response header is honoured.
    pub cache_no_vary_search: bool,
    /// The handling of `Set-Cookie` in cacheable responses.
    pub cache_set_cookie: SetCookie,
    /// Whether responses without a lifetime get a heuristic one (RFC 9111 §4.2.2).
    pub cache_heuristic: bool,
    /// Whether cache directives in requests are honoured (RFC 9111 §5.2.1).
    pub cache_request_directives: bool,
    /// Whether `Cache-Status` includes the cache key.
    pub cache_status_key: bool,
    /// Whether responses are compressed.
    pub compression: bool,
    /// Whether TLS responses get `Strict-Transport-Security`.
    pub hsts: bool,
    /// The value of `Strict-Transport-Security`; `None` for that of the profile.
    pub hsts_policy: Option<Hsts>,
    /// The profile of security headers.
    pub security_headers: SecurityProfile,
    /// The `Content-Security-Policy` for documents that have none; `None` for that of the profile.
    pub content_security_policy: Option<String>,
    /// The `Content-Security-Policy-Report-Only` for documents.
    pub content_security_policy_report_only: Option<String>,
    /// The request header field that sends the backend the nonce of a policy.
    pub csp_nonce_header: HeaderName,
    /// The `Permissions-Policy` for documents that have none; `None` for that of the profile.
    pub permissions_policy: Option<PermissionsPolicy>,
    /// The endpoints to which browsers send reports.
    pub reporting_endpoints: Option<ReportingEndpoints>,
    /// The response header fields to keep although they reveal the server software.
    pub keep_headers: Vec<HeaderName>,
    /// Whether `Secure` (over TLS) and `SameSite=Lax` are added to cookies that do not set them.
    pub harden_cookies: bool,
    /// Whether requests for blocked paths are rejected.
    pub filter_enabled: bool,
    /// The blocked paths.
    pub blocked_paths: Parsed<PathRules>,
    /// The response to blocked paths.
    pub filter_status: BlockedPathResponse,
    /// Whether ambiguous paths are rejected.
    pub filter_strict: bool,
    /// Whether requests for blocked paths are forwarded, and only recorded (shadow mode).
    pub filter_log_only: bool,
    /// Whether WebSocket upgrades are forwarded.
    pub ws_enabled: bool,
    /// The paths on which upgrades are forwarded.
    pub ws_paths: Parsed<WsPaths>,
    /// The web origins that may open a WebSocket; `None` for any.
    pub ws_origins: Option<Parsed<WsOrigins>>,
    /// The protocols other than WebSocket to which upgrades are forwarded; `None` for no others.
    pub upgrades: Option<Parsed<UpgradeProtocols>>,
    /// The idle time after which a WebSocket is closed.
    pub ws_idle_timeout: Duration,
    /// The time after which a WebSocket is closed even if it is active; `None` for no limit.
    pub ws_lifetime: Option<Duration>,
    /// The maximum number of open WebSockets; `None` for no limit.
    pub ws_max_connections: Option<NonZeroUsize>,
    /// The maximum number of open WebSockets per client; `None` for no limit.
    pub ws_max_per_client: Option<NonZeroUsize>,
    /// The maximum size of a WebSocket message; `None` for no limit.
    pub ws_max_message: Option<u64>,
    /// The maximum number of WebSocket messages per second from one client; `None` for no limit.
    pub ws_message_rate: Option<NonZeroU32>,
    /// The interval of pings to both ends of a WebSocket; `None` for no pings.
    pub ws_ping_interval: Option<Duration>,
    /// The proxies trusted for the client address, the scheme and the request ID.
    pub trusted_proxies: Parsed<TrustedProxies>,
    /// Further request header fields to accept from trusted proxies.
    pub trusted_fields: Vec<HeaderName>,
    /// The request header field in which trusted proxies send the client address.
    pub client_ip_from: ClientIpSource,
    /// The PROXY protocol version that trusted proxies send.
    pub proxy_protocol: ProxyProtocol,
    /// Whether the upstream receives `Forwarded`, too.
    pub forwarded: bool,
    /// The name of this proxy in the `by` parameter of `Forwarded`.
    pub forwarded_by: Option<String>,
    /// Whether client addresses are hidden from the upstream.
    pub hide_client: bool,
    /// The handling of `traceparent`.
    pub trace_context: TraceContext,
    /// The maximum size of a request body, in bytes; `None` for no limit.
    pub max_body: Option<u64>,
    /// The maximum time between two parts of a request body.
    pub body_timeout: Duration,
    /// The limits on client connections.
    pub limits: Limits,
    /// The handling of HTTP/1 clients that close their sending side before the response.
    pub half_close: HalfCloseRule,
    /// The number of workers; `None` for one per core. See [`worker_count`](Self::worker_count).
    pub workers: Option<NonZeroUsize>,
    /// The maximum time for in-flight requests to finish during a graceful shutdown.
    pub drain_timeout: Duration,
    /// The Unix socket for handing over the listeners to a new process.
    pub handover_socket: Option<PathBuf>,
    /// The address of the admin listener.
    pub admin_listen: Option<Listen>,
    /// The host names for which the admin listener accepts requests, besides IP addresses and `localhost`.
    pub admin_hosts: Vec<String>,
    /// The format of the access log.
    pub access_log: AccessLog,
    /// The filter for the log of the proxy itself.
    pub log_level: LogFilter,
    value_sources: ValueSources,
    /// Warnings about former names of settings.
    deprecations: Vec<String>,
    sources: Arc<Sources>,
}

impl Config {
    /// Loads the configuration from the environment of the process.
    ///
    /// # Errors
    ///
    /// Returns an error that lists all problems.
    pub fn from_env() -> Result<Self, ConfigError> {
        Sources::new().process_env().load()
    }

    /// Loads the configuration from a TOML file only.
    ///
    /// # Errors
    ///
    /// Returns an error that lists all problems by line.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        Sources::new().file(path).load()
    }

    /// Loads the configuration from `sources`.
    ///
    /// # Errors
    ///
    /// Returns an error that lists all problems.
    pub fn load(sources: Sources) -> Result<Self, ConfigError> {
        sources.load()
    }

    /// Loads the configuration again from the same sources, with the current content of the file.
    ///
    /// # Errors
    ///
    /// Returns an error that lists all problems. The current configuration stays valid.
    pub fn reload(&self) -> Result<Self, ConfigError> {
        Sources::clone(&self.sources).load()
    }

    /// Checks for conflicting settings and unreadable files.
    ///
    /// Loading a configuration includes this check. Call it for a configuration that was created or changed in code.
    ///
    /// # Errors
    ///
    /// Returns an error that lists all problems.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        rules::check(self, &Default::default(), &mut problems);
        ConfigError::unless_empty(problems)
    }

    /// Returns warnings about settings that have no effect, or perhaps an unintended one.
    pub fn warnings(&self) -> Vec<String> {
        rules::warnings(self)
    }

    /// Returns whether the main listeners use TLS.
    pub fn is_tls_enabled(&self) -> bool {
        self.tls_local || !self.tls_domains.is_empty() || !self.tls_cert.is_empty()
    }

    /// Returns the names to obtain certificates for by ACME, which are none if a local authority issues them.
    pub fn acme_domains(&self) -> &[TlsName] {
        match self.tls_local {
            true => &[],
            false => &self.tls_domains,
        }
    }

    /// Returns the addresses of the main listeners.
    pub fn listeners(&self) -> Vec<Listen> {
        let every = |port| vec![Listen::Tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))];
        match (self.listen.is_empty(), self.is_tls_enabled()) {
            (false, _) => self.listen.clone(),
            (true, true) => every(443),
            (true, false) => every(8080),
        }
    }

    /// Returns the port of the plain listener that redirects to HTTPS.
    pub fn redirect_port(&self) -> Option<NonZeroU16> {
        match self.http_port {
            HttpPort::Auto if self.is_tls_enabled() => NonZeroU16::new(80),
            HttpPort::Auto | HttpPort::Off => None,
            HttpPort::On(port) => Some(port),
        }
    }

    /// Returns the addresses of the plain listeners that redirect to HTTPS: those of the main listeners, with the
    /// redirect port.
    pub fn redirect_listeners(&self) -> Vec<Listen> {
        let Some(port) = self.redirect_port() else { return Vec::new() };
        let mut ips: Vec<IpAddr> = Vec::new();
        for listener in self.listeners() {
            if let Listen::Tcp(address) = listener
                && !ips.contains(&address.ip())
            {
                ips.push(address.ip());
            }
        }
        ips.into_iter().map(|ip| Listen::Tcp(SocketAddr::new(ip, port.get()))).collect()
    }

    /// Returns the number of workers: as configured, or one per core.
    pub fn worker_count(&self) -> NonZeroUsize {
        self.workers.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }

    /// Returns the source of the value of a setting, by its key.
    pub fn value_source(&self, key: &str) -> ValueSource {
        self.value_sources.get(key).cloned().unwrap_or(ValueSource::Default)
    }

    /// Returns the configuration of the demo: TLS with a local authority on a loopback port, without an upstream,
    /// which the demo adds.
    pub(crate) fn demo(state: &Path) -> Self {
        Self {
            listen: vec![Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8443)))],
            http_port: HttpPort::Off,
            upstream: Vec::new(),
            tls_local: true,
            tls_cache_dir: state.to_owned(),
            ..Self::default()
        }
    }
}
