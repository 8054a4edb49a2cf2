//! Tests of the traits that public types implement, such as `Clone`, `Debug`, `Send`, `Sync` and `Error`.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Debug;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, Service, ServiceBuilder};

type Body = Full<Bytes>;

/// The innermost service, which the layers wrap.
#[derive(Clone, Debug)]
struct Inner;

impl<B> Service<Request<B>> for Inner {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        std::future::ready(Ok(Response::default()))
    }
}

trait Shared: Clone + Debug + Send + Sync + 'static {}
impl<T: Clone + Debug + Send + Sync + 'static> Shared for T {}

/// Checks that a layer, its service and its future implement the traits that servers and routers require.
fn is_a_layer<L>(layer: L) -> L
where
    L: Layer<Inner> + Shared,
    L::Service: Service<Request<Body>, Error = Infallible> + Shared,
    <L::Service as Service<Request<Body>>>::Future: Debug + Send + 'static,
{
    layer
}

#[test]
fn layers_and_services_are_clone_debug_send_and_sync() {
    use rproxy_rate_limit::{ClientKey, Quota, RateLimitLayer};

    let builder = || RateLimitLayer::builder(Quota::per_second(1));
    let stack = ServiceBuilder::new()
        .layer(is_a_layer(rproxy_client_ip::ClientIpLayer::new(rproxy_client_ip::TrustedProxies::none())))
        .layer(is_a_layer(rproxy_problem::ProblemLayer::new()))
        .layer(is_a_layer(rproxy_security_headers::SecurityHeadersLayer::recommended()))
        .layer(is_a_layer(rproxy_request_guard::RequestGuardLayer::new()))
        .layer(is_a_layer(rproxy_client_cert::ClientCertificateLayer::new()))
        .layer(is_a_layer(rproxy_maintenance::MaintenanceLayer::new(rproxy_maintenance::Maintenance::new())))
        .layer(is_a_layer(rproxy_header_rules::HeaderRulesLayer::new()))
        .layer(is_a_layer(rproxy_target_rules::TargetRulesLayer::new()))
        .layer(is_a_layer(RateLimitLayer::new(Quota::per_second(1))))
        .layer(is_a_layer(builder().key(ClientKey::default().ipv6_prefix(56)).build().unwrap()))
        .layer(is_a_layer(rproxy_path_filter::PathFilterLayer::new(rproxy_path_filter::PathRules::sensitive())))
        .layer(is_a_layer(rproxy_ws_passthrough::WsPassthroughLayer::new()))
        .layer(is_a_layer(rproxy_cache::CacheLayer::new(rproxy_cache::CacheStore::in_memory(1 << 20))))
        .layer(is_a_layer(rproxy_cache::DefaultLifetimeLayer::new()))
        .layer(is_a_layer(rproxy_compression::CompressionLayer::new()))
        .layer(is_a_layer(rproxy_forward_headers::ForwardHeadersLayer::new()))
        .service(Inner);
    fn is_a_service<S: Service<Request<Body>, Error = Infallible> + Shared>(_: S) {}
    is_a_service(stack);
    // A service with a closure has no `Debug`.
    fn is_shared<T: Clone + Send + Sync + 'static>(_: T) {}
    is_shared(builder().key(|head: &http::request::Parts| head.headers.get("x-api-key").cloned()).build().unwrap());
}

#[test]
fn upstream_and_handles_are_clone_debug_send_and_sync() {
    fn is_a_service<S: Service<Request<Body>, Error = Infallible, Future: Send> + Shared>() {}
    is_a_service::<rproxy_upstream::Upstream<Body>>();
    fn is_shared<T: Shared>() {}
    fn is_debug<T: Debug + Send>() {}
    is_debug::<rproxy_upstream::UpstreamBody<Body>>();
    is_debug::<rproxy_cache::ResponseBody<Body>>();
    is_debug::<rproxy_compression::ResponseBody<Body>>();
    is_debug::<rproxy_problem::ResponseBody<Body>>();
    is_shared::<rproxy_problem::Rejection>();
    is_shared::<rproxy_compression::Coding>();
    is_debug::<rproxy_server::RequestBody>();
    is_debug::<rproxy_request_guard::GuardBody<Body>>();
    is_shared::<rproxy_upstream::Backends>();
    is_shared::<rproxy_upstream::Builder>();
    is_shared::<rproxy_tls::Certificates>();
    is_shared::<rproxy_server::Handle>();
    is_shared::<rproxy_server::Limits>();
    is_shared::<rproxy_server::Server>();
    is_shared::<rproxy_ws_passthrough::Tunnels>();
    is_shared::<rproxy_cache::CacheStore>();
    is_shared::<rproxy::Config>();
    is_shared::<rproxy::Stack>();
}

#[test]
fn errors_are_send_sync_and_boxable() {
    fn is_an_error<E: Error + Send + Sync + 'static>() {}
    is_an_error::<rproxy_cache::CachePathsError>();
    is_an_error::<rproxy_cache::PurgeError>();
    is_an_error::<rproxy_client_ip::CidrError>();
    is_an_error::<rproxy_client_ip::ClientIpSourceError>();
    is_an_error::<rproxy_client_ip::TrustedProxiesError>();
    is_an_error::<rproxy_path_filter::PathRulesError>();
    is_an_error::<rproxy_rate_limit::MissingKeyError>();
    is_an_error::<rproxy_rate_limit::RateLimitLayerError>();
    is_an_error::<rproxy_rate_limit::QuotaError>();
    is_an_error::<rproxy_security_headers::HstsError>();
    is_an_error::<rproxy_server::HandoverError>();
    is_an_error::<rproxy_server::ListenAddrError>();
    is_an_error::<rproxy_request_guard::RequestBodyError>();
    is_an_error::<rproxy_server::ServerError>();
    is_an_error::<rproxy_tls::Error>();
    is_an_error::<rproxy_upstream::BackendError>();
    is_an_error::<rproxy_upstream::BodyError>();
    is_an_error::<rproxy_upstream::BuildError>();
    is_an_error::<rproxy_upstream::ProxyError>();
    is_an_error::<rproxy_ws_passthrough::WsOriginsError>();
    is_an_error::<rproxy_ws_passthrough::WsPathsError>();
    is_an_error::<rproxy::ConfigError>();
    is_an_error::<rproxy::RunError>();
    is_an_error::<rproxy::StackError>();
    // `BodyError` converts into a box instead of implementing `Error`, since the inner error may be a box. hyper and axum
    // need no more.
    fn converts_into_a_box<E: Into<Box<dyn Error + Send + Sync>>>() {}
    converts_into_a_box::<rproxy_cache::BodyError<tower::BoxError>>();
    converts_into_a_box::<rproxy_cache::BodyError<Infallible>>();
}

#[test]
fn configuration_types_parse_from_text() {
    assert!("10.0.0.0/8, cloudflare".parse::<rproxy_client_ip::TrustedProxies>().is_ok());
    assert!("CF-Connecting-IP".parse::<rproxy_client_ip::ClientIpSource>().is_ok());
    assert!("default,/private/**,!/private/ok".parse::<rproxy_path_filter::PathRules>().is_ok());
    assert!("/static/**,**/*.{css,js}".parse::<rproxy_cache::CachePaths>().is_ok());
    assert!("https://example.org/*".parse::<rproxy_cache::Purge>().is_ok());
    assert!("/live/**".parse::<rproxy_ws_passthrough::WsPaths>().is_ok());
    assert!("https://app.example, self".parse::<rproxy_ws_passthrough::WsOrigins>().is_ok());
    assert!("h2c://127.0.0.1:3000 weight=2".parse::<rproxy_upstream::Backend>().is_ok());
    assert!("[::1]:8080".parse::<rproxy_server::ListenAddr>().is_ok());
    assert!("TLS_AES_128_GCM_SHA256".parse::<rproxy_tls::CipherSuites>().is_ok());
    assert!("1.3".parse::<rproxy_tls::TlsVersion>().is_ok());
    assert_eq!(
        rproxy_server::ListenAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 80))).to_string(),
        "127.0.0.1:80"
    );
}
