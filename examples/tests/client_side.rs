//! Tests of layers around an HTTP client.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::header;
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rproxy_cache::{CacheLayer, CacheStore};
use rproxy_forward_headers::ForwardHeadersLayer;
use tower::{ServiceBuilder, ServiceExt};

async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    origin
}

#[tokio::test]
async fn cache_layer_around_an_http_client_fetches_only_once() {
    let fetches = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fetches);
    let handler =
        async move || ([(header::CACHE_CONTROL, "max-age=60")], count.fetch_add(1, Ordering::Relaxed).to_string());
    let origin = serve(Router::new().route("/", get(handler))).await;

    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let client = ServiceBuilder::new().layer(CacheLayer::new(CacheStore::in_memory(1 << 20))).service(client);
    for _ in 0..3 {
        let request = Request::get(&origin).body(Empty::new()).unwrap();
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "0");
    }
    assert_eq!(fetches.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn strips_hop_by_hop_fields_from_requests_of_an_http_client() {
    let seen = async |headers: HeaderMap| format!("{:?} {:?}", headers.get("x-hop"), headers.get("x-end"));
    let origin = serve(Router::new().route("/", get(seen))).await;

    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let client = ServiceBuilder::new().layer(ForwardHeadersLayer::new()).service(client);
    let request = Request::get(&origin).header("connection", "x-hop").header("x-hop", "1").header("x-end", "2");
    let response = client.oneshot(request.body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "None Some(\"2\")");
}
