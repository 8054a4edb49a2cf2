//! HTTP/2 connections to backends: gRPC streams, timeouts, and concurrent requests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rproxy_upstream::{ProxyError, ProxyErrorKind, Upstream};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tower::ServiceExt;

type AnyBody = UnsyncBoxBody<Bytes, Infallible>;

/// Starts a backend that supports HTTP/2 only.
async fn backend<F>(respond: impl Fn(Request<Incoming>) -> F + Copy + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Future<Output = Response<AnyBody>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let service = service_fn(move |request| {
                let respond = respond(request);
                async move { Ok::<_, Infallible>(respond.await) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, connections)
}

fn upstream(address: SocketAddr) -> Upstream<AnyBody> {
    let builder = Upstream::builder().backend(&format!("h2c://{address}")).unwrap();
    builder.timeout(Duration::from_millis(300)).build().unwrap()
}

/// Creates a request body from a channel of frames.
fn streamed(frames: mpsc::Receiver<Frame<Bytes>>) -> AnyBody {
    let frames = stream::unfold(frames, async |mut frames| {
        let frame = frames.recv().await?;
        Some((Ok::<_, Infallible>(frame), frames))
    });
    // `stream::unfold` is not `Unpin`.
    UnsyncBoxBody::new(StreamBody::new(Box::pin(frames)))
}

/// Echoes each gRPC message, and ends the response with the trailer field `grpc-status: 0`.
async fn echo(request: Request<Incoming>) -> Response<AnyBody> {
    assert_eq!(request.headers()["te"], "trailers");
    let (sender, frames) = mpsc::channel(1);
    let mut body = request.into_body();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { break };
            if sender.send(Frame::data(data)).await.is_err() {
                return;
            }
        }
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
        let _ = sender.send(Frame::trailers(trailers)).await;
    });
    Response::new(streamed(frames))
}

fn call(frames: mpsc::Receiver<Frame<Bytes>>) -> Request<AnyBody> {
    let request = Request::post("/echo.Echo/Chat").header("host", "a.example").header("te", "trailers");
    request.header("content-type", "application/grpc").body(streamed(frames)).unwrap()
}

#[tokio::test]
async fn streams_grpc_messages_in_both_directions_with_trailers() {
    let (address, _) = backend(echo).await;
    let (sender, frames) = mpsc::channel(1);
    let response = upstream(address).oneshot(call(frames)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body();
    for message in ["one", "two", "three"] {
        sender.send(Frame::data(Bytes::from(message))).await.unwrap();
        // The message arrives before the next one is sent.
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), message);
    }
    drop(sender);
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn response_timeout_starts_after_the_end_of_the_request_body() {
    let (address, _) = backend(async |request| {
        let length = request.into_body().collect().await.unwrap().to_bytes().len();
        Response::new(UnsyncBoxBody::new(Full::from(length.to_string())))
    })
    .await;
    let (sender, frames) = mpsc::channel(1);
    let request = tokio::spawn(upstream(address).oneshot(call(frames)));
    // Longer than the timeout for the response head.
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(120)).await;
        sender.send(Frame::data(Bytes::from_static(b"data"))).await.unwrap();
    }
    drop(sender);
    let response = request.await.unwrap().unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "20");
}

// RFC 9113 §5.2: flow control limits the content that is sent before the backend reads it.
#[tokio::test]
async fn expectation_is_not_sent_to_http2_backends() {
    let (address, _) = backend(async |request| {
        let expectation = request.headers().contains_key("expect");
        let length = request.into_body().collect().await.unwrap().to_bytes().len();
        Response::new(UnsyncBoxBody::new(Full::from(format!("{expectation} {length}"))))
    })
    .await;
    let request = Request::post("/").header("expect", "100-continue").body(UnsyncBoxBody::new(Full::from("data")));
    let response = upstream(address).oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "false 4");
}

#[tokio::test]
async fn missing_response_causes_a_504() {
    let (address, _) = backend(async |_| std::future::pending().await).await;
    for body in [UnsyncBoxBody::new(Empty::new()), UnsyncBoxBody::new(Full::from("data"))] {
        let response = upstream(address).oneshot(Request::post("/").body(body).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    }
}

#[tokio::test]
async fn concurrent_requests_share_one_http2_connection() {
    let (address, connections) = backend(async |_| Response::new(UnsyncBoxBody::new(Full::from("ok")))).await;
    let upstream = upstream(address);
    let requests: Vec<_> = (0..50)
        .map(|_| tokio::spawn(upstream.clone().oneshot(Request::new(UnsyncBoxBody::new(Empty::new())))))
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes(), "ok");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn websocket_to_a_backend_without_extended_connect_causes_http_upgrade_failed() {
    let (address, connections) = backend(async |_| Response::new(UnsyncBoxBody::new(Full::from("ok")))).await;
    let mut request = Request::new(UnsyncBoxBody::new(Empty::new()));
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    let response = upstream(address).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(response.extensions().get::<ProxyError>().unwrap().kind(), ProxyErrorKind::HttpUpgradeFailed);
    // The connection was opened for the SETTINGS only. No request was sent.
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
