//! Tests of all layers around a tonic gRPC server, which `Upstream` calls over HTTP/2.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use rproxy_cache::{CacheLayer, CacheStore};
use rproxy_client_ip::{ClientIpLayer, PeerAddr, TrustedProxies};
use rproxy_forward_headers::ForwardHeadersLayer;
use rproxy_path_filter::{PathFilterLayer, PathRules};
use rproxy_rate_limit::{Quota, RateLimitLayer};
use rproxy_request_guard::RequestGuardLayer;
use rproxy_security_headers::SecurityHeadersLayer;
use rproxy_upstream::Upstream;
use rproxy_ws_passthrough::WsPassthroughLayer;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::{TcpConnectInfo, TcpIncoming};
use tower::{Service, ServiceBuilder, ServiceExt};

/// A gRPC service that echoes the message, and sends the status in the trailer section.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
        let trailers = futures_util::stream::once(ready(Ok(Frame::trailers(trailers))));
        let echo = request.into_body().into_data_stream();
        let echo = futures_util::StreamExt::map(echo, |data| data.map(Frame::data));
        let body = StreamBody::new(futures_util::StreamExt::chain(echo, trailers));
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        ready(Ok(response))
    }
}

async fn serve() -> SocketAddr {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let layers = ServiceBuilder::new()
        // tonic has the peer address in its own extension.
        .map_request(|mut request: Request<Body>| {
            let peer = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
            if let Some(peer) = peer {
                request.extensions_mut().insert(PeerAddr(peer));
            }
            request
        })
        .layer(ClientIpLayer::new(TrustedProxies::none()))
        .layer(SecurityHeadersLayer::api())
        .layer(RequestGuardLayer::new())
        .layer(RateLimitLayer::new(Quota::per_hour(3)))
        .layer(PathFilterLayer::new(PathRules::sensitive()))
        .layer(WsPassthroughLayer::new())
        .layer(CacheLayer::new(CacheStore::in_memory(1 << 20)))
        .layer(ForwardHeadersLayer::new());
    tokio::spawn(Server::builder().layer(layers).add_service(Echo).serve_with_incoming(incoming));
    address
}

#[tokio::test]
async fn grpc_calls_pass_through_all_layers_and_keep_their_trailers() {
    let upstream = Upstream::builder().backend(&format!("h2c://{}", serve().await)).unwrap().build().unwrap();
    let call = |path: &str| {
        let message = Full::new(Bytes::from_static(b"\0\0\0\0\x02hi"));
        let request = Request::post(format!("http://test.example{path}")).header("host", "test.example");
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        upstream.clone().oneshot(request.body(message).unwrap())
    };

    let response = call("/test.Echo/Say").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(response.headers()["ratelimit"], "\"default\";r=2;t=2400");
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.to_bytes(), &b"\0\0\0\0\x02hi"[..]);

    assert_eq!(call("/.env").await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(call("/test.Echo/Say").await.unwrap().status(), StatusCode::OK);
    assert_eq!(call("/test.Echo/Say").await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
}
