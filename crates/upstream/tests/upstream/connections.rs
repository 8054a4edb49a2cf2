//! HTTP/1.1 connections that are bound to one client, and connections of cancelled requests.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use crate::support::{Body, backend, get, read_head, send, static_backend, text, upstream};
use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use rproxy_upstream::{BodyError, ClientConnection, Upstream};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tower::ServiceExt;

/// Serves a connection with NTLM authentication, which, as in IIS, applies to the whole connection.
async fn ntlm(mut stream: TcpStream, connection: usize) {
    let (mut user, mut is_challenged) = (None, false);
    while let Some(head) = read_head(&mut stream).await {
        let authorization = head.lines().find_map(|line| line.strip_prefix("authorization: "));
        match authorization.and_then(|value| value.split_once(' ')).map(|(_, credentials)| credentials) {
            Some("type1") => is_challenged = true,
            Some(name) if is_challenged => user = Some(name.to_owned()),
            _ => {}
        }
        match &user {
            Some(user) => {
                let content = format!("{user} on {connection}");
                let length = content.len();
                send(&mut stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{content}")).await;
            }
            None => {
                let challenge = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: NTLM x\r\ncontent-length: 0\r\n\r\n";
                send(&mut stream, challenge).await;
            }
        }
    }
}

fn request(authorization: Option<&str>, client: Option<&ClientConnection>) -> Request<Body> {
    let mut request = get("/private");
    if let Some(authorization) = authorization {
        request.headers_mut().insert("authorization", authorization.parse().unwrap());
    }
    if let Some(client) = client {
        request.extensions_mut().insert(ClientConnection::clone(client));
    }
    request
}

#[tokio::test]
async fn connection_authenticated_by_ntlm_or_negotiate_serves_only_its_client() {
    for (scheme, backends) in [("NTLM", 1), ("Negotiate", 3)] {
        let mut builder = Upstream::builder();
        for _ in 0..backends {
            let (address, _) = backend(ntlm).await;
            builder = builder.backend(&address.to_string()).unwrap();
        }
        let upstream: Upstream<Body> = builder.build().unwrap();
        let (alice, bob) = (ClientConnection::default(), ClientConnection::default());
        let status = async |request| {
            let response = upstream.clone().oneshot(request).await.unwrap();
            let status = response.status();
            text(response).await;
            status
        };
        assert_eq!(status(request(None, None)).await, 401);
        assert_eq!(status(request(Some(&format!("{scheme} type1")), Some(&alice))).await, 401);
        // A request of another client.
        assert_eq!(status(request(None, Some(&bob))).await, 401);
        assert_eq!(status(request(Some(&format!("{scheme} alice")), Some(&alice))).await, 200);
        let response = upstream.clone().oneshot(request(None, Some(&alice))).await.unwrap();
        assert!(text(response).await.starts_with("alice on "), "the same connection serves the client");
        for client in [None, Some(&bob)] {
            for _ in 0..3 {
                assert_eq!(status(request(None, client)).await, 401);
            }
        }
    }
}

#[tokio::test]
async fn ntlm_authenticated_connection_closes_when_its_client_disconnects() {
    let (ended, mut ended_receiver) = tokio::sync::mpsc::unbounded_channel();
    let (address, _) = backend(move |stream, number| {
        let ended = ended.clone();
        async move {
            ntlm(stream, number).await;
            ended.send(number).unwrap();
        }
    })
    .await;
    let upstream = upstream(address);
    let alice = ClientConnection::default();
    for credentials in ["NTLM type1", "NTLM alice"] {
        text(upstream.clone().oneshot(request(Some(credentials), Some(&alice))).await.unwrap()).await;
    }
    drop(alice);
    assert_eq!(ended_receiver.recv().await, Some(0));
    // Without a client connection, the connection is closed after its response.
    upstream.oneshot(request(Some("NTLM type1"), None)).await.unwrap();
    assert_eq!(ended_receiver.recv().await, Some(1));
}

#[tokio::test]
async fn basic_bearer_and_digest_credentials_do_not_bind_a_connection_to_a_client() {
    let (address, connections) = static_backend("ok").await;
    let upstream = upstream(address);
    for authorization in ["Basic YTpi", "Bearer ntlm", "Digest username=\"negotiate\""] {
        assert_eq!(text(upstream.clone().oneshot(request(Some(authorization), None)).await.unwrap()).await, "ok");
    }
    assert_eq!(connections.load(SeqCst), 1);
}

#[tokio::test]
async fn cancelled_requests_share_one_connection_attempt() {
    let (address, connections) = static_backend("ok").await;
    let upstream = upstream(address);
    for _ in 0..50 {
        let mut request = Box::pin(upstream.clone().oneshot(get("/")));
        // The first poll begins to connect.
        assert!(futures_util::poll!(request.as_mut()).is_pending());
    }
    assert_eq!(text(upstream.oneshot(get("/")).await.unwrap()).await, "ok");
    assert_eq!(connections.load(SeqCst), 1);
}

#[tokio::test]
async fn detects_a_closed_connection_in_a_task_without_tokio_coop_budget() {
    let (address, connections) = backend(|mut stream, _| async move {
        read_head(&mut stream).await.unwrap();
        send(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    })
    .await;
    let upstream = upstream(address);
    assert_eq!(text(upstream.clone().oneshot(get("/")).await.unwrap()).await, "ok");
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    tokio::spawn(async move {
        // Uses up the budget of the task.
        std::future::poll_fn(|cx| {
            while let std::task::Poll::Ready(progress) = tokio::task::coop::poll_proceed(cx) {
                progress.made_progress();
            }
            std::task::Poll::Ready(())
        })
        .await;
        // A POST with content is not retried, so it fails on a connection that is only found to be closed when it is
        // used.
        let post = Request::post("/").header("host", "a").body(Body::from("abc")).unwrap();
        let mut request = Box::pin(upstream.oneshot(post));
        let first = futures_util::poll!(request.as_mut());
        assert!(first.is_pending());
        assert_eq!(text(request.await.unwrap()).await, "ok");
    })
    .await
    .unwrap();
    assert_eq!(connections.load(SeqCst), 2);
}

#[tokio::test]
async fn failed_request_body_aborts_the_response_and_the_backend_request() {
    let (report, reported) = tokio::sync::oneshot::channel();
    let report = Arc::new(std::sync::Mutex::new(Some(report)));
    let (address, _) = backend(move |mut stream, _| {
        let report = Arc::clone(&report);
        async move {
            read_head(&mut stream).await.unwrap();
            send(&mut stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n").await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            report.lock().unwrap().take().unwrap().send(rest).unwrap();
        }
    })
    .await;
    let (sender, parts) = tokio::sync::mpsc::channel::<std::io::Result<&'static str>>(1);
    let frames = stream::unfold(parts, async |mut parts| {
        let part = parts.recv().await?;
        Some((part.map(|part| Frame::data(Bytes::from_static(part.as_bytes()))), parts))
    });
    let upstream: Upstream<_> = Upstream::builder().backend(&address.to_string()).unwrap().build().unwrap();
    let request = Request::post("/").header("host", "a").body(StreamBody::new(Box::pin(frames))).unwrap();
    sender.send(Ok("abc")).await.unwrap();
    let mut body = upstream.oneshot(request).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ok");
    sender.send(Err(std::io::Error::other("the client closed the connection"))).await.unwrap();
    let error = body.frame().await.expect("an error instead of the end").unwrap_err();
    assert!(matches!(&error, BodyError::Request(why) if why == "the client closed the connection"), "{error:?}");
    drop(body);
    assert!(!reported.await.unwrap().ends_with(b"0\r\n\r\n"), "the request is incomplete for the backend");
}
