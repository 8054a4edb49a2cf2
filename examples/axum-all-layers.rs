//! All layers around an axum application that forwards requests without a route to a backend.
//!
//! ```sh
//! cargo run -p rproxy-examples --bin axum-all-layers -- 127.0.0.1:8080 127.0.0.1:3000
//! curl -i http://127.0.0.1:8080/own
//! curl -i http://127.0.0.1:8080/.env
//! ```

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use rproxy_cache::{CacheLayer, CacheStore};
use rproxy_client_ip::{ClientIpLayer, TrustedProxies};
use rproxy_compression::CompressionLayer;
use rproxy_forward_headers::ForwardHeadersLayer;
use rproxy_path_filter::{PathFilterLayer, PathRules};
use rproxy_rate_limit::{Quota, RateLimitLayer};
use rproxy_request_guard::RequestGuardLayer;
use rproxy_security_headers::SecurityHeadersLayer;
use rproxy_server::Server;
use rproxy_upstream::Upstream;
use rproxy_ws_passthrough::WsPassthroughLayer;
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let backend = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".into());

    // Layers for forwarded requests only.
    let upstream: Upstream<Body> = Upstream::builder().backend(&backend)?.build()?;
    let sockets = WsPassthroughLayer::new().paths("/live/**".parse()?);
    let tunnels = sockets.tunnels();
    let proxy = ServiceBuilder::new()
        .layer(sockets)
        .layer(ForwardHeadersLayer::new().via("all-layers"))
        .layer(CacheLayer::new(CacheStore::in_memory(64 << 20)).paths("/static/**".parse()?))
        // Inside of the cache, so that a body is compressed once.
        .layer(CompressionLayer::new())
        .service(upstream);

    let app = Router::new().route("/own", get(async || "served here\n")).fallback_service(proxy).layer(
        // The first layer is the outermost.
        ServiceBuilder::new()
            .layer(ClientIpLayer::new(TrustedProxies::none()))
            // Outside of the layers that reject, so that rejections have the headers, too.
            .layer(SecurityHeadersLayer::recommended())
            .layer(RequestGuardLayer::new().max_body(Some(10 << 20)))
            .layer(RateLimitLayer::new(Quota::per_second(100).burst(200)))
            .layer(PathFilterLayer::new(PathRules::sensitive())),
    );

    // rproxy's server adds the peer address to each request. With axum's server, see axum-rate-limit.
    let server = Server::bind(address.parse()?).start(move |_worker| app.clone())?;
    println!("listening on {}", server.local_addr().ok_or("no address")?);

    tokio::signal::ctrl_c().await?;
    server.handle().drain();
    tunnels.drain();
    server.wait().await;
    tunnels.closed().await;
    Ok(())
}
