//! The configuration: one typed [`Config`], read from a TOML file, the environment and the command line.
//!
//! Each setting has one name, spelled according to its source. A later source overrides an earlier one:
//!
//! | Source | Spelling |
//! |---|---|
//! | file (TOML) | `rate_limit = 50` |
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
//! assert_eq!(config.upstream.backends[0].to_string(), "https://app.internal:443");
//!
//! // In code:
//! let mut config = Config::default();
//! config.tls.local = true;
//! config.observe.access_log = AccessLog::Json;
//! config.validate()?;
//! assert_eq!(config.listeners()[0].to_string(), "[::]:443");
//! # Ok(())
//! # }
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rproxy_server::ListenAddr;

use self::source::ValueSources;
use crate::layers::{
    AccessSettings, ApplicationSettings, CacheSettings, ClientIpSettings, CompressionSettings, ErrorPagesSettings,
    ForwardHeadersSettings, HeaderRulesSettings, LimitSettings, ListenerSettings, MaintenanceSettings, ObserveSettings,
    PathFilterSettings, ProcessSettings, RateLimitSettings, RequestGuardSettings, RoutingSettings, SandboxSettings,
    SecurityHeadersSettings, StaticFilesSettings, TlsSettings, UpstreamSettings, WebSocketSettings,
};
use crate::setting::{Entry, RuleContext, Settings};
use crate::values::listen::{every_address, without_covered};
use crate::values::value::joined;

pub use self::error::{ConfigError, Problem, SettingLocation};
pub use self::reference::{reference, summary};
pub use self::report::Report;
pub(crate) use self::requirements::writable_parent;
pub use self::requirements::{UnmetRequirement, UnmetRequirements};
pub use self::settings::settings;
pub(crate) use self::settings::{RENAMED, find};
pub use self::sites::{RouteConfig, SiteConfig};
pub use self::source::{Sources, ValueSource};
pub(crate) use self::spelling::spelled;
pub use crate::setting::{DefaultValue, Reload, Scope, Setting};
pub use crate::values::balance::UpstreamBalance;
pub use crate::values::choice::{
    AccessLog, ClientAuthentication, ExpectContinueRule, HalfCloseRule, LogFilter, ProxyProtocol, Secret,
    SecurityProfile, TraceContext,
};
pub use crate::values::command::{ApplicationCommand, RestartPolicy};
pub use crate::values::filter::BlockedPathResponse;
pub use crate::values::forward_auth::ForwardAuthUrl;
pub use crate::values::listen::HttpPort;
pub use crate::values::parsed::Parsed;
pub use crate::values::paths::PathGlobs;
pub use crate::values::rate::Rate;
pub use crate::values::rate_limit::{Ipv6Tier, Ipv6Tiers, RateLimitFallback, RateLimitStorage};
pub use crate::values::redirect::RedirectTarget;
pub use crate::values::routes::RouteList;
pub use crate::values::sandbox::{SandboxMode, UserName};
pub use crate::values::security_headers::SecurityHeaderList;
pub use crate::values::shared::Shared;
pub use crate::values::tls_name::{TlsHost, TlsName};
pub use crate::values::value::ParseError;

mod environment;
mod error;
mod file;
mod reference;
mod report;
mod requirements;
mod rules;
mod settings;
mod sites;
mod source;
mod spelling;
mod strip_prefix;

/// Returns the reason why a rule is violated.
type RuleCheck<'c> = dyn Fn(&RuleContext<'_>) -> Option<String> + 'c;

/// Declares [`Config`] with the settings of each area, in the order of the documentation.
macro_rules! config {
    ($($(#[$meta:meta])* $group:ident: $Settings:ty,)+) => {
        /// The complete configuration of a proxy. [`settings()`] describes each setting; `Default` contains the default
        /// of each.
        #[derive(Clone, Debug, Default)]
        #[non_exhaustive]
        pub struct Config {
            $($(#[$meta])* pub $group: Shared<$Settings>,)+
            /// The sites that have hosts, in the order of the configuration file. Each has a configuration of its own,
            /// made of the settings above and those of the site.
            pub sites: Vec<SiteConfig>,
            /// The routes of the default site.
            pub default_routes: Vec<RouteConfig>,
            deprecations: Vec<String>,
            value_sources: Shared<ValueSources>,
            sources: Arc<Sources>,
        }

        impl Config {
            fn all_settings() -> impl Iterator<Item = &'static Setting> {
                std::iter::empty()$(.chain(<$Settings>::ENTRIES.iter().map(|entry| &entry.setting)))+
            }

            /// Parses the text of a setting and stores the value in its field.
            fn set(&mut self, setting: &Setting, text: &str) -> Result<(), String> {
                $(
                    if let Some(entry) = entry::<$Settings>(setting) {
                        return (entry.set)(&mut self.$group, text);
                    }
                )+
                Err(format!("{} is not a setting", setting.key))
            }

            /// Calls `visit` with the settings of each rule and its check.
            fn visit_rules(&self, visit: &mut dyn FnMut(&'static [&'static str], &RuleCheck<'_>)) {
                $(
                    for rule in <$Settings>::RULES {
                        visit(rule.about, &|context| (rule.broken)(&self.$group, context));
                    }
                )+
            }

            /// Calls `visit` with settings that can be without effect, and the check that returns the reason.
            fn visit_idle(&self, visit: &mut dyn FnMut(&'static [&'static str], &RuleCheck<'_>)) {
                $(
                    for rule in <$Settings>::IDLE {
                        visit(rule.about, &|context| (rule.broken)(&self.$group, context));
                    }
                )+
            }

            /// Formats the value of a setting; returns `None` if the setting has no value.
            fn written(&self, setting: &Setting) -> Option<String> {
                $(
                    if let Some(entry) = entry::<$Settings>(setting) {
                        return (entry.show)(&self.$group);
                    }
                )+
                None
            }
        }
    };
}

config! {
    /// The settings of the listeners.
    listeners: ListenerSettings,
    /// The settings of routes, redirects and path prefixes.
    routing: RoutingSettings,
    /// The settings of the backends, and of requests to them.
    upstream: UpstreamSettings,
    /// The settings of the applications that rproxy starts.
    application: ApplicationSettings,
    /// The settings of files that the proxy serves itself.
    static_files: StaticFilesSettings,
    /// The settings of TLS: certificates, protocol versions and client certificates.
    tls: TlsSettings,
    /// The settings that decide which clients may access a site or route.
    access: AccessSettings,
    /// The settings of the rate limit per client.
    rate_limit: RateLimitSettings,
    /// The settings of the response cache.
    cache: CacheSettings,
    /// The settings of response compression.
    compression: CompressionSettings,
    /// The settings of the security headers in responses.
    security_headers: SecurityHeadersSettings,
    /// The settings of the pages that replace error responses.
    error_pages: ErrorPagesSettings,
    /// The settings of the maintenance of a site.
    maintenance: MaintenanceSettings,
    /// The settings of the rules for header fields.
    header_rules: HeaderRulesSettings,
    /// The settings of the filter for sensitive paths.
    path_filter: PathFilterSettings,
    /// The settings of WebSockets and other upgrades.
    websocket: WebSocketSettings,
    /// The settings of trusted proxies and the client address.
    client_ip: ClientIpSettings,
    /// The settings of the header fields that backends receive.
    forward_headers: ForwardHeadersSettings,
    /// The settings that limit request bodies.
    request_guard: RequestGuardSettings,
    /// The settings that limit connections and request heads.
    limits: LimitSettings,
    /// The settings of workers, shutdown and the admin listener.
    process: ProcessSettings,
    /// The settings of the access log and of the log of the process.
    observe: ObserveSettings,
    /// The settings of the privileges that the process keeps after its start.
    sandbox: SandboxSettings,
}

fn entry<S>(setting: &Setting) -> Option<&'static Entry<S>>
where
    S: Settings,
{
    S::ENTRIES.iter().find(|entry| entry.setting.key == setting.key)
}

impl Config {
    /// Loads the configuration from the environment variables of the process.
    ///
    /// # Errors
    ///
    /// Returns an error that lists all problems.
    pub fn from_env() -> Result<Self, ConfigError> {
        Sources::new().process_env().load()
    }

    /// Loads the configuration from a TOML file, without environment variables.
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

    /// Reads the same sources again, including the file, and returns the new configuration.
    ///
    /// # Errors
    ///
    /// Returns an error that lists all problems. The current configuration stays valid.
    pub fn reload(&self) -> Result<Self, ConfigError> {
        Sources::clone(&self.sources).load()
    }

    /// Returns an error if settings conflict or a configured file is unreadable.
    ///
    /// Loading a configuration includes this check. Call it for a configuration that was created or changed in code.
    ///
    /// # Errors
    ///
    /// Returns an error that lists all problems.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        rules::check(self, &Default::default(), None, &mut problems);
        ConfigError::unless_empty(problems)
    }

    /// Returns warnings about settings that have no effect, or probably an unintended effect.
    pub fn warnings(&self) -> Vec<String> {
        rules::warnings(self)
    }

    /// Returns the addresses that the main listeners bind.
    pub fn listeners(&self) -> Vec<ListenAddr> {
        let every = |port| vec![ListenAddr::Tcp(SocketAddr::new(every_address(), port))];
        match (self.listeners.listen.is_empty(), self.tls.is_enabled()) {
            (false, _) => without_covered(&self.listeners.listen),
            (true, true) => every(443),
            (true, false) => every(8080),
        }
    }

    /// Returns the port of the plain HTTP listener that redirects to HTTPS.
    pub fn redirect_port(&self) -> Option<NonZeroU16> {
        match self.listeners.http_port {
            HttpPort::Auto if self.tls.is_enabled() => NonZeroU16::new(80),
            HttpPort::Auto | HttpPort::Off => None,
            HttpPort::On(port) => Some(port),
        }
    }

    /// Returns the addresses of the plain HTTP listeners, which redirect to HTTPS on the IP addresses of the main
    /// listeners.
    pub fn redirect_listeners(&self) -> Vec<ListenAddr> {
        let Some(port) = self.redirect_port() else { return Vec::new() };
        let mut ips: Vec<IpAddr> = Vec::new();
        for listener in self.listeners() {
            if let ListenAddr::Tcp(address) = listener
                && !ips.contains(&address.ip())
            {
                ips.push(address.ip());
            }
        }
        ips.into_iter().map(|ip| ListenAddr::Tcp(SocketAddr::new(ip, port.get()))).collect()
    }

    /// Returns the configured number of workers, or the number of CPU cores by default.
    pub fn worker_count(&self) -> NonZeroUsize {
        self.process.worker_count()
    }

    /// Returns the source of the value of the setting with this key.
    pub fn value_source(&self, key: &str) -> ValueSource {
        self.value_sources.get(key).cloned().unwrap_or(ValueSource::Default)
    }

    /// Returns the keys of the settings that a site or route does not inherit from `parent`.
    pub(crate) fn own_keys<'c>(&'c self, parent: &'c Self) -> impl Iterator<Item = &'static str> + 'c {
        let is_own = |key: &&'static str, source: &ValueSource| {
            parent.value_sources.get(*key) != Some(source)
                || find(key).is_some_and(|setting| self.show(setting) != parent.show(setting))
        };
        self.value_sources.iter().filter(move |(key, source)| is_own(key, source)).map(|(key, _)| *key)
    }

    /// Returns the effective value of a setting in the syntax of the setting, or `None` if it has no value.
    pub fn show(&self, setting: &Setting) -> Option<String> {
        match setting.key {
            // Their defaults depend on TLS.
            "listen" => joined(&self.listeners()),
            "http_port" => Some(self.redirect_port().map_or_else(|| "0".to_owned(), |port| port.to_string())),
            _ => self.written(setting),
        }
    }

    /// Returns the configuration file, if any.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.sources.file_path()
    }

    /// Returns whether the defaults are those of the demo.
    pub(crate) fn is_demo(&self) -> bool {
        self.sources.is_demo()
    }

    /// Returns the configuration of the demo: TLS with a local certificate authority, on a loopback address.
    pub(crate) fn demo(state: &Path) -> Self {
        let mut demo = Self::default();
        demo.listeners.listen = vec![ListenAddr::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8443)))];
        demo.listeners.http_port = HttpPort::Off;
        demo.upstream.backends = Vec::new();
        // So low that a few clicks reach it.
        demo.rate_limit.burst = NonZeroU32::new(200);
        demo.observe.access_log = AccessLog::Text;
        demo.tls.local = true;
        demo.tls.cache_dir = state.to_owned();
        demo
    }
}
