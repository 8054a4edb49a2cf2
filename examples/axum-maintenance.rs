//! An axum server with error pages of its own and a maintenance switch.
//!
//! ```sh
//! cargo run -p rproxy-examples --bin axum-maintenance -- 127.0.0.1:3000
//! curl -i -H 'accept: text/html' http://127.0.0.1:3000/missing   # the page 404.html, with the status of the handler
//! curl -X POST http://127.0.0.1:3000/switch/on
//! curl -i -H 'accept: text/html' http://127.0.0.1:3000/          # 503, Retry-After, the page maintenance.html
//! curl -i http://127.0.0.1:3000/                                 # the same as text
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use rproxy_client_ip::{AddressList, ClientIpLayer, TrustedProxies};
use rproxy_maintenance::{Maintenance, MaintenanceLayer};
use rproxy_problem::{ErrorPages, ProblemLayer};
use tower::BoxError;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());

    // `ErrorPages::read` reads all pages of a folder.
    let pages = ErrorPages::new()
        .page("404.html", "<!doctype html><title>::STATUS::</title><h1>There is no such page</h1>\n")?
        .page("maintenance.html", "<!doctype html><title>Maintenance</title><h1>Back in a minute</h1>\n")?;
    let problem = ProblemLayer::new().pages(pages).replace_errors("404, 5xx".parse()?);

    let maintenance = Maintenance::new();
    // These clients see the site during maintenance.
    let layer = MaintenanceLayer::new(maintenance.clone()).exempt(AddressList::parse("192.0.2.0/24")?);
    let switch = async move |Path(state): Path<String>| match &*state {
        "on" => maintenance.enable(Duration::from_secs(60)),
        _ => maintenance.disable(),
    };

    let app = Router::new()
        .route("/", get(async || "hello\n"))
        .layer(layer)
        // Outside of the layer, so that it can turn maintenance off. In production, serve it on another listener.
        .route("/switch/{state}", post(switch))
        .layer(problem)
        .layer(ClientIpLayer::new(TrustedProxies::none()));

    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
