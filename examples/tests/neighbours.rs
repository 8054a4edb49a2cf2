//! Each layer beside the layers of tower, tower-http and axum, in both orders.
//!
//! A pair that does not compile breaks this test. Each pair also serves a request.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use rproxy_access::{AddressFilterLayer, AddressRules, BasicAuthLayer, ForwardAuthConfig, ForwardAuthLayer, Users};
use rproxy_cache::{CacheLayer, CacheStore, DefaultLifetimeLayer};
use rproxy_client_cert::ClientCertificateLayer;
use rproxy_client_ip::{ClientIp, ClientIpLayer, PeerAddr, TrustedProxies};
use rproxy_compression::CompressionLayer;
use rproxy_core::OptionalLayer;
use rproxy_forward_headers::ForwardHeadersLayer;
use rproxy_header_rules::HeaderRulesLayer;
use rproxy_maintenance::{Maintenance, MaintenanceLayer};
use rproxy_path_filter::{PathFilterLayer, PathRules};
use rproxy_problem::ProblemLayer;
use rproxy_rate_limit::{Quota, RateLimitLayer};
use rproxy_request_guard::RequestGuardLayer;
use rproxy_security_headers::SecurityHeadersLayer;
use rproxy_static_files::StaticFilesLayer;
use rproxy_target_rules::TargetRulesLayer;
use rproxy_ws_passthrough::WsPassthroughLayer;
use tower::limit::ConcurrencyLimitLayer;
use tower::util::option_layer;
use tower::{ServiceBuilder, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::normalize_path::NormalizePathLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An application without a layer.
fn app() -> Router {
    Router::new().route("/", get(async || "hello"))
}

async fn add_field(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert("x-middleware", HeaderValue::from_static("1"));
    response
}

/// Sends a request, and checks that the response is that of the application.
async fn serves(pair: &str, app: Router) {
    let mut request = http::Request::get("http://a.example/").header("host", "a.example").body(Body::empty()).unwrap();
    request.headers_mut().insert("authorization", HeaderValue::from_static("Basic dXNlcjpwYXNz"));
    request.extensions_mut().insert(PeerAddr(SocketAddr::new(ADDRESS, 1)));
    request.extensions_mut().insert(ClientIp(ADDRESS));
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{pair}");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "hello", "{pair}");
}

/// Tests a layer beside all neighbours.
macro_rules! beside_neighbours {
    ($($name:ident: $layer:expr;)*) => { $(
        #[tokio::test]
        async fn $name() {
            let layer = $layer;
            beside_neighbours!(@pairs $name, layer;
                CorsLayer::permissive(),
                TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(60)),
                TraceLayer::new_for_http(),
                tower_http::compression::CompressionLayer::new(),
                RequestBodyLimitLayer::new(1 << 20),
                CatchPanicLayer::new(),
                NormalizePathLayer::trim_trailing_slash(),
                SetResponseHeaderLayer::overriding(HeaderName::from_static("x-set"), HeaderValue::from_static("1")),
                ConcurrencyLimitLayer::new(9),
                option_layer(Some(ConcurrencyLimitLayer::new(9))),
                OptionalLayer::new(Some(SecurityHeadersLayer::recommended())),
                OptionalLayer::new(None::<RateLimitLayer>),
            );
            // Middleware of axum accepts requests with axum's body, as each layer of a router does.
            let inside = app().layer(from_fn(add_field)).layer(layer.clone());
            serves(concat!(stringify!($name), " around from_fn"), inside).await;
            let outside = app().layer(layer).layer(from_fn(add_field));
            serves(concat!(stringify!($name), " in from_fn"), outside).await;
        }
    )* };
    (@pairs $name:ident, $layer:ident; $($neighbour:expr,)*) => { $(
        let pair = ServiceBuilder::new().layer($layer.clone()).layer($neighbour);
        serves(concat!(stringify!($name), " around ", stringify!($neighbour)), app().layer(pair)).await;
        let pair = ServiceBuilder::new().layer($neighbour).layer($layer.clone());
        serves(concat!(stringify!($name), " in ", stringify!($neighbour)), app().layer(pair)).await;
    )* };
}

beside_neighbours! {
    address_filter: AddressFilterLayer::new(AddressRules::new());
    basic_auth: BasicAuthLayer::new(Users::parse(USERS).unwrap()).unwrap();
    cache: CacheLayer::new(CacheStore::in_memory(1 << 20));
    client_certificate: ClientCertificateLayer::new();
    client_ip: ClientIpLayer::new(TrustedProxies::none());
    compression: CompressionLayer::new();
    default_lifetime: DefaultLifetimeLayer::new();
    forward_auth: ForwardAuthLayer::new(tower::service_fn(admit), auth_config());
    forward_headers: ForwardHeadersLayer::new();
    header_rules: HeaderRulesLayer::new();
    maintenance: MaintenanceLayer::new(Maintenance::new());
    optional: OptionalLayer::new(Some(PathFilterLayer::new(PathRules::sensitive())));
    path_filter: PathFilterLayer::new(PathRules::sensitive());
    problem: ProblemLayer::new();
    rate_limit: RateLimitLayer::new(Quota::per_second(1000).burst(1000));
    request_guard: RequestGuardLayer::new();
    security_headers: SecurityHeadersLayer::recommended();
    static_files: StaticFilesLayer::none();
    target_rules: TargetRulesLayer::new();
    ws_passthrough: WsPassthroughLayer::new();
}

/// `user` with the password `pass`, at the lowest cost of bcrypt.
const USERS: &str = "user:$2b$04$dX//UF0q14cS6uqY.ydhPeA2CvD.7TuwB7wkao2Z1o1YSKXUuDD9G";

/// An authentication service that admits all clients.
async fn admit(_: http::Request<http_body_util::Empty<bytes::Bytes>>) -> Result<Response, std::convert::Infallible> {
    Ok(Response::new(Body::empty()))
}

fn auth_config() -> ForwardAuthConfig {
    ForwardAuthConfig::builder("http://auth.example/check".parse().unwrap()).build().unwrap()
}

#[tokio::test]
async fn default_body_of_each_layer_lets_cors_respond_to_a_preflight_request() {
    let app = app().layer(
        ServiceBuilder::new()
            .layer(CorsLayer::permissive())
            .layer(ProblemLayer::new())
            .layer(CompressionLayer::new())
            .layer(RateLimitLayer::new(Quota::per_second(9).burst(9))),
    );
    let mut request = http::Request::new(Body::empty());
    *request.method_mut() = Method::OPTIONS;
    request.headers_mut().insert("origin", HeaderValue::from_static("https://b.example"));
    request.headers_mut().insert("access-control-request-method", HeaderValue::from_static("PUT"));
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
}
