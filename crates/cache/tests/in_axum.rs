//! Tests of the cache layer in an axum application, over a socket.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::header::CACHE_CONTROL;
use axum::routing::get;
use rproxy_cache::{CacheLayer, CacheStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn cached_handler_is_called_once_for_two_requests() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let handler = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { ([(CACHE_CONTROL, "max-age=60")], "hello") }
    };
    let app = Router::new()
        .route("/static/hello", get(handler.clone()))
        .route("/hello", get(handler))
        .layer(CacheLayer::new(CacheStore::in_memory(1 << 20)).paths("/static/**".parse().unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let exchange = async |request: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("{request}\r\nHost: example.org\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    };

    let miss = exchange("GET /static/hello HTTP/1.1").await;
    assert!(miss.contains("cache-status: rproxy; fwd=uri-miss; stored\r\n"), "{miss}");
    let hit = exchange("GET /static/hello HTTP/1.1").await;
    assert!(hit.contains("cache-status: rproxy; hit; ttl=") && hit.contains("\r\nage: "), "{hit}");
    assert!(hit.contains("content-length: 5\r\n") && hit.ends_with("\r\n\r\nhello"), "{hit}");
    let head = exchange("HEAD /static/hello HTTP/1.1").await;
    assert!(head.contains("content-length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let part = exchange("GET /static/hello HTTP/1.1\r\nRange: bytes=1-2").await;
    assert!(part.starts_with("HTTP/1.1 206 ") && part.ends_with("\r\n\r\nel"), "{part}");
    assert_eq!(calls.load(Ordering::SeqCst), 1);

    let elsewhere = exchange("GET /hello HTTP/1.1").await;
    assert!(!elsewhere.contains("cache-status"), "{elsewhere}");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}
