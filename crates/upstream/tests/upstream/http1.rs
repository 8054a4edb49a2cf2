//! HTTP/1.1 connections to backends: body framing, streaming, and malformed responses.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use rproxy_upstream::{BodyError, InterimRelay, ProxyError, ProxyErrorKind, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tower::ServiceExt;

type AnyBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// Starts a backend that calls `serve` with each accepted connection.
async fn backend<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> (Upstream<AnyBody>, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream));
        }
    });
    let builder = Upstream::builder().backend(&address.to_string()).unwrap();
    (builder.timeout(Duration::from_secs(20)).build().unwrap(), connections)
}

/// Starts a backend that sends the same response to every request.
async fn static_backend(response: &'static str) -> (Upstream<AnyBody>, Arc<AtomicUsize>) {
    backend(move |mut stream| async move {
        while read_until(&mut stream, b"\r\n\r\n").await.is_some() {
            if stream.write_all(response.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Reads from a connection up to and including `end`. Returns `None` at the end of the connection.
async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Option<String> {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        read.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(read).unwrap())
}

fn request(method: Method, body: AnyBody) -> Request<AnyBody> {
    Request::builder().method(method).uri("/").header("host", "a.example").body(body).unwrap()
}

fn get() -> Request<AnyBody> {
    request(Method::GET, empty())
}

fn empty() -> AnyBody {
    Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn full(text: &'static str) -> AnyBody {
    Full::from(text).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Creates a request body of unknown length, and a sender for its frames.
fn frames() -> (mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>, AnyBody) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    (sender, StreamBody::new(frames.boxed()).boxed_unsync())
}

#[tokio::test]
async fn sends_content_length_for_a_known_length_and_chunked_coding_otherwise() {
    let (upstream, _) = backend(async |mut stream| {
        let mut received = read_until(&mut stream, b"\r\n\r\n").await.unwrap();
        let end: &[u8] = if received.contains("chunked") { b"0\r\nx-sum: 1\r\n\r\n" } else { b"hello" };
        received += &read_until(&mut stream, end).await.unwrap();
        let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{received}", received.len());
        stream.write_all(response.as_bytes()).await.unwrap();
    })
    .await;
    let response = upstream.clone().oneshot(request(Method::PUT, full("hello"))).await.unwrap();
    let received = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(received, "PUT / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 5\r\n\r\nhello");

    let (sender, body) = frames();
    let sending = tokio::spawn(async move {
        let trailers = HeaderMap::from_iter([
            ("x-sum".parse().unwrap(), "1".parse().unwrap()),
            (http::header::CONTENT_LENGTH, "9".parse().unwrap()),
        ]);
        for frame in [Frame::data("hel".into()), Frame::data(Bytes::new()), Frame::data("lo world, hello".into())] {
            sender.send(Ok(frame)).await.unwrap();
        }
        sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
    });
    let response = upstream.oneshot(request(Method::POST, body)).await.unwrap();
    let received = response.into_body().collect().await.unwrap().to_bytes();
    sending.await.unwrap();
    assert_eq!(
        received,
        "POST / HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n\
         3\r\nhel\r\nf\r\nlo world, hello\r\n0\r\nx-sum: 1\r\n\r\n"
    );
}

#[tokio::test]
async fn forwards_response_trailers() {
    let (upstream, connections) = static_backend(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\nhost: evil\r\n\r\n",
    )
    .await;
    for _ in 0..2 {
        let body = upstream.clone().oneshot(get()).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap(), &HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]));
        assert_eq!(body.to_bytes(), "abc");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn streams_request_and_response_bodies_simultaneously() {
    let (upstream, connections) = backend(async |mut stream| {
        read_until(&mut stream, b"\r\n\r\n").await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        // Echoes each frame when it arrives: the response begins before the end of the request.
        for _ in 0..3 {
            read_until(&mut stream, b"1\r\n").await.unwrap();
            let frame = stream.read_u8().await.unwrap();
            read_until(&mut stream, b"\r\n").await.unwrap();
            stream.write_all(format!("1\r\n{}\r\n", char::from(frame)).as_bytes()).await.unwrap();
        }
        read_until(&mut stream, b"0\r\n\r\n").await.unwrap();
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        read_until(&mut stream, b"\r\n\r\n").await.unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    })
    .await;
    let (sender, body) = frames();
    let mut response = upstream.clone().oneshot(request(Method::POST, body)).await.unwrap();
    for text in ["a", "b", "c"] {
        sender.send(Ok(Frame::data(text.into()))).await.unwrap();
        assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), text);
    }
    drop(sender);
    assert!(response.frame().await.is_none());
    assert_eq!(upstream.oneshot(get()).await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn does_not_retry_a_request_after_an_interim_response() {
    let (upstream, connections) = backend(async |mut stream| {
        // After the first response, the next request is sent on the idle connection.
        read_until(&mut stream, b"\r\n\r\n").await.unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        if read_until(&mut stream, b"\r\n\r\n").await.is_some() {
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.unwrap();
        }
    })
    .await;
    assert_eq!(upstream.clone().oneshot(get()).await.unwrap().status(), StatusCode::NO_CONTENT);
    let interim = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&interim);
    let relay: InterimRelay = Arc::new(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let mut request = get();
    request.extensions_mut().insert(relay);
    assert_eq!(upstream.oneshot(request).await.unwrap().status(), StatusCode::BAD_GATEWAY);
    assert_eq!((connections.load(Ordering::SeqCst), interim.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn forwards_a_response_before_the_end_of_the_request_and_closes_the_connection() {
    let (upstream, connections) =
        static_backend("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nno\n").await;
    for _ in 0..2 {
        let (_sender, body) = frames();
        let response = upstream.clone().oneshot(request(Method::POST, body)).await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "no\n");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn failed_request_body_causes_a_400() {
    let (upstream, _) = backend(async |mut stream| while read_until(&mut stream, b"\n").await.is_some() {}).await;
    let (sender, body) = frames();
    sender.send(Err(std::io::ErrorKind::BrokenPipe.into())).await.unwrap();
    let response = upstream.oneshot(request(Method::POST, body)).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.extensions().get::<ProxyError>().unwrap().kind(), ProxyErrorKind::HttpRequestError);
}

/// A request body with a declared length that never reports its end by `is_end_stream`.
struct DeclaredLength(AnyBody, u64);

impl Body for DeclaredLength {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.1)
    }
}

/// RFC 9113 §8.1: an HTTP/2 request ends with END_STREAM, not with the last byte of `Content-Length`.
#[tokio::test]
async fn withholds_the_last_bytes_of_a_request_until_its_body_has_ended() {
    type Frames = &'static [Result<&'static str, std::io::ErrorKind>];
    const RESET: Result<&str, std::io::ErrorKind> = Err(std::io::ErrorKind::ConnectionReset);
    let cases: [(u64, Frames, &str, bool); 7] = [
        (0, &[RESET], "", false),
        (0, &[Ok("a")], "", false),
        (0, &[], "content-length: 0\r\n\r\n", true),
        (3, &[Ok("abc"), RESET], "content-length: 3\r\n\r\n", false),
        (3, &[Ok("ab"), Ok("c"), RESET], "content-length: 3\r\n\r\nab", false),
        (3, &[Ok("ab"), Ok("c"), Ok(""), Ok("d")], "content-length: 3\r\n\r\nab", false),
        (3, &[Ok("ab"), Ok("c"), Ok("")], "content-length: 3\r\n\r\nabc", true),
    ];
    for (length, frames, expected, is_whole) in cases {
        let (report, mut reported) = mpsc::unbounded_channel();
        let (upstream, _) = backend(move |mut stream| {
            let report = report.clone();
            async move {
                let mut received = Vec::new();
                while let Ok(byte) = stream.read_u8().await {
                    received.push(byte);
                    if is_whole && received.ends_with(expected.as_bytes()) {
                        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                        break;
                    }
                }
                report.send(String::from_utf8(received).unwrap()).unwrap();
            }
        })
        .await;
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let (pending, mut is_waiting) = mpsc::unbounded_channel();
        let body = stream::poll_fn(move |cx| {
            let frame = receiver.poll_recv(cx);
            if frame.is_pending() {
                let _ = pending.send(());
            }
            frame
        });
        let body = DeclaredLength(StreamBody::new(body).boxed_unsync(), length).boxed_unsync();
        let sending = tokio::spawn(upstream.oneshot(request(Method::POST, body)));
        for frame in frames {
            // All bytes that may be sent so far have been sent.
            is_waiting.recv().await;
            sender.send(frame.map(|data| Frame::data(Bytes::from(data))).map_err(Into::into)).unwrap();
        }
        is_waiting.recv().await;
        drop(sender);
        let response = sending.await.unwrap().unwrap();
        let error = response.extensions().get::<ProxyError>().map(ProxyError::kind);
        assert_eq!(error, (!is_whole).then_some(ProxyErrorKind::HttpRequestError), "{frames:?}");
        let head = if expected.is_empty() { "" } else { "POST / HTTP/1.1\r\nhost: a.example\r\n" };
        assert_eq!(reported.recv().await.unwrap(), format!("{head}{expected}"), "{frames:?}");
    }
}

/// A request body of two bytes that declares a length of one byte.
struct TwoBytesDeclaredAsOne(Option<Bytes>);

impl Body for TwoBytesDeclaredAsOne {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(1)
    }
}

#[tokio::test]
async fn rejects_a_request_body_that_contradicts_its_declared_length() {
    let (upstream, _) = backend(async |mut stream| while read_until(&mut stream, b"\n").await.is_some() {}).await;
    for body in [TwoBytesDeclaredAsOne(Some("ab".into())), TwoBytesDeclaredAsOne(None)] {
        let response = upstream.clone().oneshot(request(Method::POST, body.boxed_unsync())).await.unwrap();
        assert_eq!(response.extensions().get::<ProxyError>().unwrap().kind(), ProxyErrorKind::HttpRequestError);
    }
}

#[tokio::test]
async fn closes_the_connection_after_an_ambiguous_response() {
    let (upstream, connections) = static_backend(
        "HTTP/1.1 200 OK\r\ncontent-length: 99\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    )
    .await;
    for _ in 0..2 {
        let response = upstream.clone().oneshot(get()).await.unwrap();
        assert!(!response.headers().contains_key("content-length"));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "abc");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn malformed_response_causes_a_502() {
    const SEVENTEEN_INTERIM_RESPONSES: &str = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n\
        HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n\
        HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n\
        HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n\
        HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n\
        HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n";
    for bytes in [
        SEVENTEEN_INTERIM_RESPONSES,
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
    ] {
        let (upstream, _) = static_backend(bytes).await;
        let response = upstream.oneshot(get()).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY, "{bytes}");
        let error = response.extensions().get::<ProxyError>().unwrap();
        assert_eq!(error.kind(), ProxyErrorKind::HttpProtocolError, "{bytes}");
    }
}

#[tokio::test]
async fn reports_incomplete_and_malformed_response_bodies_as_different_errors() {
    for (body, malformed) in [
        ("content-length: 5\r\n\r\nabc", false),
        ("transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", false),
        ("transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", true),
        ("transfer-encoding: chunked\r\n\r\n\r\n", true),
    ] {
        let (upstream, _) = backend(move |mut stream| async move {
            read_until(&mut stream, b"\r\n\r\n").await.unwrap();
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{body}").as_bytes()).await.unwrap();
        })
        .await;
        let error = upstream.oneshot(get()).await.unwrap().into_body().collect().await.unwrap_err();
        assert_eq!(matches!(error, BodyError::Malformed(_)), malformed, "{body}: {error}");
    }
}

#[tokio::test]
async fn parses_a_response_head_that_arrives_byte_by_byte() {
    let (upstream, _) = backend(async |mut stream| {
        stream.set_nodelay(true).unwrap();
        read_until(&mut stream, b"\r\n\r\n").await.unwrap();
        for byte in b"HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 3\r\n\r\nabc" {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await;
    let response = upstream.oneshot(get()).await.unwrap();
    assert_eq!(response.headers()["x-a"], "1");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "abc");
}

#[tokio::test]
async fn forwards_a_large_response_body_completely() {
    let (upstream, connections) = backend(async |mut stream| {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
        while read_until(&mut stream, b"\r\n\r\n").await.is_some() {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    })
    .await;
    for _ in 0..2 {
        let body = upstream.clone().oneshot(get()).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), 3_000_000);
        assert!(body.iter().enumerate().all(|(at, byte)| at as u8 == *byte));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn response_timeout_starts_after_the_end_of_the_request_body() {
    let (upstream, _) = backend(async |mut stream| while stream.read_u8().await.is_ok() {}).await;
    let (sender, body) = frames();
    let start = tokio::time::Instant::now();
    let exchange = tokio::spawn(upstream.oneshot(request(Method::POST, body)));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(15)).await;
        sender.send(Ok(Frame::data("a".into()))).await.unwrap();
    }
    drop(sender);
    let response = exchange.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!(start.elapsed() >= Duration::from_secs(65), "{:?}", start.elapsed());
}
