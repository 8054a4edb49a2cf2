//! All of the layers around an application in axum, and around the backend that gets what it does not answer itself.
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
use rproxy_forward_headers::ForwardHeadersLayer;
use rproxy_path_filter::{PathFilterLayer, PathRules};
use rproxy_rate_limit::{Quota, RateLimitLayer};
use rproxy_security_headers::SecurityHeadersLayer;
use rproxy_server::{RequestGuardLayer, Server};
use rproxy_upstream::Upstream;
use rproxy_ws_passthrough::WsPassthroughLayer;
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let backend = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".into());

    // What only matters on the way to the backend.
    let upstream: Upstream<Body> = Upstream::builder().backend(&backend)?.build()?;
    let sockets = WsPassthroughLayer::new().paths("/live/**".parse()?);
    let tunnels = sockets.tunnels();
    let proxy = ServiceBuilder::new()
        .layer(sockets)
        .layer(ForwardHeadersLayer::new().via("all-layers"))
        .layer(CacheLayer::new(CacheStore::in_memory(64 << 20)).paths("/static/**".parse()?))
        .service(upstream);

    let app = Router::new().route("/own", get(async || "answered here\n")).fallback_service(proxy).layer(
        // From the outside in, as a request meets them.
        ServiceBuilder::new()
            .layer(ClientIpLayer::new(TrustedProxies::none()))
            // Around everything that answers, so that refusals carry them, too.
            .layer(SecurityHeadersLayer::recommended())
            .layer(RequestGuardLayer::new().max_body(Some(10 << 20)))
            .layer(RateLimitLayer::new(Quota::per_second(100).burst(200)))
            .layer(PathFilterLayer::new(PathRules::sensitive())),
    );

    // rproxy's server puts the peer's address into each request. axum's does, too: see axum-rate-limit.
    let server = Server::bind(address.parse()?).start(move |_worker| app.clone())?;
    println!("listening on {}", server.local_addr().ok_or("no address")?);

    tokio::signal::ctrl_c().await?;
    server.handle().drain();
    tunnels.drain();
    server.wait().await;
    tunnels.closed().await;
    Ok(())
}
