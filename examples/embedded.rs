//! The full rproxy stack embedded in an axum server, next to a route of the program.
//!
//! ```sh
//! RPROXY_UPSTREAM=127.0.0.1:3000 cargo run -p rproxy-examples --bin embedded -- 127.0.0.1:8080
//! ```

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let config = rproxy::Config::from_env()?;
    let stack = rproxy::stack(&config)?;

    let app = Router::new()
        .route("/own", get(|| async { "served here\n" }))
        .fallback_service(stack.service::<axum::body::Body>());

    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
