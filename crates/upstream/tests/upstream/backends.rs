//! HTTP/1.1 backends: connection reuse, retries, failures and error responses.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use rproxy_upstream::{ProxyError, ProxyErrorKind, Upstream};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::support::{Body, backend, get, read_head, send, text, upstream};

#[tokio::test]
async fn reuses_an_idle_http1_connection() {
    let (address, connections) = backend(async |mut stream, _| {
        while read_head(&mut stream).await.is_some() {
            send(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let upstream = upstream(address);
    for _ in 0..10 {
        assert_eq!(text(upstream.clone().oneshot(get("/")).await.unwrap()).await, "ok");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn reuses_a_connection_after_each_kind_of_body_framing() {
    let (address, connections) = backend(async |mut stream, _| {
        while let Some(head) = read_head(&mut stream).await {
            let response = match head.split(' ').nth(1).unwrap() {
                "/chunked" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
                "/none" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/unchanged" => "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
                "/hinted" => {
                    "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"
                }
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
            };
            send(&mut stream, response).await;
        }
    })
    .await;
    let upstream = upstream(address);
    for (path, body) in [("/", "abc"), ("/chunked", "abc"), ("/none", ""), ("/unchanged", ""), ("/hinted", "x")] {
        let response = upstream.clone().oneshot(get(path)).await.unwrap();
        assert_eq!(text(response).await, body, "{path}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn opens_a_new_connection_after_the_backend_closed_the_idle_connection() {
    let (sender, mut closed) = tokio::sync::mpsc::channel(1);
    let (address, connections) = backend(move |mut stream, _| {
        let sender = sender.clone();
        async move {
            read_head(&mut stream).await;
            stream.read_exact(&mut [0; 4]).await.unwrap();
            send(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            drop(stream);
            sender.send(()).await.unwrap();
        }
    })
    .await;
    let upstream = upstream(address);
    for expected in 1..5 {
        let post = Request::post("/").body(Body::from("data")).unwrap();
        let response = upstream.clone().oneshot(post).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(text(response).await, "ok");
        assert_eq!(connections.load(Ordering::SeqCst), expected);
        // The backend has closed the connection. The runtime sees this when it polls the socket again.
        closed.recv().await.unwrap();
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn retries_idempotent_requests_after_a_reused_connection_is_closed() {
    let (address, connections) = backend(async |mut stream, number| {
        read_head(&mut stream).await;
        send(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        if number == 0 {
            // Reads the second request and closes the connection.
            read_head(&mut stream).await;
        } else {
            read_head(&mut stream).await;
            send(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let upstream = upstream(address);
    for _ in 0..2 {
        let response = upstream.clone().oneshot(get("/")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(text(response).await, "ok");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn does_not_retry_a_post_after_the_backend_closes_the_connection() {
    let (address, connections) = backend(async |mut stream, _| {
        read_head(&mut stream).await;
        send(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        read_head(&mut stream).await;
    })
    .await;
    let upstream = upstream(address);
    assert_eq!(text(upstream.clone().oneshot(get("/")).await.unwrap()).await, "ok");
    let post = Request::post("/").body(Body::default()).unwrap();
    let response = upstream.oneshot(post).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn maps_backend_failures_to_502_and_504() {
    use ProxyErrorKind::{ConnectionTerminated, HttpProtocolError, HttpResponseTimeout};
    for (bytes, kind, status) in [
        ("", ConnectionTerminated, 502),
        ("HTTP/1.1 200 OK\r\ncontent-le", ConnectionTerminated, 502),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", HttpProtocolError, 502),
        (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            HttpProtocolError,
            502,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", HttpProtocolError, 502),
        ("no response", HttpResponseTimeout, 504),
    ] {
        let (address, _) = backend(move |mut stream, _| async move {
            read_head(&mut stream).await;
            if bytes == "no response" {
                std::future::pending::<()>().await;
            }
            send(&mut stream, bytes).await;
        })
        .await;
        let upstream: Upstream<Body> = Upstream::builder()
            .backend(&address.to_string())
            .unwrap()
            .timeout(Duration::from_millis(300))
            .build()
            .unwrap();
        let response = upstream.oneshot(get("/")).await.unwrap();
        let error = response.extensions().get::<ProxyError>().unwrap();
        assert_eq!(error.kind(), kind, "{bytes:?}: {error}");
        assert_eq!(response.status(), status, "{bytes:?}");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}

#[tokio::test]
async fn refused_connection_causes_a_502() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let response = upstream(unused).oneshot(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(response.extensions().get::<ProxyError>().unwrap().kind(), ProxyErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn reports_a_truncated_body_as_an_error() {
    for bytes in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let (address, _) = backend(move |mut stream, _| async move {
            read_head(&mut stream).await;
            send(&mut stream, bytes).await;
        })
        .await;
        let response = upstream(address).oneshot(get("/")).await.unwrap();
        assert!(response.into_body().collect().await.is_err(), "{bytes:?}");
    }
}

#[tokio::test]
async fn does_not_parse_surplus_bytes_as_the_next_response() {
    let (address, connections) = backend(async |mut stream, _| {
        while read_head(&mut stream).await.is_some() {
            send(
                &mut stream,
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
            )
            .await;
        }
    })
    .await;
    let upstream = upstream(address);
    for expected in 1..4 {
        assert_eq!(text(upstream.clone().oneshot(get("/")).await.unwrap()).await, "ok");
        assert_eq!(connections.load(Ordering::SeqCst), expected);
    }
}

#[tokio::test]
async fn skips_an_unreachable_backend() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (address, _) = backend(async |mut stream, _| {
        while read_head(&mut stream).await.is_some() {
            send(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let builder = Upstream::builder().backend(&unused.to_string()).unwrap().backend(&address.to_string()).unwrap();
    let upstream: Upstream<Body> = builder.build().unwrap();
    for _ in 0..6 {
        let post = Request::post("/").body(Body::default()).unwrap();
        assert_eq!(upstream.clone().oneshot(post).await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn responds_503_with_retry_after_if_all_backends_are_ejected() {
    let mut builder = Upstream::builder();
    for _ in 0..2 {
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        builder = builder.backend(&unused.to_string()).unwrap();
    }
    let upstream: Upstream<Body> = builder.build().unwrap();
    assert_eq!(upstream.clone().oneshot(get("/")).await.unwrap().status(), StatusCode::BAD_GATEWAY);
    let response = upstream.oneshot(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
}

#[tokio::test]
async fn dropping_the_response_future_closes_the_backend_connection() {
    let (sender, mut closed) = tokio::sync::mpsc::channel(1);
    let (address, _) = backend(move |mut stream, _| {
        let sender = sender.clone();
        async move {
            read_head(&mut stream).await;
            sender.send("requested").await.unwrap();
            assert!(read_head(&mut stream).await.is_none());
            sender.send("closed").await.unwrap();
        }
    })
    .await;
    let call = tokio::spawn(upstream(address).oneshot(get("/")));
    assert_eq!(closed.recv().await, Some("requested"));
    call.abort();
    assert_eq!(closed.recv().await, Some("closed"));
}

#[tokio::test]
async fn forwards_host_unchanged_and_adds_a_missing_host() {
    let (address, _) = backend(async |mut stream, _| {
        while let Some(head) = read_head(&mut stream).await {
            let body =
                head.lines().filter(|line| line.starts_with("host") || line.starts_with("GET")).collect::<String>();
            send(&mut stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
        }
    })
    .await;
    let upstream = upstream(address);
    let with = |uri: &str, host: Option<&str>| {
        let mut request = Request::builder().method(Method::GET).uri(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        request.body(Body::default()).unwrap()
    };
    for (uri, host, received) in [
        ("/a?b", Some("a.example:81"), "GET /a?b HTTP/1.1host: a.example:81".to_owned()),
        ("https://a.example/c", None, "GET /c HTTP/1.1host: a.example".to_owned()),
        ("/", None, format!("GET / HTTP/1.1host: {address}")),
    ] {
        assert_eq!(text(upstream.clone().oneshot(with(uri, host)).await.unwrap()).await, received);
    }
}
