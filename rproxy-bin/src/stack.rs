//! The whole proxy on one screen: which layers there are, in which order, and why there.

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

/// Everything between a server and the backends. Made by [`stack`](crate::stack()).
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
    /// The layers around `inner`, from the client to the backend.
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
            // Who asks: the log, the limiter and the headers are to agree on it.
            .layer(self.client_ip.clone())
            // Outermost of all that answers: sees every answer, and its body to the end.
            .layer(self.observe.clone())
            // Refusals in the form that the client prefers; a panic costs one request.
            .layer(self.problem)
            // Around everything that answers, so that refusals carry them, too.
            .layer(self.security_headers.clone())
            // 429. It reads nothing but the client's address, and so may come first: requests that are no requests count, too.
            .layer(OptionalLayer(self.rate_limit.clone()))
            // One reading, or 400: before anything that reads.
            .layer(self.guard.clone())
            // 404
            .layer(OptionalLayer(self.path_filter.clone()))
            // The handshake goes on down; then bytes flow past everything below.
            .layer(self.ws_passthrough.clone())
            // What the backend is to see of the client, settled before the cache compares it (`Vary`).
            .layer(self.forward_headers.clone())
            // The certificate that the client showed, after what it claims has been dropped.
            .layer(self.client_certificate.clone())
            // A hit ends here. An empty body lets the cache repeat a request.
            .layer(OptionalLayer(self.cache.clone().map(|cache| cache.empty_body(GuardBody::<B>::default))))
            // Inside of the cache: compressed once, served many times.
            .layer(OptionalLayer(self.compression))
            .service(inner)
    }
}

impl Stack {
    /// The layers around the backends, with connections of its own: one service for each worker.
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

    /// Asks the backends how they are, if the configuration says so, until it is dropped: something to spawn.
    pub fn run_health_checks(&self) -> impl Future<Output = ()> + Send + use<> {
        self.backends.run_health_checks()
    }
}

/// The layers in order, from the client to the backends, as `--check` prints them.
pub fn layers(config: &Config) -> Vec<String> {
    let on = |enabled: bool, layer: String| enabled.then_some(layer);
    [
        Some(format!("ClientIp         trusts {}", or_nobody(config.trusted_proxies.text()))),
        Some("Observe          metrics, access log".to_owned()),
        Some("Problem          refusals as text or application/problem+json".to_owned()),
        Some(format!(
            "SecurityHeaders  {}{}",
            config.security_headers,
            if config.hsts { "" } else { ", without HSTS" }
        )),
        on(config.rate_limit_enabled, format!("RateLimit        {}", rate_limit(config))),
        Some("RequestGuard     one reading, or 400".to_owned()),
        on(
            config.filter_enabled,
            format!(
                "PathFilter       {}{}",
                config.blocked_paths.text(),
                if config.filter_log_only { ", only logged" } else { "" }
            ),
        ),
        Some(match config.ws_enabled {
            true => {
                let others = config.upgrades.as_ref().map(|others| format!(", and upgrades to {}", others.text()));
                format!("WsPassthrough    {}{}", config.ws_paths.text(), others.unwrap_or_default())
            }
            false => "WsPassthrough    refuses every upgrade".to_owned(),
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
    let mut text = format!("{}/s per client, bursts of {}", config.rate_limit, config.rate_burst);
    if !config.rate_ipv6_tiers.is_empty() {
        text += &format!(", IPv6 networks {}", config.rate_ipv6_tiers);
    }
    if let Some(most) = config.rate_max_in_flight {
        text += &format!(", {most} at once");
    }
    if let RateLimitStorage::Redis(_) = config.rate_limit_store {
        text += &format!(", kept in {}, else {}", config.rate_limit_store, config.rate_limit_fallback);
    }
    text
}

fn or_nobody(list: &str) -> &str {
    if list.is_empty() { "nobody" } else { list }
}
