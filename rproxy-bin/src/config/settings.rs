//! Every setting, once: file keys, environment variables, flags, `--help`, `--check` and the README's table all
//! come from [`SETTINGS`], so that they can't disagree.

use std::num::NonZeroUsize;

use super::choice::{acme_directory, email, hmac_key, kid, policy};
use super::paths;
use super::source::Origin;
use super::value::{
    MEBIBYTE, boolean, client_error, count, duration, ipv6_prefix, joined, list, optional, path, rate, size, some,
    timeout, workers, written_duration, written_size,
};
use super::{Config, listen, upstream};

pub(super) const PREFIX: &str = "RPROXY_";

/// One setting.
#[non_exhaustive]
pub struct Setting {
    /// The key in the file. The environment variable is `RPROXY_` and this in capitals, the flag this with hyphens.
    pub key: &'static str,
    /// What it belongs to.
    pub heading: &'static str,
    /// What stands for the value in `--help`.
    pub placeholder: &'static str,
    /// What it is when nobody sets it.
    pub default: Fallback,
    /// What it does, in a few words.
    pub help: &'static str,
    /// What values it takes.
    pub accepted: &'static str,
    /// Whether the value is shown to nobody.
    pub secret: bool,
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    pub(crate) show: fn(&Config) -> Option<String>,
}

/// What a setting is when nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fallback {
    /// This value.
    Value(&'static str),
    /// Something that is better said in words.
    Words(&'static str),
}

impl Setting {
    /// The environment variable.
    pub fn variable(&self) -> String {
        variable(self.key)
    }

    /// The flag, without its hyphens in front.
    pub fn flag(&self) -> String {
        flag(self.key)
    }

    /// Whether the setting is a switch, whose flag needs no value.
    pub fn is_switch(&self) -> bool {
        self.accepted == SWITCH
    }

    /// Whether the setting takes several values, so that its flag may be repeated.
    pub fn is_list(&self) -> bool {
        self.placeholder.ends_with(",...")
    }
}

/// The setting of this key.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}

pub(super) fn flag(key: &str) -> String {
    key.replace('_', "-")
}

/// What to say about a name that no setting has.
pub(super) fn hint(name: &str, origin: &Origin) -> String {
    // Whatever was meant, it is looked for in one spelling.
    let plain = name.to_ascii_lowercase().replace('-', "_");
    let plain = plain.strip_prefix("rproxy_").unwrap_or(&plain);
    let nearest = SETTINGS
        .iter()
        .map(|setting| (setting.key, strsim::damerau_levenshtein(plain, setting.key)))
        .min_by_key(|(_, distance)| *distance);
    match nearest {
        Some((key, distance)) if distance <= (plain.len() / 3).max(1) => {
            format!("did you mean {}?", origin.name(key))
        }
        _ => "rproxy --help lists them all".to_owned(),
    }
}

const SWITCH: &str = "true or false (1/0, yes/no, on/off)";
const DURATION: &str = "seconds, or a number with a unit: 500ms, 2m, 1h";
const PATHS: &str = "comma-separated globs: /static/**, **/*.{css,js}";

fn put<T>(slot: &mut T, value: Result<T, impl ToString>) -> Result<(), String> {
    *slot = value.map_err(|error| error.to_string())?;
    Ok(())
}

fn connections(most: u32) -> Option<NonZeroUsize> {
    NonZeroUsize::new(most as usize)
}

/// Every setting, in the order of the documentation.
pub static SETTINGS: &[Setting] = &[
    Setting {
        key: "listen",
        heading: "Listening",
        placeholder: "ADDRESS,...",
        default: Fallback::Words("`0.0.0.0:443` with TLS, else `0.0.0.0:8080`"),
        help: "Main listener",
        accepted: "comma-separated ADDRESS:PORT, [IPV6]:PORT, :PORT or unix:/path",
        secret: false,
        set: |c, t| put(&mut c.listen, list(t, listen::address).and_then(|all| some("listen address", t, all))),
        show: |c| joined(&c.listeners()),
    },
    Setting {
        key: "http_port",
        heading: "Listening",
        placeholder: "PORT",
        default: Fallback::Words("`80` with TLS, else off"),
        help: "Plain listener that sends browsers to https: 301 for GET and HEAD, else 308; 0 = off",
        accepted: "a port from 1 to 65535, or 0 for none",
        secret: false,
        set: |c, t| put(&mut c.http_port, t.parse()),
        show: |c| Some(c.redirect_port().map_or_else(|| "0".to_owned(), |port| port.to_string())),
    },
    Setting {
        key: "upstream",
        heading: "Upstream",
        placeholder: "ORIGIN,...",
        default: Fallback::Value("127.0.0.1:3000"),
        help: "Where requests go; several are balanced, by weight=N after their address",
        accepted: "comma-separated host:port, http://, https:// or h2c:// origins without a path, or unix:/path",
        secret: false,
        set: |c, t| put(&mut c.upstream, upstream::backends(t)),
        show: |c| joined(&c.upstream),
    },
    Setting {
        key: "upstream_balance",
        heading: "Upstream",
        placeholder: "WAY",
        default: Fallback::Value("round_robin"),
        help: "Which of several backends a request goes to",
        accepted: "round_robin, least_pending, or by a key: client, path, header:NAME or cookie:NAME",
        secret: false,
        set: |c, t| put(&mut c.upstream_balance, t.parse()),
        show: |c| Some(c.upstream_balance.to_string()),
    },
    Setting {
        key: "upstream_timeout",
        heading: "Upstream",
        placeholder: "DURATION",
        default: Fallback::Value("30s"),
        help: "Time to the response head; then 504",
        accepted: DURATION,
        secret: false,
        set: |c, t| put(&mut c.upstream_timeout, timeout(t)),
        show: |c| Some(written_duration(c.upstream_timeout)),
    },
    Setting {
        key: "upstream_connect_timeout",
        heading: "Upstream",
        placeholder: "DURATION",
        default: Fallback::Value("5s"),
        help: "Time to a connection; then another backend, or 504",
        accepted: DURATION,
        secret: false,
        set: |c, t| put(&mut c.upstream_connect_timeout, timeout(t)),
        show: |c| Some(written_duration(c.upstream_connect_timeout)),
    },
    Setting {
        key: "upstream_read_timeout",
        heading: "Upstream",
        placeholder: "DURATION",
        default: Fallback::Value("5m"),
        help: "Time from one part of a response body to the next",
        accepted: DURATION,
        secret: false,
        set: |c, t| put(&mut c.upstream_read_timeout, timeout(t)),
        show: |c| Some(written_duration(c.upstream_read_timeout)),
    },
    Setting {
        key: "upstream_request_timeout",
        heading: "Upstream",
        placeholder: "DURATION",
        default: Fallback::Words("`0` (no limit)"),
        help: "Time from the request to the end of the response",
        accepted: "seconds, or a number with a unit: 500ms, 2m, 1h; 0 for no limit",
        secret: false,
        set: |c, t| put(&mut c.upstream_request_timeout, duration(t).map(|time| (!time.is_zero()).then_some(time))),
        show: |c| Some(c.upstream_request_timeout.map_or_else(|| "0".to_owned(), written_duration)),
    },
    Setting {
        key: "upstream_max_connections",
        heading: "Upstream",
        placeholder: "NUMBER",
        default: Fallback::Words("`0` (no limit)"),
        help: "HTTP/1.1 connections to each backend; requests beyond wait up to 5 s, then get 503",
        accepted: "a whole number up to 1000000; 0 for no limit",
        secret: false,
        set: |c, t| put(&mut c.upstream_max_connections, count(t, 1_000_000).map(connections)),
        show: |c| Some(c.upstream_max_connections.map_or_else(|| "0".to_owned(), |most| most.to_string())),
    },
    Setting {
        key: "upstream_retries",
        heading: "Upstream",
        placeholder: "NUMBER",
        default: Fallback::Value("1"),
        help: "How often a safe request that one backend dropped is sent to another",
        accepted: "a whole number from 0 to 100",
        secret: false,
        set: |c, t| put(&mut c.upstream_retries, count(t, 100)),
        show: |c| Some(c.upstream_retries.to_string()),
    },
    Setting {
        key: "upstream_hold",
        heading: "Upstream",
        placeholder: "DURATION",
        default: Fallback::Value("0s"),
        help: "How long requests wait while no backend can be reached, as during a restart",
        accepted: DURATION,
        secret: false,
        set: |c, t| put(&mut c.upstream_hold, duration(t)),
        show: |c| Some(written_duration(c.upstream_hold)),
    },
    Setting {
        key: "upstream_health_path",
        heading: "Upstream",
        placeholder: "PATH",
        default: Fallback::Words("none"),
        help: "Asked of each backend; those that do not answer 200 to 399 get no requests",
        accepted: "a path such as /healthz",
        secret: false,
        set: |c, t| put(&mut c.upstream_health_path, optional(t, upstream::health_path)),
        show: |c| c.upstream_health_path.clone(),
    },
    Setting {
        key: "upstream_health_interval",
        heading: "Upstream",
        placeholder: "DURATION",
        default: Fallback::Value("5s"),
        help: "Time from one such question to the next",
        accepted: DURATION,
        secret: false,
        set: |c, t| put(&mut c.upstream_health_interval, timeout(t)),
        show: |c| Some(written_duration(c.upstream_health_interval)),
    },
    Setting {
        key: "upstream_ca",
        heading: "Upstream",
        placeholder: "FILE",
        default: Fallback::Words("the system's authorities"),
        help: "PEM file with the authorities that vouch for https backends",
        accepted: "the path of a readable file",
        secret: false,
        set: |c, t| put(&mut c.upstream_ca, optional(t, path)),
        show: |c| c.upstream_ca.as_ref().map(|path| path.display().to_string()),
    },
    Setting {
        key: "upstream_server_name",
        heading: "Upstream",
        placeholder: "NAME",
        default: Fallback::Words("the backend's host"),
        help: "Name that certificates of https backends have to be for, sent as SNI",
        accepted: "a DNS name or an address",
        secret: false,
        set: |c, t| put(&mut c.upstream_server_name, optional(t, upstream::server_name)),
        show: |c| c.upstream_server_name.clone(),
    },
    Setting {
        key: "upstream_cert",
        heading: "Upstream",
        placeholder: "FILE",
        default: Fallback::Words("none"),
        help: "PEM certificate chain to show to https backends that ask",
        accepted: "the path of a readable file",
        secret: false,
        set: |c, t| put(&mut c.upstream_cert, optional(t, path)),
        show: |c| c.upstream_cert.as_ref().map(|path| path.display().to_string()),
    },
    Setting {
        key: "upstream_key",
        heading: "Upstream",
        placeholder: "FILE",
        default: Fallback::Words("none"),
        help: "PEM private key of that chain",
        accepted: "the path of a readable file",
        secret: false,
        set: |c, t| put(&mut c.upstream_key, optional(t, path)),
        show: |c| c.upstream_key.as_ref().map(|path| path.display().to_string()),
    },
    Setting {
        key: "tls_domains",
        heading: "TLS",
        placeholder: "NAME,...",
        default: Fallback::Words("none"),
        help: "Names to have certificates for, by ACME; turns TLS on",
        accepted: "comma-separated DNS names",
        secret: false,
        set: |c, t| put(&mut c.tls_domains, list(t, str::parse)),
        show: |c| joined(&c.tls_domains),
    },
    Setting {
        key: "tls_email",
        heading: "TLS",
        placeholder: "ADDRESS",
        default: Fallback::Words("none"),
        help: "Where the certificate authority may write to",
        accepted: "an e-mail address",
        secret: false,
        set: |c, t| put(&mut c.tls_email, optional(t, email)),
        show: |c| c.tls_email.clone(),
    },
    Setting {
        key: "tls_cache_dir",
        heading: "TLS",
        placeholder: "DIRECTORY",
        default: Fallback::Value("/var/lib/rproxy/certs"),
        help: "Keeps the ACME account and certificates; files are 0600 and written atomically",
        accepted: "a path",
        secret: false,
        set: |c, t| put(&mut c.tls_cache_dir, path(t)),
        show: |c| Some(c.tls_cache_dir.display().to_string()),
    },
    Setting {
        key: "acme_directory",
        heading: "TLS",
        placeholder: "URL",
        default: Fallback::Words("Let's Encrypt production"),
        help: "Directory of the certificate authority",
        accepted: "an https:// URL",
        secret: false,
        set: |c, t| put(&mut c.acme_directory, acme_directory(t)),
        show: |c| Some(c.acme_directory.to_string()),
    },
    Setting {
        key: "acme_ca",
        heading: "TLS",
        placeholder: "FILE",
        default: Fallback::Words("web PKI roots"),
        help: "PEM file that vouches for the directory's own TLS, for private authorities",
        accepted: "the path of a readable file",
        secret: false,
        set: |c, t| put(&mut c.acme_ca, optional(t, path)),
        show: |c| c.acme_ca.as_ref().map(|path| path.display().to_string()),
    },
    Setting {
        key: "acme_eab_kid",
        heading: "TLS",
        placeholder: "ID",
        default: Fallback::Words("none"),
        help: "External account binding: key identifier",
        accepted: "the identifier that the authority gave",
        secret: false,
        set: |c, t| put(&mut c.acme_eab_kid, optional(t, kid)),
        show: |c| c.acme_eab_kid.clone(),
    },
    Setting {
        key: "acme_eab_hmac_key",
        heading: "TLS",
        placeholder: "KEY",
        default: Fallback::Words("none"),
        help: "External account binding: HMAC key; better in the environment than on the command line",
        accepted: "base64url, as the authority gave it",
        secret: true,
        set: |c, t| put(&mut c.acme_eab_hmac_key, optional(t, hmac_key)),
        show: |c| c.acme_eab_hmac_key.as_ref().map(|key| key.expose().to_owned()),
    },
    Setting {
        key: "tls_cert",
        heading: "TLS",
        placeholder: "FILE",
        default: Fallback::Words("none"),
        help: "PEM certificate chain, instead of ACME or beside it; reloaded when it changes; turns TLS on",
        accepted: "the path of a readable file",
        secret: false,
        set: |c, t| put(&mut c.tls_cert, optional(t, path)),
        show: |c| c.tls_cert.as_ref().map(|path| path.display().to_string()),
    },
    Setting {
        key: "tls_key",
        heading: "TLS",
        placeholder: "FILE",
        default: Fallback::Words("none"),
        help: "PEM private key of the chain",
        accepted: "the path of a readable file",
        secret: false,
        set: |c, t| put(&mut c.tls_key, optional(t, path)),
        show: |c| c.tls_key.as_ref().map(|path| path.display().to_string()),
    },
    Setting {
        key: "tls_local",
        heading: "TLS",
        placeholder: "BOOL",
        default: Fallback::Value("false"),
        help: "A local authority makes certificates for localhost and the given names, for development; turns TLS on",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.tls_local, boolean(t)),
        show: |c| Some(c.tls_local.to_string()),
    },
    Setting {
        key: "rate_limit_enabled",
        heading: "Rate limit",
        placeholder: "BOOL",
        default: Fallback::Value("true"),
        help: "Whether clients are held to a rate; over it they get 429",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.rate_limit_enabled, boolean(t)),
        show: |c| Some(c.rate_limit_enabled.to_string()),
    },
    Setting {
        key: "rate_limit",
        heading: "Rate limit",
        placeholder: "NUMBER",
        default: Fallback::Value("100"),
        help: "Requests per second per client",
        accepted: "a whole number from 1 to 4294967295",
        secret: false,
        set: |c, t| put(&mut c.rate_limit, rate(t)),
        show: |c| Some(c.rate_limit.to_string()),
    },
    Setting {
        key: "rate_burst",
        heading: "Rate limit",
        placeholder: "NUMBER",
        default: Fallback::Value("200"),
        help: "Bucket size: requests that a client may make at once",
        accepted: "a whole number from 1 to 4294967295",
        secret: false,
        set: |c, t| put(&mut c.rate_burst, rate(t)),
        show: |c| Some(c.rate_burst.to_string()),
    },
    Setting {
        key: "rate_ipv6_prefix",
        heading: "Rate limit",
        placeholder: "BITS",
        default: Fallback::Value("64"),
        help: "IPv6 clients are counted per prefix of this length",
        accepted: "a whole number from 1 to 128",
        secret: false,
        set: |c, t| put(&mut c.rate_ipv6_prefix, ipv6_prefix(t)),
        show: |c| Some(c.rate_ipv6_prefix.to_string()),
    },
    Setting {
        key: "rate_exempt",
        heading: "Rate limit",
        placeholder: "RANGE,...",
        default: Fallback::Words("none"),
        help: "Clients that are not counted",
        accepted: "comma-separated CIDRs, addresses, private, loopback, cloudflare, fastly or cloudfront",
        secret: false,
        set: |c, t| put(&mut c.rate_exempt, t.parse()),
        show: |c| (!c.rate_exempt.is_empty()).then(|| c.rate_exempt.text().to_owned()),
    },
    Setting {
        key: "rate_shadow",
        heading: "Rate limit",
        placeholder: "BOOL",
        default: Fallback::Value("false"),
        help: "Whether requests beyond the rate pass, and are only noted in the access log",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.rate_shadow, boolean(t)),
        show: |c| Some(c.rate_shadow.to_string()),
    },
    Setting {
        key: "cache_enabled",
        heading: "Cache",
        placeholder: "BOOL",
        default: Fallback::Value("true"),
        help: "Whether responses are cached",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.cache_enabled, boolean(t)),
        show: |c| Some(c.cache_enabled.to_string()),
    },
    Setting {
        key: "cache_size",
        heading: "Cache",
        placeholder: "SIZE",
        default: Fallback::Value("64MiB"),
        help: "Memory for bodies and heads together",
        accepted: "a size such as 64MiB or 1GiB; a bare number is MiB",
        secret: false,
        set: |c, t| put(&mut c.cache_size, size(t, MEBIBYTE)),
        show: |c| Some(written_size(c.cache_size)),
    },
    Setting {
        key: "cache_paths",
        heading: "Cache",
        placeholder: "GLOB,...",
        default: Fallback::Value(paths::CACHED),
        help: "Paths that the cache serves; /** for all",
        accepted: PATHS,
        secret: false,
        set: |c, t| put(&mut c.cache_paths, paths::globs(t)),
        show: |c| Some(c.cache_paths.text().to_owned()),
    },
    Setting {
        key: "cache_max_object",
        heading: "Cache",
        placeholder: "SIZE",
        default: Fallback::Value("8MiB"),
        help: "Larger bodies pass through unstored",
        accepted: "a size such as 8MiB; a bare number is bytes",
        secret: false,
        set: |c, t| put(&mut c.cache_max_object, size(t, 1)),
        show: |c| Some(written_size(c.cache_max_object)),
    },
    Setting {
        key: "compression",
        heading: "Responses",
        placeholder: "BOOL",
        default: Fallback::Value("true"),
        help: "Whether responses are compressed: brotli, gzip, zstd",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.compression, boolean(t)),
        show: |c| Some(c.compression.to_string()),
    },
    Setting {
        key: "hsts",
        heading: "Responses",
        placeholder: "BOOL",
        default: Fallback::Value("true"),
        help: "Strict-Transport-Security, sent on TLS responses only",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.hsts, boolean(t)),
        show: |c| Some(c.hsts.to_string()),
    },
    Setting {
        key: "security_headers",
        heading: "Responses",
        placeholder: "PROFILE",
        default: Fallback::Value("recommended"),
        help: "The security headers that responses get where the application says nothing of them",
        accepted: "recommended, strict, api or minimal",
        secret: false,
        set: |c, t| put(&mut c.security_headers, t.parse()),
        show: |c| Some(c.security_headers.to_string()),
    },
    Setting {
        key: "content_security_policy",
        heading: "Responses",
        placeholder: "POLICY",
        default: Fallback::Words("that of the profile"),
        help: "The Content-Security-Policy of documents that have none of their own",
        accepted: "a policy such as default-src 'self'",
        secret: false,
        set: |c, t| put(&mut c.content_security_policy, policy(t).map(Some)),
        show: |c| c.content_security_policy.clone(),
    },
    Setting {
        key: "harden_cookies",
        heading: "Responses",
        placeholder: "BOOL",
        default: Fallback::Value("false"),
        help: "Whether cookies get Secure (over TLS) and SameSite=Lax where they say nothing of it",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.harden_cookies, boolean(t)),
        show: |c| Some(c.harden_cookies.to_string()),
    },
    Setting {
        key: "filter_enabled",
        heading: "Path filter",
        placeholder: "BOOL",
        default: Fallback::Value("true"),
        help: "Whether blocked paths get 404",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.filter_enabled, boolean(t)),
        show: |c| Some(c.filter_enabled.to_string()),
    },
    Setting {
        key: "blocked_paths",
        heading: "Path filter",
        placeholder: "GLOB,...",
        default: Fallback::Words("`default`, the curated list"),
        help: "Paths that get 404; `default,/private/**` extends the list, `!/pattern` exempts",
        accepted: "comma-separated globs, `default` for the curated list, `!` before an exemption",
        secret: false,
        set: |c, t| put(&mut c.blocked_paths, paths::rules(t)),
        show: |c| Some(c.blocked_paths.text().to_owned()),
    },
    Setting {
        key: "filter_status",
        heading: "Path filter",
        placeholder: "STATUS",
        default: Fallback::Value("404"),
        help: "What blocked paths get instead of 404",
        accepted: "a status from 400 to 499",
        secret: false,
        set: |c, t| put(&mut c.filter_status, client_error(t)),
        show: |c| Some(c.filter_status.as_str().to_owned()),
    },
    Setting {
        key: "filter_log_only",
        heading: "Path filter",
        placeholder: "BOOL",
        default: Fallback::Value("false"),
        help: "Whether blocked paths are passed on, and only noted in the access log",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.filter_log_only, boolean(t)),
        show: |c| Some(c.filter_log_only.to_string()),
    },
    Setting {
        key: "ws_enabled",
        heading: "WebSocket",
        placeholder: "BOOL",
        default: Fallback::Value("true"),
        help: "Whether WebSocket upgrades are passed on",
        accepted: SWITCH,
        secret: false,
        set: |c, t| put(&mut c.ws_enabled, boolean(t)),
        show: |c| Some(c.ws_enabled.to_string()),
    },
    Setting {
        key: "ws_paths",
        heading: "WebSocket",
        placeholder: "GLOB,...",
        default: Fallback::Value(paths::WEBSOCKETS),
        help: "Where an upgrade is passed on; elsewhere it is refused",
        accepted: PATHS,
        secret: false,
        set: |c, t| put(&mut c.ws_paths, paths::globs(t)),
        show: |c| Some(c.ws_paths.text().to_owned()),
    },
    Setting {
        key: "trusted_proxies",
        heading: "Clients",
        placeholder: "RANGE,...",
        default: Fallback::Words("none"),
        help: "Whose forwarding headers are believed",
        accepted: "comma-separated CIDRs, addresses, private, loopback, cloudflare, fastly or cloudfront",
        secret: false,
        set: |c, t| put(&mut c.trusted_proxies, t.parse()),
        show: |c| (!c.trusted_proxies.is_empty()).then(|| c.trusted_proxies.text().to_owned()),
    },
    Setting {
        key: "client_ip_from",
        heading: "Clients",
        placeholder: "FIELD",
        default: Fallback::Value("x-forwarded-for"),
        help: "The field in which trusted proxies name the client: `Forwarded`, `CF-Connecting-IP` ...",
        accepted: "the name of a header field, or none",
        secret: false,
        set: |c, t| put(&mut c.client_ip_from, t.parse()),
        show: |c| Some(c.client_ip_from.to_string()),
    },
    Setting {
        key: "proxy_protocol",
        heading: "Clients",
        placeholder: "VERSION",
        default: Fallback::Value("off"),
        help: "Version of the PROXY protocol that is accepted from trusted peers",
        accepted: "off, v1, v2, or any for both",
        secret: false,
        set: |c, t| put(&mut c.proxy_protocol, t.parse()),
        show: |c| Some(c.proxy_protocol.to_string()),
    },
    Setting {
        key: "max_body",
        heading: "Clients",
        placeholder: "SIZE",
        default: Fallback::Words("`0` (no limit)"),
        help: "Larger request bodies get 413",
        accepted: "a size such as 10MiB; a bare number is bytes; 0 for no limit",
        secret: false,
        set: |c, t| put(&mut c.max_body, size(t, 1).map(|bytes| (bytes > 0).then_some(bytes))),
        show: |c| Some(c.max_body.map_or_else(|| "0".to_owned(), written_size)),
    },
    Setting {
        key: "workers",
        heading: "Running",
        placeholder: "NUMBER",
        default: Fallback::Words("number of cores"),
        help: "Threads, each with listeners and upstream connections of its own",
        accepted: "a whole number from 1 to 1024",
        secret: false,
        set: |c, t| put(&mut c.workers, workers(t).map(Some)),
        show: |c| Some(c.worker_count().to_string()),
    },
    Setting {
        key: "drain_timeout",
        heading: "Running",
        placeholder: "DURATION",
        default: Fallback::Value("30s"),
        help: "Time that open requests get after SIGTERM",
        accepted: DURATION,
        secret: false,
        set: |c, t| put(&mut c.drain_timeout, duration(t)),
        show: |c| Some(written_duration(c.drain_timeout)),
    },
    Setting {
        key: "admin_listen",
        heading: "Running",
        placeholder: "ADDRESS",
        default: Fallback::Words("off"),
        help: "Serves /healthz, /readyz, /metrics and cache purge, never on the public listener",
        accepted: "ADDRESS:PORT, [IPV6]:PORT, unix:/path, or off",
        secret: false,
        set: |c, t| put(&mut c.admin_listen, listen::optional_address(t)),
        show: |c| c.admin_listen.as_ref().map(ToString::to_string),
    },
    Setting {
        key: "access_log",
        heading: "Running",
        placeholder: "FORMAT",
        default: Fallback::Value("off"),
        help: "A line per request on standard output",
        accepted: "off, text or json",
        secret: false,
        set: |c, t| put(&mut c.access_log, t.parse()),
        show: |c| Some(c.access_log.to_string()),
    },
    Setting {
        key: "log_level",
        heading: "Running",
        placeholder: "FILTER",
        default: Fallback::Value("info"),
        help: "What the proxy logs of itself; RUST_LOG is read when this is not set",
        accepted: "error, warn, info, debug, trace or off, and TARGET=LEVEL, comma-separated: warn,rproxy=debug",
        secret: false,
        set: |c, t| put(&mut c.log_level, t.parse()),
        show: |c| Some(c.log_level.to_string()),
    },
];
