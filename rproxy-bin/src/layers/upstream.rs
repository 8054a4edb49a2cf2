//! Settings of the backends, and of requests to them.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use rproxy_upstream::{Backend, Builder, HealthCheck, Protocol, PublicKeyPin, Upstream};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::StackError;
use super::pem::certificate_chain;
use crate::known_rejection::KnownRejection;
use crate::setting::{DURATION, READABLE_FILE, connections, settings};
use crate::values::balance::UpstreamBalance;
use crate::values::choice::{ExpectContinueRule, Secret};
use crate::values::readable_file::unreadable;
use crate::values::upstream::{self, is_reached_by};
use crate::values::value::{count, duration, format_duration, joined, optional, path, timeout};

/// The rejections of requests without a valid response of a backend.
pub(crate) const REJECTIONS: &[KnownRejection] = &[
    // The error of a client.
    KnownRejection::new("upstream", "http_request_error"),
    KnownRejection::new("upstream", "connection_refused").explained("nothing is listening on {the backend}; start the application there, or set RPROXY_UPSTREAM"),
    KnownRejection::new("upstream", "dns_error").explained("the name of {the backend} does not resolve; check RPROXY_UPSTREAM"),
    KnownRejection::new("upstream", "connection_timeout").explained("{the backend} did not accept the connection within RPROXY_UPSTREAM_CONNECT_TIMEOUT; check RPROXY_UPSTREAM and the \
         firewall"),
    KnownRejection::new("upstream", "destination_ip_unroutable").explained("there is no network route to {the backend}; check RPROXY_UPSTREAM"),
    KnownRejection::new("upstream", "tls_certificate_error").explained("the certificate of {the backend} is not trusted or not valid for its name; check RPROXY_UPSTREAM_CA and \
         RPROXY_UPSTREAM_SERVER_NAME"),
    KnownRejection::new("upstream", "tls_protocol_error").explained("the TLS handshake with {the backend} failed; check the scheme in RPROXY_UPSTREAM"),
    KnownRejection::new("upstream", "connection_terminated").explained("{the backend} closed the connection without a response; check its log, and the scheme in RPROXY_UPSTREAM"),
    KnownRejection::new("upstream", "http_response_timeout").explained("{the backend} sent no response within RPROXY_UPSTREAM_TIMEOUT"),
    KnownRejection::new("upstream", "http_protocol_error").explained("{the backend} sent a malformed response; check the scheme and the port in RPROXY_UPSTREAM"),
    KnownRejection::new("upstream", "destination_unavailable").explained("all backends of RPROXY_UPSTREAM are unhealthy; check them, and RPROXY_UPSTREAM_HEALTH_PATH"),
    KnownRejection::new("upstream", "connection_limit_reached").explained("no connection to {the backend} became available in time; RPROXY_UPSTREAM_MAX_CONNECTIONS limits the connections"),
    KnownRejection::new("upstream", "http_upgrade_failed").explained("{the backend} does not support this upgrade over HTTP/2; check the scheme in RPROXY_UPSTREAM"),
];

settings! {
    /// The settings of the backends, and of requests to them.
    UpstreamSettings, "Upstream"

    "upstream" => backends: Vec<Backend> {
        value: "BACKEND,...",
        default: "127.0.0.1:3000",
        help: "Backends to forward requests to; several are load balanced, in proportion to weight=N after an address",
        accepted: "comma-separated host:port, http://, https:// or h2c:// URLs without a path, or unix:/path",
        scope: Route,
        reload: Live,
        parse: upstream::backends,
        show: |s| joined(&s.backends),
    }

    "upstream_balance" => balance: UpstreamBalance {
        value: "POLICY",
        default: "round_robin",
        help: "Load balancing policy; a key selects the backend by consistent hashing",
        accepted: "round_robin, least_pending, or one of the keys client, path, header:NAME and cookie:NAME",
        scope: Route,
        reload: Live,
        parse: str::parse,
        show: |s| Some(s.balance.to_string()),
    }

    "upstream_balance_secret" => balance_secret: Option<Secret> {
        value: "SECRET",
        default: "random per process" => None,
        help: "Secret for consistent hashing; processes with the same secret select the same backend for a key; prefer the environment to the command line",
        accepted: "at least 16 characters",
        secret: true,
        scope: Route,
        reload: Live,
        parse: |t| optional(t, upstream::balance_secret),
        show: |s| s.balance_secret.as_ref().map(|secret| secret.expose().to_owned()),
    }

    "upstream_timeout" => timeout: Duration {
        value: "DURATION",
        default: "60s",
        help: "Maximum time until the backend sends a response head; then the client gets 504",
        accepted: DURATION,
        scope: Route,
        reload: Live,
        parse: timeout,
        show: |s| Some(format_duration(s.timeout)),
    }

    "upstream_connect_timeout" => connect_timeout: Duration {
        value: "DURATION",
        default: "5s",
        help: "Maximum time to connect to a backend; then another backend is tried, or the client gets 504",
        accepted: DURATION,
        scope: Route,
        reload: Live,
        parse: timeout,
        show: |s| Some(format_duration(s.connect_timeout)),
    }

    "upstream_read_timeout" => read_timeout: Duration {
        value: "DURATION",
        default: "5m",
        help: "Maximum time between two parts of a response body",
        accepted: DURATION,
        scope: Route,
        reload: Live,
        parse: timeout,
        show: |s| Some(format_duration(s.read_timeout)),
    }

    "upstream_request_timeout" => request_timeout: Option<Duration> {
        value: "DURATION",
        default: "`0` (no limit)" => None,
        help: "Maximum time from the request head to the end of the response body",
        accepted: "a duration such as 500ms, 2m or 1h; a bare number is seconds; 0 for no limit",
        scope: Route,
        reload: Live,
        parse: |t| duration(t).map(|time| (!time.is_zero()).then_some(time)),
        show: |s| Some(s.request_timeout.map_or_else(|| "0".to_owned(), format_duration)),
    }

    "upstream_max_connections" => max_connections: Option<NonZeroUsize> {
        value: "NUMBER",
        default: "`0` (no limit)" => None,
        help: "Maximum number of HTTP/1.1 connections per backend; excess requests wait for up to 5 s, then get 503",
        accepted: "a whole number up to 1000000; 0 for no limit",
        scope: Route,
        reload: Live,
        parse: |t| count(t, 1_000_000).map(connections),
        show: |s| Some(s.max_connections.map_or_else(|| "0".to_owned(), |most| most.to_string())),
    }

    "upstream_http2_ping_interval" => http2_ping_interval: Option<Duration> {
        value: "DURATION",
        default: "`0` (no pings)" => None,
        help: "Sends a PING on an HTTP/2 connection after this time without traffic; gRPC servers allow one in five minutes",
        accepted: "a duration such as 500ms, 2m or 1h; a bare number is seconds; 0 for no pings",
        scope: Route,
        reload: Live,
        parse: |t| duration(t).map(|time| (!time.is_zero()).then_some(time)),
        show: |s| Some(s.http2_ping_interval.map_or_else(|| "0".to_owned(), format_duration)),
    }

    "upstream_expect_continue" => expect_continue: ExpectContinueRule {
        value: "RULE",
        default: "forward",
        help: "Whether the backend or rproxy answers a client that sends Expect: 100-continue and waits before it sends content",
        accepted: "forward or answer",
        scope: Route,
        reload: Live,
        parse: str::parse,
        show: |s| Some(s.expect_continue.to_string()),
    }

    "upstream_retries" => retries: u32 {
        value: "NUMBER",
        default: "1",
        help: "Number of times that a safe request is retried on another backend after a connection failure",
        accepted: "a whole number from 0 to 100",
        scope: Route,
        reload: Live,
        parse: |t| count(t, 100),
        show: |s| Some(s.retries.to_string()),
    }

    "upstream_hold" => hold: Duration {
        value: "DURATION",
        default: "`0s`, or `30s` with `command`" => Duration::ZERO,
        help: "Maximum time that requests wait while no backend is reachable, for example during a restart",
        accepted: DURATION,
        scope: Route,
        reload: Live,
        parse: duration,
        show: |s| Some(format_duration(s.hold)),
    }

    "upstream_health_path" => health_path: Option<String> {
        value: "PATH",
        default: "none" => None,
        help: "Path for active health checks; a backend that responds with a status other than 200 to 399 is unhealthy and receives no requests",
        accepted: "a path such as /healthz",
        scope: Route,
        reload: Live,
        parse: |t| optional(t, upstream::health_path),
        show: |s| s.health_path.clone(),
    }

    "upstream_health_interval" => health_interval: Duration {
        value: "DURATION",
        default: "5s",
        help: "Time between two health checks",
        accepted: DURATION,
        scope: Route,
        reload: Live,
        parse: timeout,
        show: |s| Some(format_duration(s.health_interval)),
    }

    "upstream_ca" => ca: Option<PathBuf> {
        value: "FILE",
        default: "the system's certificate authorities" => None,
        help: "PEM file with the trusted certificates for https backends: certificate authorities, or the self-signed certificate of a backend",
        accepted: READABLE_FILE,
        scope: Route,
        reload: Live,
        parse: |t| optional(t, path),
        show: |s| s.ca.as_ref().map(|path| path.display().to_string()),
    }

    "upstream_pin" => pins: Vec<PublicKeyPin> {
        value: "PIN,...",
        default: "none" => Vec::new(),
        help: "Public key pins (SHA-256) of https backends, verified instead of chain and name; with upstream_ca, verified in addition to them",
        accepted: "comma-separated sha256/BASE64 of the SubjectPublicKeyInfo, as in curl's --pinnedpubkey",
        scope: Route,
        reload: Live,
        parse: upstream::pins,
        show: |s| joined(&s.pins),
    }

    "upstream_server_name" => server_name: Option<String> {
        value: "NAME",
        default: "the backend's host" => None,
        help: "Server name (SNI) to send to https backends and to require in their certificates",
        accepted: "a DNS name or an IP address",
        scope: Route,
        reload: Live,
        parse: |t| optional(t, upstream::server_name),
        show: |s| s.server_name.clone(),
    }

    "upstream_cert" => cert: Option<PathBuf> {
        value: "FILE",
        default: "none" => None,
        help: "PEM client certificate chain for https backends that request one",
        accepted: READABLE_FILE,
        scope: Route,
        reload: Live,
        parse: |t| optional(t, path),
        show: |s| s.cert.as_ref().map(|path| path.display().to_string()),
    }

    "upstream_key" => key: Option<PathBuf> {
        value: "FILE",
        default: "none" => None,
        help: "PEM private key of upstream_cert",
        accepted: READABLE_FILE,
        scope: Route,
        reload: Live,
        parse: |t| optional(t, path),
        show: |s| s.key.as_ref().map(|path| path.display().to_string()),
    }


    rules {
        ["upstream"] => |_, c| c.overriding_redirect.map(|redirect| {
            format!("conflicts with {redirect}, which redirects every request; remove one of them, or set redirect to none")
        }),
        ["upstream_cert", "upstream_key"] => |s, c| match (&s.cert, &s.key) {
            (Some(_), None) => {
                Some(format!("requires {}, the private key of the certificate", c.name("upstream_key")))
            }
            (None, Some(_)) => Some(format!("requires {}, the certificate of the private key", c.name("upstream_cert"))),
            _ => None,
        },
        ["upstream_ca"] => |s, _| s.ca.as_ref().and_then(unreadable),
        ["upstream_cert"] => |s, _| s.cert.as_ref().and_then(unreadable),
        ["upstream_key"] => |s, _| s.key.as_ref().and_then(unreadable),
        ["upstream", "listen"] => |s, c| {
            let is_listener = |backend: &&Backend| c.listeners.iter().any(|listener| is_reached_by(backend, listener));
            let own = s.backends.iter().find(is_listener)?;
            Some(format!("{own} is a listener of this proxy: requests would loop"))
        },
    }

    idle {
        ["upstream_ca", "upstream_pin", "upstream_server_name", "upstream_cert", "upstream_key"] => |s, _| {
            let is_plain = !s.backends.iter().any(|backend| backend.protocol() == Protocol::Https);
            is_plain.then(|| "no backend uses https".to_owned())
        },
        ["upstream_balance", "upstream_balance_secret"] => |s, _| {
            (s.backends.len() == 1).then(|| "there is only one backend".to_owned())
        },
        ["upstream_retries"] => |s, _| {
            let is_unused = s.backends.len() == 1 && s.hold.is_zero();
            is_unused.then(|| "there is only one backend, and upstream_hold is 0s".to_owned())
        },
        ["upstream_health_interval"] => |s, _| {
            s.health_path.is_none().then(|| "upstream_health_path is not set".to_owned())
        },
    }
}

impl UpstreamSettings {
    /// Returns a builder of the backends, after reading their certificate files.
    pub(crate) fn builder(&self) -> Result<Builder, StackError> {
        self.builder_for(&self.backends)
    }

    /// Returns a builder with other backends than those of the setting.
    pub(crate) fn builder_for(&self, backends: &[Backend]) -> Result<Builder, StackError> {
        let mut builder = Upstream::builder()
            .backends(backends.iter().cloned())
            .balance(self.balance.to_balance())
            .timeout(self.timeout)
            .connect_timeout(self.connect_timeout)
            .read_timeout(self.read_timeout)
            .request_timeout(self.request_timeout)
            .max_connections(self.max_connections.map(NonZeroUsize::get))
            .http2_ping_interval(self.http2_ping_interval)
            .expect_continue(self.expect_continue.into())
            .retries(self.retries)
            .hold(self.hold);
        if let Some(secret) = &self.balance_secret {
            builder = builder.balance_secret(secret.expose());
        }
        if let Some(path) = &self.health_path {
            let check = HealthCheck::new(path).map_err(|error| StackError::HealthPath(path.clone(), error))?;
            let interval = self.health_interval;
            // A check must end before the next one starts.
            builder = builder.health_check(check.interval(interval).timeout(interval.min(Duration::from_secs(2))));
        }
        if let Some(file) = &self.ca {
            builder = builder.root_certificates(certificate_chain(file)?);
        }
        builder = builder.public_key_pins(self.pins.iter().copied());
        if let Some(name) = &self.server_name {
            builder = builder.server_name(name).map_err(|_| StackError::ServerName(name.clone()))?;
        }
        if let (Some(certificate), Some(key)) = (&self.cert, &self.key) {
            let parsed = PrivateKeyDer::from_pem_file(key);
            let parsed = parsed.map_err(|error| StackError::Pem { file: key.clone(), error })?;
            builder = builder.client_certificate(certificate_chain(certificate)?, parsed);
        }
        Ok(builder)
    }

    pub(crate) fn describe(&self) -> String {
        format!("Upstream         {}", joined(&self.backends).unwrap_or_default())
    }
}
