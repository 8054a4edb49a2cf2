//! What the proxy is told: one typed [`Config`], read from a TOML file, the environment and the command line.
//!
//! Each setting has one name in three spellings, and the later source wins:
//!
//! | Source | Spelling |
//! |---|---|
//! | file (TOML, one flat table) | `rate_limit = 50` |
//! | environment | `RPROXY_RATE_LIMIT=50` |
//! | command line | `--rate-limit 50` |
//!
//! A list is a comma-separated text, in the file also an array: `tls_domains = ["a.example", "b.example"]`. Whatever
//! is not understood is an error: a name that no setting has, a value that its setting does not take, settings that
//! contradict each other. [`ConfigError`] names all of them at once. [`settings()`] is the list of settings;
//! [`reference()`] writes it as Markdown.
//!
//! ```
//! use rproxy::Config;
//! use rproxy::config::{AccessLog, Sources};
//!
//! # fn main() -> Result<(), rproxy::ConfigError> {
//! // As the binary does it, but with an environment of our own:
//! let config = Sources::new().env([("RPROXY_UPSTREAM", "https://app.internal")]).load()?;
//! assert_eq!(config.upstream[0].to_string(), "https://app.internal:443");
//!
//! // Or in code:
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

/// Everything that the proxy can be told. [`settings()`] describes each field; `Default` is the proxy as it is when
/// nothing is set.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen; when empty, port 443 with TLS and 8080 without. See [`listeners`](Self::listeners).
    pub listen: Vec<Listen>,
    /// The plain listener that sends browsers to https. See [`redirect_port`](Self::redirect_port).
    pub http_port: HttpPort,
    /// Whether listeners without TLS accept HTTP/2 with prior knowledge.
    pub h2c: bool,
    /// Where requests go.
    pub upstream: Vec<Backend>,
    /// Which of several backends a request goes to.
    pub upstream_balance: UpstreamBalance,
    /// Time to the upstream's response head.
    pub upstream_timeout: Duration,
    /// Time to a connection with a backend.
    pub upstream_connect_timeout: Duration,
    /// Time from one part of a response body to the next.
    pub upstream_read_timeout: Duration,
    /// Time for a whole exchange; `None` for any time.
    pub upstream_request_timeout: Option<Duration>,
    /// HTTP/1.1 connections to each backend; `None` for any number.
    pub upstream_max_connections: Option<NonZeroUsize>,
    /// Silence on an HTTP/2 connection after which a PING is sent; `None` for no pings.
    pub upstream_http2_ping_interval: Option<Duration>,
    /// How often a request is sent to another backend, where that is safe.
    pub upstream_retries: u32,
    /// How long requests wait for a backend that can't be reached.
    pub upstream_hold: Duration,
    /// What backends are asked to know of their health; `None` for nothing.
    pub upstream_health_path: Option<String>,
    /// Time from one question to the next.
    pub upstream_health_interval: Duration,
    /// A PEM file with the authorities that vouch for backends; `None` for those of the system.
    pub upstream_ca: Option<PathBuf>,
    /// The name that certificates of backends have to be for; `None` for the backend's host.
    pub upstream_server_name: Option<String>,
    /// A PEM certificate chain to show to backends.
    pub upstream_cert: Option<PathBuf>,
    /// The private key of [`upstream_cert`](Self::upstream_cert).
    pub upstream_key: Option<PathBuf>,
    /// Names to have certificates for: by ACME, or made locally with [`tls_local`](Self::tls_local).
    pub tls_domains: Vec<TlsName>,
    /// The ACME contact.
    pub tls_email: Option<String>,
    /// Where the ACME account and certificates are kept.
    pub tls_cache_dir: PathBuf,
    /// The ACME directory.
    pub acme_directory: Uri,
    /// A PEM file that vouches for the directory's own TLS; `None` for the web PKI's roots.
    pub acme_ca: Option<PathBuf>,
    /// External account binding: the key identifier.
    pub acme_eab_kid: Option<String>,
    /// External account binding: the HMAC key, in base64url.
    pub acme_eab_hmac_key: Option<Secret>,
    /// PEM certificate chains, the first for clients that name no host or an unknown one.
    pub tls_cert: Vec<PathBuf>,
    /// The private key of each [`tls_cert`](Self::tls_cert).
    pub tls_key: Vec<PathBuf>,
    /// An OCSP response for each [`tls_cert`](Self::tls_cert), or none; empty for none at all.
    pub tls_ocsp: Vec<Option<PathBuf>>,
    /// The oldest version of TLS that is spoken.
    pub tls_min_version: TlsVersion,
    /// The cipher suites that are spoken; `None` for all that are safe.
    pub tls_ciphers: Option<CipherSuites>,
    /// Whether clients are asked for certificates.
    pub tls_client_auth: ClientAuthentication,
    /// A PEM file with the authorities that vouch for clients.
    pub tls_client_ca: Option<PathBuf>,
    /// The field in which the upstream gets the subject of the client's certificate.
    pub tls_client_subject: Option<HeaderName>,
    /// The field in which it gets the fingerprint.
    pub tls_client_fingerprint: Option<HeaderName>,
    /// A file for the secrets of TLS sessions.
    pub tls_key_log: Option<PathBuf>,
    /// Whether all names stand on one certificate.
    pub acme_one_certificate: bool,
    /// The Redis or Valkey that machines behind one address share.
    pub acme_redis: Option<Secret>,
    /// Whether a self-signed certificate serves until there is one.
    pub acme_stand_in: bool,
    /// Whether a local authority makes the certificates.
    pub tls_local: bool,
    /// Hosts that are served over TLS beside those that the certificates name.
    pub tls_hosts: Vec<TlsHost>,
    /// Whether clients are held to a rate.
    pub rate_limit_enabled: bool,
    /// Requests per second per client.
    pub rate_limit: NonZeroU32,
    /// Requests that a client may make at once.
    pub rate_burst: NonZeroU32,
    /// IPv6 clients are counted per prefix of this length, 1 to 128.
    pub rate_ipv6_prefix: u8,
    /// Quotas that all clients of an IPv6 network share.
    pub rate_ipv6_tiers: Ipv6Tiers,
    /// Requests that one client may have in progress; `None` for any number.
    pub rate_max_in_flight: Option<NonZeroU32>,
    /// Who is not counted.
    pub rate_exempt: Parsed<TrustedProxies>,
    /// Which paths are not counted; `None` for none.
    pub rate_exempt_paths: Option<Parsed<CachePaths>>,
    /// Whether what is beyond the rate passes all the same, and is only noted.
    pub rate_shadow: bool,
    /// Where what is left of quotas is kept.
    pub rate_limit_store: RateLimitStorage,
    /// What becomes of requests that a store does not answer.
    pub rate_limit_fallback: RateLimitFallback,
    /// How long a request waits for a store.
    pub rate_limit_store_timeout: Duration,
    /// Whether responses are cached.
    pub cache_enabled: bool,
    /// Memory for the cache, in bytes.
    pub cache_size: u64,
    /// Paths that the cache serves.
    pub cache_paths: Parsed<CachePaths>,
    /// The largest body that is stored, in bytes.
    pub cache_max_object: u64,
    /// The folder where responses are kept, too.
    pub cache_disk: Option<PathBuf>,
    /// How much may be kept there, in bytes.
    pub cache_disk_size: u64,
    /// What of a query does not tell one resource from another.
    pub cache_query: QueryRules,
    /// Whether responses may say so themselves.
    pub cache_no_vary_search: bool,
    /// What becomes of `Set-Cookie` in responses that are stored.
    pub cache_set_cookie: SetCookie,
    /// Whether a lifetime may be guessed for responses that say nothing of it: RFC 9111 §4.2.2.
    pub cache_heuristic: bool,
    /// Whether clients may send their requests past a fresh response: RFC 9111 §5.2.1.
    pub cache_request_directives: bool,
    /// Whether `Cache-Status` tells the key.
    pub cache_status_key: bool,
    /// Whether responses are compressed.
    pub compression: bool,
    /// Whether TLS responses carry `Strict-Transport-Security`.
    pub hsts: bool,
    /// The `Strict-Transport-Security` that they carry; `None` for that of the profile.
    pub hsts_policy: Option<Hsts>,
    /// The profile of headers that responses get.
    pub security_headers: SecurityProfile,
    /// The policy for documents that have none of their own.
    pub content_security_policy: Option<String>,
    /// A policy that is only reported on.
    pub content_security_policy_report_only: Option<String>,
    /// The request field in which the application is told the nonce of a policy.
    pub csp_nonce_header: HeaderName,
    /// The `Permissions-Policy` of documents that have none of their own; `None` for that of the profile.
    pub permissions_policy: Option<PermissionsPolicy>,
    /// Where browsers report to.
    pub reporting_endpoints: Option<ReportingEndpoints>,
    /// Fields that stay in responses, though they tell which software made them.
    pub keep_headers: Vec<HeaderName>,
    /// Whether cookies get `Secure` (over TLS) and `SameSite=Lax` where they say nothing of it.
    pub harden_cookies: bool,
    /// Whether blocked paths are refused.
    pub filter_enabled: bool,
    /// Paths that are refused.
    pub blocked_paths: Parsed<PathRules>,
    /// What they are answered.
    pub filter_status: BlockedPathResponse,
    /// Whether paths with more readings than one are refused, too.
    pub filter_strict: bool,
    /// Whether they are only logged, and passed on.
    pub filter_log_only: bool,
    /// Whether WebSocket upgrades are passed on.
    pub ws_enabled: bool,
    /// Where they are passed on.
    pub ws_paths: Parsed<WsPaths>,
    /// Whose pages may open a WebSocket; `None` for any.
    pub ws_origins: Option<Parsed<WsOrigins>>,
    /// What else than a WebSocket may be upgraded to; `None` for nothing.
    pub upgrades: Option<Parsed<UpgradeProtocols>>,
    /// Silence after which a WebSocket is closed.
    pub ws_idle_timeout: Duration,
    /// Time after which a WebSocket is closed, whatever goes on; `None` for any time.
    pub ws_lifetime: Option<Duration>,
    /// WebSockets that may be open; `None` for any number.
    pub ws_max_connections: Option<NonZeroUsize>,
    /// WebSockets that one client may have open; `None` for any number.
    pub ws_max_per_client: Option<NonZeroUsize>,
    /// Bytes that a message may have; `None` for bytes rather than messages, unless one of the next two is set.
    pub ws_max_message: Option<u64>,
    /// Messages that one client may send in a second; `None` for any number.
    pub ws_message_rate: Option<NonZeroU32>,
    /// How often both ends of a WebSocket are pinged; `None` for never.
    pub ws_ping_interval: Option<Duration>,
    /// Proxies that are believed about the client's address, the scheme and the request id.
    pub trusted_proxies: Parsed<TrustedProxies>,
    /// More fields that they are believed about.
    pub trusted_fields: Vec<HeaderName>,
    /// The field in which they name the client.
    pub client_ip_from: ClientIpSource,
    /// Whether trusted peers send a PROXY protocol header.
    pub proxy_protocol: ProxyProtocol,
    /// Whether the upstream gets `Forwarded` as well.
    pub forwarded: bool,
    /// This proxy's name in it.
    pub forwarded_by: Option<String>,
    /// Whether the upstream learns no addresses.
    pub hide_client: bool,
    /// What becomes of `traceparent`.
    pub trace_context: TraceContext,
    /// The largest request body, in bytes; `None` for no limit.
    pub max_body: Option<u64>,
    /// Time from one part of a request body to the next.
    pub body_timeout: Duration,
    /// What clients may make the server hold, and for how long.
    pub limits: Limits,
    /// When an HTTP/1 client that ends its side of the connection has left.
    pub half_close: HalfCloseRule,
    /// How many workers; `None` for one per core. See [`worker_count`](Self::worker_count).
    pub workers: Option<NonZeroUsize>,
    /// Time that open requests get once the proxy is to end.
    pub drain_timeout: Duration,
    /// The Unix socket by which a new process takes the listeners of this one.
    pub takeover: Option<PathBuf>,
    /// Where health, metrics and cache purging are served.
    pub admin_listen: Option<Listen>,
    /// Names under which it is requested, beside its addresses and `localhost`.
    pub admin_hosts: Vec<String>,
    /// What is written about each request.
    pub access_log: AccessLog,
    /// What the proxy logs of itself.
    pub log_level: LogFilter,
    value_sources: ValueSources,
    sources: Arc<Sources>,
}

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    ///
    /// Names everything that is wrong with it.
    pub fn from_env() -> Result<Self, ConfigError> {
        Sources::new().process_env().load()
    }

    /// Reads a TOML file, and nothing else.
    ///
    /// # Errors
    ///
    /// Names everything that is wrong with it, by line.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        Sources::new().file(path).load()
    }

    /// Reads `sources`.
    ///
    /// # Errors
    ///
    /// Names everything that is wrong with them.
    pub fn load(sources: Sources) -> Result<Self, ConfigError> {
        sources.load()
    }

    /// Reads again what this configuration was read from, the file as it is by now.
    ///
    /// # Errors
    ///
    /// As the first time; what runs can go on with the old configuration.
    pub fn reload(&self) -> Result<Self, ConfigError> {
        Sources::clone(&self.sources).load()
    }

    /// Checks what no single value shows: settings that contradict each other, files that can't be read.
    /// Reading a configuration does this by itself; it is for one that was made or changed in code.
    ///
    /// # Errors
    ///
    /// Names everything that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        rules::check(self, &Default::default(), &mut problems);
        ConfigError::unless_empty(problems)
    }

    /// What is allowed but has no effect, or perhaps not the one that was meant.
    pub fn warnings(&self) -> Vec<String> {
        rules::warnings(self)
    }

    /// Whether the main listeners speak TLS.
    pub fn tls(&self) -> bool {
        self.tls_local || !self.tls_domains.is_empty() || !self.tls_cert.is_empty()
    }

    /// The names to ask the certificate authority for: none when they are made locally.
    pub fn acme_domains(&self) -> &[TlsName] {
        match self.tls_local {
            true => &[],
            false => &self.tls_domains,
        }
    }

    /// The main listeners.
    pub fn listeners(&self) -> Vec<Listen> {
        let every = |port| vec![Listen::Tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))];
        match (self.listen.is_empty(), self.tls()) {
            (false, _) => self.listen.clone(),
            (true, true) => every(443),
            (true, false) => every(8080),
        }
    }

    /// The port of the plain listener that sends browsers to https.
    pub fn redirect_port(&self) -> Option<NonZeroU16> {
        match self.http_port {
            HttpPort::Auto if self.tls() => NonZeroU16::new(80),
            HttpPort::Auto | HttpPort::Off => None,
            HttpPort::On(port) => Some(port),
        }
    }

    /// The plain listener that sends browsers to https: on the addresses of the main listeners.
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

    /// How many workers serve: what was set, else one per core.
    pub fn worker_count(&self) -> NonZeroUsize {
        self.workers.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }

    /// Where the value of a setting came from, by its key.
    pub fn value_source(&self, key: &str) -> ValueSource {
        self.value_sources.get(key).cloned().unwrap_or(ValueSource::Default)
    }

    /// What the demo starts from: TLS with a local authority, on this machine only, and nothing beside it. It has no
    /// upstream, as the demo brings its own.
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
