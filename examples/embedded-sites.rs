//! Two sites embedded in another program: rproxy's layers and settings with axum's server.
//!
//! `shop.local` goes to the first backend, except for `/api/**`, which goes to the second one at ten requests per second.
//! `docs.local` goes to the second one, and its cache covers all paths.
//!
//! ```sh
//! cargo run -p rproxy-examples --bin embedded-sites -- 127.0.0.1:8080 127.0.0.1:3000 127.0.0.1:4000
//! curl -H 'Host: shop.local' http://127.0.0.1:8080/api/users
//! ```

use std::net::SocketAddr;

use rproxy::Config;
use rproxy::config::{RouteConfig, SiteConfig};
use rproxy_router::Route;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("expected ADDRESS BACKEND BACKEND");
    let (address, first, second) = (next()?, next()?.parse()?, next()?.parse()?);

    // The defaults of both sites.
    let mut config = Config::default();
    config.security_headers.hsts = false;

    let mut shop = config.clone();
    shop.upstream.backends = vec![first];
    let mut api = shop.clone();
    api.upstream.backends = vec![second];
    api.rate_limit.rate = "10".parse()?;
    let mut docs = config.clone();
    docs.upstream.backends = api.upstream.backends.clone();
    docs.cache.paths = "/**".parse()?;

    let mut shop = SiteConfig::new(vec!["shop.local".parse()?], shop);
    shop.routes.push(RouteConfig::new(Route::new().path("/api/**"), api));
    config.sites = vec![shop, SiteConfig::new(vec!["docs.local".parse()?, "*.docs.local".parse()?], docs)];
    config.validate()?;

    let stack = rproxy::stack(&config)?;
    let app = axum::Router::new().fallback_service(stack.service::<axum::body::Body>());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
