//! A cache in front of slow axum handlers. It follows their `Cache-Control`, and a route purges it.
//!
//! ```sh
//! cargo run -p rproxy-examples --bin axum-cache -- 127.0.0.1:3000
//! curl -i http://127.0.0.1:3000/time             # Cache-Status: rproxy; fwd=uri-miss; stored
//! curl -i http://127.0.0.1:3000/time             # Cache-Status: rproxy; hit; ttl=60
//! curl -X POST http://127.0.0.1:3000/purge/time
//! ```

use std::time::SystemTime;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::routing::{get, post};
use rproxy_cache::{CacheLayer, CacheStore, Purge};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());

    // 64 MiB for heads and bodies. Clones share the store.
    let store = CacheStore::in_memory(64 << 20);

    let cached = Router::new()
        // Fresh for a minute, then served stale for ten seconds while it is revalidated.
        .route("/time", get(async || ([(header::CACHE_CONTROL, "max-age=60, stale-while-revalidate=10")], now())))
        // Without `Cache-Control`, the handler runs for each request.
        .route("/now", get(async || now()))
        .layer(CacheLayer::new(store.clone()));

    let purge = async move |Path(path): Path<String>| match Purge::url(&format!("/{path}")) {
        Ok(purge) => (StatusCode::OK, format!("{} purged\n", store.purge(&purge))),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    // On a public listener, this route needs authentication.
    let app = cached.route("/purge/{*path}", post(purge));

    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

fn now() -> String {
    format!("{:?}\n", SystemTime::now())
}
