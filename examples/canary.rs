//! A canary release: the new version serves one client in twenty, and requests that select it by header field.
//!
//! ```sh
//! cargo run -p rproxy-examples --bin canary -- 127.0.0.1:8080 127.0.0.1:3000 127.0.0.1:4000
//! curl http://127.0.0.1:8080/                         # one client in twenty gets port 4000
//! curl -H 'X-Version: new' http://127.0.0.1:8080/     # always
//! curl -H 'X-Version: old' http://127.0.0.1:8080/     # never
//! ```

use std::convert::Infallible;

use http::{Request, Response};
use rproxy_client_ip::{ClientIp, ClientIpLayer, TrustedProxies};
use rproxy_forward_headers::ForwardHeadersLayer;
use rproxy_request_guard::{GuardBody, RequestGuardLayer};
use rproxy_server::{RequestBody, Server};
use rproxy_upstream::{Backends, Balance, Upstream, UpstreamBody};
use tower::{Service, ServiceBuilder, service_fn};

type Body = GuardBody<RequestBody>;

/// The upstreams of the old and the new version.
#[derive(Clone)]
struct Versions {
    old: Upstream<Body>,
    new: Upstream<Body>,
    both: Upstream<Body>,
}

impl Versions {
    async fn forward(mut self, request: Request<Body>) -> Result<Response<UpstreamBody<Body>>, Infallible> {
        let version = match request.headers().get("x-version").map(|version| version.as_bytes()) {
            Some(b"old") => &mut self.old,
            Some(b"new") => &mut self.new,
            _ => &mut self.both,
        };
        version.call(request).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (address, old, new) = (argument("127.0.0.1:8080"), argument("127.0.0.1:3000"), argument("127.0.0.1:4000"));

    let one = |address: &str| -> Result<Backends, Box<dyn std::error::Error>> {
        Ok(Upstream::builder().backend(address)?.build_backends()?)
    };
    let both = Upstream::builder()
        .backend(&format!("{old} weight=19"))?
        .backend(&format!("{new} weight=1"))?
        // Each client stays on one version.
        .balance(Balance::by_key(|head| head.extensions.get::<ClientIp>().copied()))
        .build_backends()?;
    let (old, new) = (one(&old)?, one(&new)?);

    let server = Server::bind(address.parse()?).start(move |_worker| {
        let versions = Versions { old: old.upstream(), new: new.upstream(), both: both.upstream() };
        ServiceBuilder::new()
            .layer(ClientIpLayer::new(TrustedProxies::none()))
            .layer(RequestGuardLayer::new())
            .layer(ForwardHeadersLayer::new())
            .service(service_fn(move |request| versions.clone().forward(request)))
    })?;
    println!("listening on {}", server.local_addr().ok_or("no address")?);

    tokio::signal::ctrl_c().await?;
    server.handle().drain();
    server.wait().await;
    Ok(())
}
