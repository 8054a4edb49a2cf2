//! An axum server with one layer: five requests per second per client, with bursts of ten.
//!
//! ```sh
//! cargo run -p rproxy-examples --bin axum-rate-limit -- 127.0.0.1:3000
//! for i in $(seq 20); do curl -s -o /dev/null -w '%{http_code} ' http://127.0.0.1:3000/; done
//! ```

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use rproxy_client_ip::{ClientIpLayer, TrustedProxies};
use rproxy_rate_limit::{Quota, RateLimitLayer};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());

    let app = Router::new().route("/", get(|| async { "Hello, World!\n" })).layer(
        ServiceBuilder::new()
            // Adds the `ClientIp` that the rate limit needs. Without trusted proxies, it is the peer address.
            .layer(ClientIpLayer::new(TrustedProxies::none()))
            .layer(RateLimitLayer::new(Quota::per_second(5).burst(10))),
    );

    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
