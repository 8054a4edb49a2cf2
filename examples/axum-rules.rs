//! An axum server with redirects, rewrites and header rules.
//!
//! ```sh
//! cargo run -p rproxy-examples --bin axum-rules -- 127.0.0.1:3000
//! curl -i http://127.0.0.1:3000/blog/2024/hello       # 301, Location: /posts/hello
//! curl -i http://127.0.0.1:3000/u/ann                 # rewritten to /users/ann
//! curl -i http://127.0.0.1:3000/robots.txt            # a fixed response
//! ```

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use rproxy_header_rules::HeaderRulesLayer;
use rproxy_target_rules::{TargetRulesLayer, TrailingSlash};
use tower::Layer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());

    let headers = HeaderRulesLayer::builder()
        .response("X-Frame-Options: DENY".parse()?)
        .response("?Cache-Control: no-cache".parse()?)
        .response("-X-Debug-*".parse()?)
        .build()?;
    let targets = TargetRulesLayer::builder()
        .redirect("/blog/{year}/{slug} -> /posts/{slug} permanent".parse()?)
        .respond(r"/robots.txt -> 200 text/plain User-agent: *\nDisallow: /private/\n".parse()?)
        .trailing_slash(TrailingSlash::Remove)
        .rewrite("/u/{name} -> /users/{name}".parse()?)
        .build()?;

    let routes =
        Router::new().route("/posts/{slug}", get(async |Path(slug): Path<String>| format!("post {slug}\n"))).route(
            "/users/{name}",
            get(async |Path(name): Path<String>| ([("x-debug-time", "7")], format!("user {name}\n"))),
        );
    // Around the routes, because `Router::layer` runs after routing.
    let app = Router::new().fallback_service(targets.layer(routes)).layer(headers);

    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
