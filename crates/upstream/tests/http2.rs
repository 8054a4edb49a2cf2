//! HTTP/2 to backends: gRPC's way of using it, and connections that come to an end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

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

/// A backend that speaks HTTP/2 and nothing else.
async fn backend<F>(answer: impl Fn(Request<Incoming>) -> F + Copy + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>)
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
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
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

/// Frames as they are sent, the channel's end being the body's.
fn streamed(frames: mpsc::Receiver<Frame<Bytes>>) -> AnyBody {
    let frames = stream::unfold(frames, async |mut frames| {
        let frame = frames.recv().await?;
        Some((Ok::<_, Infallible>(frame), frames))
    });
    // Each poll makes no promise of its place.
    UnsyncBoxBody::new(StreamBody::new(Box::pin(frames)))
}

/// Says back what it is told, message by message, and `grpc-status: 0` in a trailer.
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
async fn messages_go_both_ways_as_they_come_and_trailers_end_them() {
    let (address, _) = backend(echo).await;
    let (sender, frames) = mpsc::channel(1);
    let response = upstream(address).oneshot(call(frames)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body();
    for message in ["one", "two", "three"] {
        sender.send(Frame::data(Bytes::from(message))).await.unwrap();
        // Nothing waits for more than this message.
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), message);
    }
    drop(sender);
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_backend_is_not_late_while_the_client_still_speaks() {
    let (address, _) = backend(async |request| {
        let length = request.into_body().collect().await.unwrap().to_bytes().len();
        Response::new(UnsyncBoxBody::new(Full::from(length.to_string())))
    })
    .await;
    let (sender, frames) = mpsc::channel(1);
    let asking = tokio::spawn(upstream(address).oneshot(call(frames)));
    // Longer than the backend has for its head.
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(120)).await;
        sender.send(Frame::data(Bytes::from_static(b"data"))).await.unwrap();
    }
    drop(sender);
    let response = asking.await.unwrap().unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "20");
}

#[tokio::test]
async fn a_backend_that_says_nothing_is_late() {
    let (address, _) = backend(async |_| std::future::pending().await).await;
    for body in [UnsyncBoxBody::new(Empty::new()), UnsyncBoxBody::new(Full::from("data"))] {
        let response = upstream(address).oneshot(Request::post("/").body(body).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    }
}

#[tokio::test]
async fn many_requests_share_a_connection_from_the_first_on() {
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
async fn a_websocket_for_a_backend_that_takes_no_extended_connect_is_an_error_that_says_so() {
    let (address, connections) = backend(async |_| Response::new(UnsyncBoxBody::new(Full::from("ok")))).await;
    let mut request = Request::new(UnsyncBoxBody::new(Empty::new()));
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    let response = upstream(address).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(response.extensions().get::<ProxyError>().unwrap().kind(), ProxyErrorKind::HttpUpgradeFailed);
    // Its settings were looked at, and it was not asked.
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
