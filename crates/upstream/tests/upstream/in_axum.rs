//! An upstream as the fallback of an axum router, over HTTP/1.1, h2c and a Unix socket.

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use rproxy_upstream::Upstream;
use tokio::net::{TcpListener, UnixListener};
use tower::ServiceExt;

fn app() -> Router {
    let trailers = get(async || {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        let frames = [Frame::data(Bytes::from_static(b"data")), Frame::trailers(trailers)];
        let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, axum::BoxError>)));
        http::Response::builder().header("trailer", "x-sum").body(Body::new(body)).unwrap()
    });
    Router::new().route("/echo", post(async |body: Bytes| body)).route("/trailers", trailers)
}

fn proxy(backend: &str) -> Router {
    let upstream: Upstream<Body> = Upstream::builder().backend(backend).unwrap().build().unwrap();
    Router::new().route("/own", get("own")).fallback_service(upstream)
}

async fn check(proxy: Router) {
    let large = vec![b'x'; 1 << 20];
    for body in [&b"hello"[..], &[], &large] {
        let request = Request::post("/echo").body(Body::from(body.to_vec())).unwrap();
        let response = proxy.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    }
    let request = Request::get("/trailers").header("te", "trailers").body(Body::empty()).unwrap();
    let collected = proxy.clone().oneshot(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "42");
    let missing = proxy.clone().oneshot(Request::get("/missing").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    let own = proxy.oneshot(Request::get("/own").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(own.into_body().collect().await.unwrap().to_bytes(), "own");
}

#[tokio::test]
async fn upstream_in_an_axum_router_forwards_over_http1_and_h2c() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app()).await });
    check(proxy(&format!("http://{address}"))).await;
    check(proxy(&format!("h2c://{address}"))).await;
}

#[tokio::test]
async fn upstream_in_an_axum_router_forwards_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move { axum::serve(listener, app()).await });
    check(proxy(&format!("unix:{}", path.display()))).await;
}
