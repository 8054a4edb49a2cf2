//! The layer stack: all layers of the proxy, in order.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use rproxy_cache::CacheLayer;
use rproxy_client_ip::ClientIpLayer;
use rproxy_forward_headers::ForwardHeadersLayer;
use rproxy_path_filter::PathFilterLayer;
use rproxy_rate_limit::RateLimitLayer;
use rproxy_security_headers::SecurityHeadersLayer;
use rproxy_server::{ClientCertificateLayer, GuardBody, RequestGuardLayer};
use rproxy_upstream::{Backends, Upstream};
use rproxy_ws_passthrough::WsPassthroughLayer;
use tower::{BoxError, Service, ServiceBuilder};

use crate::compression::CompressionLayer;
use crate::config::{ClientAuthentication, Config, RateLimitStorage};
use crate::error_response::ErrorResponseLayer;
use crate::observe::ObserveLayer;
use crate::optional_layer::OptionalLayer;

/// The layers between a server and the backends.
///
/// [`stack`](crate::stack()) builds it from a configuration.
#[derive(Clone, Debug)]
pub struct Stack {
    pub(crate) client_ip: ClientIpLayer,
    pub(crate) observe: ObserveLayer,
    pub(crate) problem: ErrorResponseLayer,
    pub(crate) security_headers: SecurityHeadersLayer,
    pub(crate) guard: RequestGuardLayer,
    pub(crate) rate_limit: Option<RateLimitLayer>,
    pub(crate) path_filter: Option<PathFilterLayer>,
    pub(crate) ws_passthrough: WsPassthroughLayer,
    pub(crate) cache: Option<CacheLayer>,
    pub(crate) compression: Option<CompressionLayer>,
    pub(crate) forward_headers: ForwardHeadersLayer,
    pub(crate) client_certificate: ClientCertificateLayer,
    pub(crate) backends: Backends,
}

impl Stack {
    /// Wraps `inner` in the layers, in order from the client to the backend.
    pub fn wrap<B, S, R>(
        &self,
        inner: S,
    ) -> impl Service<
        Request<B>,
        Response = Response<impl Body<Data = Bytes, Error = BoxError> + Send + use<B, S, R>>,
        Error = Infallible,
        Future: Send,
    >
    + Clone
    + Send
    + 'static
    + use<B, S, R>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
        S: Service<Request<GuardBody<B>>, Response = Response<R>, Error = Infallible, Future: Send + 'static>
            + Clone
            + Send
            + 'static,
        R: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
    {
        ServiceBuilder::new()
            // The client address, which the log, the rate limit and the headers use.
            .layer(self.client_ip.clone())
            // The outermost layer that sees every response, and its body to the end.
            .layer(self.observe.clone())
            // Error responses in the format that the client prefers. Catches panics.
            .layer(self.problem)
            // Outside of everything that rejects, so that error responses have them, too.
            .layer(self.security_headers.clone())
            // 429. It needs only the client address and comes first, so that malformed requests count, too.
            .layer(OptionalLayer(self.rate_limit.clone()))
            // Rejects malformed and ambiguous requests with 400 before other layers interpret them.
            .layer(self.guard.clone())
            // Rejects blocked paths with 404.
            .layer(OptionalLayer(self.path_filter.clone()))
            // Checks the handshake on its way to the backend, then tunnels the bytes past the layers below.
            .layer(self.ws_passthrough.clone())
            // Sets the forwarding headers, before the cache compares request headers (`Vary`).
            .layer(self.forward_headers.clone())
            // Sets the client certificate header, after spoofed ones were removed.
            .layer(self.client_certificate.clone())
            // Responds to a cache hit. An empty body lets the cache repeat a request.
            .layer(OptionalLayer(self.cache.clone().map(|cache| cache.empty_body(GuardBody::<B>::default))))
            // Below the cache: a response is compressed once and served many times.
            .layer(OptionalLayer(self.compression))
            .service(inner)
    }
}

impl Stack {
    /// Returns the layers around the backends, with a connection pool of its own: one service per worker.
    pub fn service<B>(
        &self,
    ) -> impl Service<
        Request<B>,
        Response = Response<impl Body<Data = Bytes, Error = BoxError> + Send + use<B>>,
        Error = Infallible,
        Future: Send,
    >
    + Clone
    + Send
    + 'static
    + use<B>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let upstream: Upstream<GuardBody<B>> = self.backends.upstream();
        self.wrap(upstream)
    }

    /// Runs the health checks until dropped, if the configuration enables them. Spawn it as a task.
    pub fn run_health_checks(&self) -> impl Future<Output = ()> + Send + use<> {
        self.backends.run_health_checks()
    }
}

/// Returns the layers in order, from the client to the backends, as `--check` prints them.
pub fn layers(config: &Config) -> Vec<String> {
    let on = |enabled: bool, layer: String| enabled.then_some(layer);
    [
        Some(format!("ClientIp         trusts {}", or_none(config.trusted_proxies.text()))),
        Some("Observe          metrics, access log".to_owned()),
        Some("ErrorResponse    text, application/problem+json or gRPC status".to_owned()),
        Some(format!(
            "SecurityHeaders  {}{}",
            config.security_headers,
            if config.hsts { "" } else { ", without HSTS" }
        )),
        on(config.rate_limit_enabled, format!("RateLimit        {}", rate_limit(config))),
        Some("RequestGuard     rejects malformed and ambiguous requests".to_owned()),
        on(
            config.filter_enabled,
            format!(
                "PathFilter       {}{}",
                config.blocked_paths.text(),
                if config.filter_log_only { ", shadow mode" } else { "" }
            ),
        ),
        Some(match config.ws_enabled {
            true => {
                let others = config.upgrades.as_ref().map(|others| format!(", and upgrades to {}", others.text()));
                format!("WsPassthrough    {}{}", config.ws_paths.text(), others.unwrap_or_default())
            }
            false => "WsPassthrough    rejects every upgrade".to_owned(),
        }),
        Some(format!(
            "ForwardHeaders   {}X-Forwarded-*, {}X-Request-Id, Via",
            if config.forwarded { "Forwarded, " } else { "" },
            if config.hide_client { "" } else { "X-Real-IP, " },
        )),
        on(
            config.tls_client_auth != ClientAuthentication::Off,
            format!("ClientCert       Client-Cert, Client-Cert-Chain: {}", config.tls_client_auth),
        ),
        on(config.cache_enabled, format!("Cache            {}", config.cache_paths.text())),
        on(config.compression, "Compression      brotli, gzip, zstd".to_owned()),
        Some(format!(
            "Upstream         {}",
            config.upstream.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        )),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn rate_limit(config: &Config) -> String {
    let mut text = format!("{}/s per client, burst {}", config.rate_limit, config.rate_burst);
    if !config.rate_ipv6_tiers.is_empty() {
        text += &format!(", IPv6 networks {}", config.rate_ipv6_tiers);
    }
    if let Some(most) = config.rate_max_in_flight {
        text += &format!(", {most} concurrent");
    }
    if let RateLimitStorage::Redis(_) = config.rate_limit_store {
        text += &format!(", stored in {}, fallback {}", config.rate_limit_store, config.rate_limit_fallback);
    }
    text
}

fn or_none(list: &str) -> &str {
    if list.is_empty() { "no proxies" } else { list }
}
