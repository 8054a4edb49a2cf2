//! Tests of the server with an axum router.

use std::io::{Read, Write};
use std::net::TcpStream;

use axum::routing::{get, post};
use axum::{Extension, Router};
use rproxy_client_ip::PeerAddr;
use rproxy_request_guard::RequestGuardLayer;
use rproxy_server::{RunningServer, Server};

fn send_request(server: &RunningServer, request: &str) -> (String, String) {
    let mut socket = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    let local = socket.local_addr().unwrap().to_string();
    socket.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).unwrap();
    (response, local)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn serves_axum_router_with_peer_address_and_body_limit() {
    let app = Router::new()
        .route("/peer", get(async |Extension(PeerAddr(peer)): Extension<PeerAddr>| peer.to_string()))
        .route("/echo", post(async |body: String| body))
        .layer(RequestGuardLayer::new().max_body(Some(5)));
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).workers(1).start(move |_| app.clone()).unwrap();

    let (response, local) = send_request(&server, "GET /peer HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with(&local), "{response}");
    let echo = |body: &str| {
        let head =
            format!("POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        send_request(&server, &format!("{head}{body}")).0
    };
    assert!(echo("hello").ends_with("\r\n\r\nhello"));
    assert!(echo("hello!").starts_with("HTTP/1.1 413"));

    server.handle().drain();
    server.wait().await;
}
