//! Benchmark cases for processor time and instruction counts: each layer alone, and all layers together.
//!
//! The request is a browser's and the response a small page, which the inner service returns immediately. `none` is the
//! inner service without a layer.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::num::NonZeroU32;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{Empty, Full};
use rproxy::Config;
use rproxy_cache::{CacheLayer, CacheStore};
use rproxy_client_ip::{ClientIp, ClientIpLayer, PeerAddr, TrustedProxies};
use rproxy_compression::CompressionLayer;
use rproxy_forward_headers::ForwardHeadersLayer;
use rproxy_path_filter::{PathFilterLayer, PathRules};
use rproxy_rate_limit::{Quota, RateLimitLayer};
use rproxy_request_guard::RequestGuardLayer;
use rproxy_security_headers::SecurityHeadersLayer;
use rproxy_ws_passthrough::WsPassthroughLayer;
use tower::{Layer, Service, ServiceBuilder, service_fn};

// The module has tests and start-up code, and a benchmark has no use for either.
#[allow(dead_code, unused_imports)]
#[path = "../../rproxy-bin/src/allocator.rs"]
mod allocator;

/// The memory allocator of the rproxy binary.
#[global_allocator]
static ALLOCATOR: allocator::Mimalloc = allocator::Mimalloc;

/// A consumer of benchmark cases.
pub(crate) trait Measure {
    /// Measures the benchmark case `name`, which calls `service`.
    fn measure<S: Service<Request<Empty<Bytes>>>>(&mut self, name: &str, service: S);
}

/// Passes each benchmark case to `consumer`.
pub(crate) fn all(consumer: &mut impl Measure) {
    // A quota that is never exhausted, so that no request is rejected.
    let unlimited = NonZeroU32::new(1_000_000_000).unwrap();
    let mut config = Config::default();
    (config.rate_limit.rate, config.rate_limit.burst) = (rproxy::config::Rate::per_second(unlimited), Some(unlimited));
    let quota = Quota::per_second(unlimited.get()).burst(unlimited.get());
    let inner = || service_fn(page);

    consumer.measure("none", service_fn(page));
    consumer.measure("client-ip", ClientIpLayer::new(TrustedProxies::none()).layer(inner()));
    consumer.measure("security-headers", SecurityHeadersLayer::recommended().layer(inner()));
    consumer.measure("request-guard", RequestGuardLayer::new().layer(service_fn(page)));
    consumer.measure("rate-limit", RateLimitLayer::new(quota).layer(inner()));
    consumer.measure("path-filter", PathFilterLayer::new(PathRules::sensitive()).layer(inner()));
    consumer.measure("ws-passthrough", WsPassthroughLayer::new().layer(inner()));
    let cache = CacheLayer::new(CacheStore::in_memory(64 << 20));
    consumer.measure("cache, not applying", cache.paths("/static/**".parse().unwrap()).layer(inner()));
    consumer.measure("forward-headers", ForwardHeadersLayer::new().via("rproxy").layer(inner()));
    consumer.measure("compression, not applying", CompressionLayer::new().layer(inner()));
    let cache = CacheLayer::new(CacheStore::in_memory(64 << 20));
    let six = ServiceBuilder::new()
        .layer(SecurityHeadersLayer::recommended())
        .layer(RateLimitLayer::new(quota))
        .layer(PathFilterLayer::new(PathRules::sensitive()))
        .layer(WsPassthroughLayer::new())
        .layer(ForwardHeadersLayer::new().via("rproxy"))
        .layer(cache.paths("/static/**".parse().unwrap()));
    consumer.measure("six layers", six.service(inner()));
    consumer.measure("full stack", rproxy::stack(&config).unwrap().wrap(service_fn(page)));
}

/// Returns a typical browser request.
pub(crate) fn request() -> Request<Empty<Bytes>> {
    let peer: SocketAddr = "192.0.2.7:50123".parse().unwrap();
    let request = Request::get("/articles/2026/how-to-measure?page=2")
        .header("host", "www.example.org")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
        .header("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
        .header("accept-language", "en-US,en;q=0.5")
        .header("accept-encoding", "gzip, deflate, br, zstd")
        .header("referer", "https://www.example.org/articles")
        .header("cookie", "session=5f0c8d2e7a; theme=dark")
        .header("connection", "keep-alive");
    let mut request = request.extension(PeerAddr(peer)).extension(ClientIp(peer.ip())).body(Empty::new()).unwrap();
    // rproxy's server reserves room for added fields.
    request.headers_mut().reserve(9);
    request
}

/// Calls a service, which must respond immediately.
pub(crate) fn call<S: Service<Request<Empty<Bytes>>>>(service: &mut S, request: Request<Empty<Bytes>>) -> S::Response {
    service.call(request).now_or_never().and_then(Result::ok).expect("an immediate response")
}

/// The inner service, which returns a small page with typical header fields and allocates no memory for the body.
fn page<B>(_: Request<B>) -> Ready<Result<Response<Full<Bytes>>, Infallible>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"hello from nginx\n")));
    let fields = [
        (header::SERVER, "nginx/1.22.1"),
        (header::DATE, "Mon, 23 Nov 2026 12:00:00 GMT"),
        (header::CONTENT_TYPE, "text/html"),
        (header::CONTENT_LENGTH, "17"),
        (header::LAST_MODIFIED, "Mon, 23 Nov 2026 11:00:00 GMT"),
        (header::ETAG, "\"6b3c1f2e-11\""),
        (header::ACCEPT_RANGES, "bytes"),
    ];
    // rproxy's upstream reserves room for added fields, too.
    *response.headers_mut() = HeaderMap::with_capacity(fields.len() + 16);
    response.headers_mut().extend(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
    ready(Ok(response))
}
