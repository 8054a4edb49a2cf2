//! An authentication layer that rejects requests without a valid token, and sets `X-User` on all other requests.
//!
//! ```sh
//! cargo run -p rproxy-examples --bin auth-gateway -- 127.0.0.1:8080 127.0.0.1:3000
//! curl -i http://127.0.0.1:8080/                                       # 401
//! curl -i -H 'Authorization: Bearer sesame' http://127.0.0.1:8080/     # X-User: ali
//! ```

use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::{Either, MapOk, Ready, TryFutureExt, ready};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Either as EitherBody, Full};
use rproxy_client_ip::{ClientIpLayer, TrustedProxies};
use rproxy_forward_headers::ForwardHeadersLayer;
use rproxy_problem::{ProblemLayer, Rejection};
use rproxy_rate_limit::{Quota, RateLimitLayer};
use rproxy_request_guard::{GuardBody, RequestGuardLayer};
use rproxy_security_headers::SecurityHeadersLayer;
use rproxy_server::{RequestBody, Server};
use rproxy_upstream::Upstream;
use tower::{Layer, Service, ServiceBuilder};

/// Rejects requests without a valid bearer token, and sets `X-User` on all other requests.
#[derive(Clone, Copy)]
struct Authenticate;

impl<S> Layer<S> for Authenticate {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Authenticated<S> {
        Authenticated { inner }
    }
}

#[derive(Clone)]
struct Authenticated<S> {
    inner: S,
}

/// Returns the name of the user with this bearer token. A real program looks it up in a database.
fn user(authorization: &HeaderValue) -> Option<HeaderValue> {
    (authorization == "Bearer sesame").then(|| HeaderValue::from_static("ali"))
}

impl<S, A, B> Service<Request<A>> for Authenticated<S>
where
    S: Service<Request<A>, Response = Response<B>>,
{
    type Response = Response<EitherBody<B, Full<Bytes>>>;
    type Error = S::Error;
    type Future = Either<MapOk<S::Future, fn(Response<B>) -> Self::Response>, Ready<Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        match request.headers_mut().remove(header::AUTHORIZATION).as_ref().and_then(user) {
            Some(user) => {
                // Replaces the field of the client, if there is one.
                request.headers_mut().insert("x-user", user);
                let pass: fn(Response<B>) -> Self::Response = |response| response.map(EitherBody::Left);
                Either::Left(self.inner.call(request).map_ok(pass))
            }
            None => {
                let mut response = Rejection::new("authenticate", "no_token", StatusCode::UNAUTHORIZED)
                    .into_response(EitherBody::Right(Full::from("token required\n")));
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                Either::Right(ready(Ok(response)))
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let backend = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".into());
    let backends = Upstream::builder().backend(&backend)?.build_backends()?;
    let server = Server::bind(address.parse()?).start(move |_worker| {
        ServiceBuilder::new()
            .layer(ClientIpLayer::new(TrustedProxies::none()))
            .layer(ProblemLayer::new())
            .layer(SecurityHeadersLayer::api())
            .layer(RequestGuardLayer::new())
            .layer(RateLimitLayer::new(Quota::per_second(20))) // Limits guesses, outside of `Authenticate`.
            .layer(Authenticate)
            .layer(ForwardHeadersLayer::new())
            .service(backends.upstream::<GuardBody<RequestBody>>())
    })?;
    println!("listening on {}", server.local_addr().ok_or("no address")?);
    tokio::signal::ctrl_c().await?;
    server.handle().drain();
    server.wait().await;
    Ok(())
}
