//! Tests of requests with `Expect: 100-continue` (RFC 9110 §10.1.1).

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::upstream::{Nginx, ok, read_head, scripted};
use crate::support::{Proxy, TIMEOUT, connect, curl, has, read_response};

const HEAD: &str = "POST /upload HTTP/1.1\r\nhost: a.example\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";

fn read_content(stream: &mut TcpStream) -> Option<String> {
    let mut content = [0; 5];
    stream.read_exact(&mut content).ok()?;
    Some(String::from_utf8_lossy(&content).into_owned())
}

#[test]
fn client_receives_the_100_of_the_backend_and_sends_its_content_then() {
    let upstream = scripted(|mut stream| {
        while let Some(head) = read_head(&mut stream) {
            assert!(head.contains("expect: 100-continue\r\n"), "{head}");
            stream.write_all(b"HTTP/1.1 100 Continue\r\nx-note: 1\r\n\r\n").unwrap();
            let Some(content) = read_content(&mut stream) else { return };
            stream.write_all(ok(&content).as_bytes()).unwrap();
        }
    });
    let proxy = Proxy::start(upstream, &[]);
    let mut client = connect(proxy.address);
    for _ in 0..2 {
        client.write_all(HEAD.as_bytes()).unwrap();
        assert_eq!(read_head(&mut client).unwrap(), "HTTP/1.1 100 Continue\r\nx-note: 1\r\n\r\n");
        client.write_all(b"hello").unwrap();
        let response = read_response(&mut client).unwrap();
        assert_eq!((response.status, &*response.body), (200, "hello"), "without a second 100");
    }
}

#[test]
fn final_response_of_the_backend_replaces_the_100_and_closes_the_connection() {
    for status in ["417 Expectation Failed", "401 Unauthorized", "200 OK"] {
        let upstream = scripted(move |mut stream| {
            read_head(&mut stream).unwrap();
            stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nno").as_bytes()).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "no content and no other request");
        });
        let proxy = Proxy::start(upstream, &[]);
        for content in ["", "hello"] {
            let mut client = connect(proxy.address);
            client.write_all(HEAD.as_bytes()).unwrap();
            let response = read_response(&mut client).unwrap();
            assert_eq!(response.head.split_once("\r\n").unwrap().0, format!("HTTP/1.1 {status}"));
            assert_eq!((response.header("connection"), &*response.body), (Some("close"), "no"));
            // RFC 9110 §10.1.1: a client may send the content nevertheless.
            client.write_all(content.as_bytes()).unwrap();
            assert!(read_response(&mut client).is_none(), "the content is not parsed as a request");
        }
    }
}

#[test]
fn client_receives_one_100_after_a_second_without_a_response_of_the_backend() {
    let upstream = scripted(|mut stream| {
        read_head(&mut stream).unwrap();
        let content = read_content(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        stream.write_all(ok(&content).as_bytes()).unwrap();
    });
    let proxy = Proxy::start(upstream, &[]);
    let mut client = connect(proxy.address);
    let start = Instant::now();
    client.write_all(HEAD.as_bytes()).unwrap();
    assert_eq!(read_head(&mut client).unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(start.elapsed() >= Duration::from_millis(990), "{:?}", start.elapsed());
    client.write_all(b"hello").unwrap();
    let response = read_response(&mut client).unwrap();
    assert_eq!((response.status, &*response.body), (200, "hello"));
}

#[test]
fn rproxy_answers_http_1_0_clients_and_with_the_rule_answer_all_clients() {
    let upstream = || {
        scripted(|mut stream| {
            while let Some(head) = read_head(&mut stream) {
                let Some(content) = read_content(&mut stream) else { return };
                let body = format!("{content} {}", head.contains("expect"));
                stream.write_all(ok(&body).as_bytes()).unwrap();
            }
        })
    };
    let proxy = Proxy::start(upstream(), &[("RPROXY_UPSTREAM_EXPECT_CONTINUE", "answer")]);
    let mut client = connect(proxy.address);
    client.write_all(HEAD.as_bytes()).unwrap();
    assert_eq!(read_head(&mut client).unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").unwrap();
    assert_eq!(read_response(&mut client).unwrap().body, "hello false");

    let proxy = Proxy::start(upstream(), &[]);
    let mut client = connect(proxy.address);
    client.write_all((HEAD.replace("HTTP/1.1", "HTTP/1.0") + "hello").as_bytes()).unwrap();
    let response = read_response(&mut client).unwrap();
    assert_eq!((response.status, &*response.body), (200, "hello false"), "HTTP/1.0 has no 100");
}

#[test]
fn layers_reject_a_request_without_a_100() {
    let upstream = scripted(|_| {});
    let settings = [("RPROXY_MAX_BODY", "4"), ("RPROXY_RATE_LIMIT", "1/h"), ("RPROXY_RATE_BURST", "2")];
    let proxy = Proxy::start(upstream, &settings);
    for (path, status) in [("/upload", 413), ("/.env", 404), ("/upload", 429)] {
        let mut client = connect(proxy.address);
        let length = if path == "/.env" { "content-length: 1" } else { "content-length: 5" };
        let head = HEAD.replace("/upload", path).replace("content-length: 5", length);
        client.write_all(head.as_bytes()).unwrap();
        let response = read_response(&mut client).unwrap();
        assert_eq!((response.status, response.header("connection")), (status, Some("close")), "{path}");
    }
}

/// Request content that never arrives.
struct Pending;

impl Body for Pending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

// RFC 9113 §8.1 allows a 100, but the server sends none over HTTP/2.
#[test]
fn http2_client_receives_a_final_response_before_it_sends_content() {
    let upstream = scripted(|mut stream| {
        let head = read_head(&mut stream).unwrap();
        assert!(!head.contains("expect"), "{head}");
        stream.write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n").unwrap();
        let _ = stream.read(&mut [0]);
    });
    let proxy = Proxy::start(upstream, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let status = runtime.block_on(async {
        let stream = TokioIo::new(tokio::net::TcpStream::connect(proxy.address).await.unwrap());
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post("http://a.example/upload").header("expect", "100-continue").body(Pending);
        tokio::time::timeout(TIMEOUT, sender.send_request(request.unwrap())).await.unwrap().unwrap().status()
    });
    assert_eq!(status, 413);
}

#[test]
fn uploads_of_curl_to_nginx_succeed_and_too_large_ones_are_not_sent() {
    if !has("curl") {
        return;
    }
    let Some(nginx) = Nginx::start(
        "client_max_body_size 1m; client_body_buffer_size 1m; location = /sink { return 204; }
         location / { proxy_pass http://$server_addr:$server_port/sink; }",
    ) else {
        return;
    };
    let proxy = Proxy::start(nginx.address, &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("upload");
    for (size, status) in [(1 << 19, "204"), (8 << 20, "413")] {
        std::fs::write(&file, vec![b'x'; size]).unwrap();
        let url = format!("http://{}/upload", proxy.address);
        let (source, host) = (file.to_str().unwrap(), "Host: a.example");
        let args = ["-H", "Expect: 100-continue", "-H", host, "--expect100-timeout", "15", "-T", source, "-m", "10"];
        let shown = ["-o", "/dev/null", "-w", "%{http_code} %{size_upload}", &url];
        let uploaded = if status == "413" { 0 } else { size };
        assert_eq!(curl(&[&args[..], &shown].concat()), format!("{status} {uploaded}"));
    }
}
