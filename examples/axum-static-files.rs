//! An axum server that serves files first, and protected files that its handlers name.
//!
//! ```sh
//! mkdir -p www private && echo '<p>home' > www/index.html && echo report > private/report.txt
//! cargo run -p rproxy-examples --bin axum-static-files -- 127.0.0.1:3000 www private
//! curl -i http://127.0.0.1:3000/                       # www/index.html
//! curl -i -r 0-2 http://127.0.0.1:3000/index.html      # 206
//! curl -i http://127.0.0.1:3000/reports/7              # private/report.txt, chosen by the handler
//! curl -i -H 'Accept: text/html' http://127.0.0.1:3000/any/page   # www/index.html, for browsers
//! ```

use std::path::PathBuf;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_DISPOSITION;
use rproxy_static_files::{SendFileLayer, StaticFilesLayer};
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".into());
    let root = PathBuf::from(arguments.next().unwrap_or_else(|| "www".into()));
    let private = PathBuf::from(arguments.next().unwrap_or_else(|| "private".into()));

    let routes = Router::new().route("/reports/{id}", get(report));
    let files = ServiceBuilder::new()
        // Files first, and the index for browsers at paths without a file.
        .layer(StaticFilesLayer::builder(root).fallback("index.html").build()?)
        // Files that a handler names.
        .layer(SendFileLayer::builder(private).accel_prefix("/protected").build()?)
        .service(routes);
    let app: Router = Router::new().fallback_service(files);

    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// Decides whether a client may get a report, and leaves the sending to the layer.
async fn report(Path(id): Path<String>) -> Result<[(&'static str, &'static str); 2], StatusCode> {
    match id.as_str() {
        "7" => Ok([
            ("x-accel-redirect", "/protected/report.txt"),
            (CONTENT_DISPOSITION.as_str(), "attachment; filename=report.txt"),
        ]),
        _ => Err(StatusCode::NOT_FOUND),
    }
}
