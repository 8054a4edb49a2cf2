//! A custom proxy that routes by host and path, built from a selection of layers.
//!
//! A path belongs to the host before it:
//!
//! ```sh
//! cargo run -p rproxy-examples --bin custom-proxy -- 127.0.0.1:8080 \
//!     'app.local=127.0.0.1:3000' '/api/**=127.0.0.1:4000' '*.shop.local=127.0.0.1:5000'
//! curl -H 'Host: app.local' http://127.0.0.1:8080/api/users
//! ```

use rproxy_client_ip::{ClientIpLayer, TrustedProxies};
use rproxy_forward_headers::ForwardHeadersLayer;
use rproxy_path_filter::{PathFilterLayer, PathRules};
use rproxy_request_guard::{GuardBody, RequestGuardLayer};
use rproxy_router::Router;
use rproxy_server::{RequestBody, Server};
use rproxy_upstream::Upstream;
use tower::ServiceBuilder;

type Backend = Upstream<GuardBody<RequestBody>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let mut router: Router<Backend> = Router::new();
    for route in arguments {
        let (pattern, backend) = route.split_once('=').ok_or("expected HOST=BACKEND or /PATH=BACKEND")?;
        let backend = Upstream::builder().backend(backend)?.build()?;
        router = match pattern.starts_with('/') {
            true => router.path(pattern, backend)?,
            false => router.host(pattern, backend)?,
        };
    }

    let server = Server::bind(address.parse()?).start(move |_worker| {
        ServiceBuilder::new()
            .layer(ClientIpLayer::new(TrustedProxies::none()))
            .layer(RequestGuardLayer::new())
            .layer(PathFilterLayer::new(PathRules::sensitive()))
            .layer(ForwardHeadersLayer::new().via("custom-proxy"))
            .service(router.clone())
    })?;
    println!("listening on {}", server.local_addr().ok_or("no address")?);

    tokio::signal::ctrl_c().await?;
    server.handle().drain();
    server.wait().await;
    Ok(())
}
