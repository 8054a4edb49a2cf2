//! A custom proxy: selects the backend by `Host`, with a selection of layers.
//!
//! ```sh
//! cargo run -p rproxy-examples --bin custom-proxy -- 127.0.0.1:8080 app.local=127.0.0.1:3000 api.local=127.0.0.1:4000
//! curl -H 'Host: api.local' http://127.0.0.1:8080/
//! ```

use std::collections::HashMap;
use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use rproxy_client_ip::{ClientIpLayer, TrustedProxies};
use rproxy_forward_headers::ForwardHeadersLayer;
use rproxy_path_filter::{PathFilterLayer, PathRules};
use rproxy_server::RequestBody;
use rproxy_server::{GuardBody, RequestGuardLayer, Server};
use rproxy_upstream::{Upstream, UpstreamBody};
use tower::{Service, ServiceBuilder, service_fn};

type Body = GuardBody<RequestBody>;
type Backends = HashMap<String, Upstream<Body>>;
type ProxyResponse = Response<Either<UpstreamBody<Body>, Full<Bytes>>>;

/// Forwards a request to the backend of its host, or responds with 421.
async fn route(mut backends: Backends, request: Request<Body>) -> Result<ProxyResponse, Infallible> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    match backends.get_mut(&name) {
        Some(backend) => Ok(backend.call(request).await?.map(Either::Left)),
        None => {
            let mut response = Response::new(Either::Right(Full::new(Bytes::from_static(b"no such host\n"))));
            *response.status_mut() = StatusCode::MISDIRECTED_REQUEST;
            Ok(response)
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let mut backends = Backends::new();
    for route in arguments {
        let (host, backend) = route.split_once('=').ok_or("expected HOST=BACKEND")?;
        backends.insert(host.to_owned(), Upstream::builder().backend(backend)?.build()?);
    }

    let server = Server::bind(address.parse()?).start(move |_worker| {
        let backends = backends.clone();
        ServiceBuilder::new()
            .layer(ClientIpLayer::new(TrustedProxies::none()))
            .layer(RequestGuardLayer::new())
            .layer(PathFilterLayer::new(PathRules::sensitive()))
            .layer(ForwardHeadersLayer::new().via("custom-proxy"))
            .service(service_fn(move |request| route(backends.clone(), request)))
    })?;
    println!("listening on {}", server.local_addr().ok_or("no address")?);

    tokio::signal::ctrl_c().await?;
    server.handle().drain();
    server.wait().await;
    Ok(())
}
