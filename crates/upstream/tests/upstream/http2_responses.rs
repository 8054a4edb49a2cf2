//! Responses of HTTP/2 backends: detection of incomplete responses, limits, and forwarding to the client.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::http2_backend::{
    Action, Backend, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PRIORITY, Server, frame, get,
    literal, post, raw_backend, read, upstream,
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use rproxy_upstream::{BodyError, InterimRelay, ProxyError, ProxyErrorKind, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tower::ServiceExt;

async fn backend(action: Action) -> Backend {
    Backend::start(Server::default(), move |_, _| action).await
}

#[tokio::test]
async fn stream_reset_with_any_error_code_makes_a_response_incomplete() {
    for code in [0, 2, 8, 11] {
        let backend = backend(Action::ResetWithinResponse("first half", code)).await;
        let mut body = upstream(&backend).oneshot(get("/")).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first half");
        assert!(!body.is_end_stream());
        let error = body.frame().await.expect("an error instead of the end").unwrap_err();
        assert!(matches!(error, BodyError::Reset(reset) if reset == code), "{code}: {error:?}");
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test]
async fn closed_http2_connection_makes_a_response_incomplete() {
    let backend = backend(Action::CloseWithinResponse("first half")).await;
    let error = read(upstream(&backend).oneshot(get("/")).await.unwrap()).await.unwrap_err();
    assert!(matches!(error, BodyError::Incomplete | BodyError::Io(_)), "{error:?}");
}

#[tokio::test]
async fn response_that_contradicts_its_content_length_is_an_error() {
    for length in [2, 5] {
        let backend = backend(Action::DeclaredLength("abc", length)).await;
        let response = upstream(&backend).oneshot(get("/")).await.unwrap();
        let is_error = response.extensions().get::<ProxyError>().is_some();
        assert!(is_error || read(response).await.is_err(), "{length}");
    }
    let backend = backend(Action::DeclaredLength("abc", 3)).await;
    assert_eq!(read(upstream(&backend).oneshot(get("/")).await.unwrap()).await.unwrap(), "abc");
}

#[tokio::test]
async fn forwards_a_response_that_arrives_during_the_upload() {
    let backend = backend(Action::EarlyResponse("too much")).await;
    for content in ["abc", Box::leak("x".repeat(1 << 20).into_boxed_str())] {
        let response = upstream(&backend).oneshot(post(content)).await.unwrap();
        assert_eq!(read(response).await.unwrap(), "too much");
    }
}

#[tokio::test]
async fn limits_response_heads_to_64_kib_and_128_fields() {
    for (count, size, is_good) in [(60, 1000, true), (70, 1000, false), (128, 300, true), (129, 1, false)] {
        let backend = backend(Action::Fields(count, size)).await;
        let response = upstream(&backend).oneshot(get("/")).await.unwrap();
        let kind = response.extensions().get::<ProxyError>().map(ProxyError::kind);
        match is_good {
            true => assert_eq!((kind, response.headers().len()), (None, count), "{count} of {size}"),
            false => assert_eq!(kind, Some(ProxyErrorKind::HttpProtocolError), "{count} of {size}"),
        }
    }
}

#[tokio::test]
async fn responses_of_http2_backends_have_version_http_1_1() {
    for action in [Action::Respond("ok"), Action::Status(204), Action::Status(304)] {
        let response = upstream(&backend(action).await).oneshot(get("/")).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_11);
    }
}

#[tokio::test]
async fn responses_without_content_end_with_their_head() {
    for (action, method) in
        [(Action::Status(304), Method::GET), (Action::Status(204), Method::GET), (Action::Status(200), Method::HEAD)]
    {
        let mut request = get("/");
        *request.method_mut() = method;
        let response = upstream(&backend(action).await).oneshot(request).await.unwrap();
        assert!(response.body().is_end_stream(), "{action:?}");
        assert_eq!(response.headers().contains_key("content-length"), response.status() != StatusCode::NO_CONTENT);
        assert_eq!(read(response).await.unwrap(), "");
    }
}

#[tokio::test]
async fn forwards_interim_responses_and_trailers_but_no_empty_data_frames() {
    let backend = backend(Action::InterimAndTrailers).await;
    let links: Arc<Mutex<Vec<String>>> = Arc::default();
    let relayed = Arc::clone(&links);
    let relay: InterimRelay = Arc::new(move |interim: Response<()>| {
        relayed.lock().unwrap().push(interim.headers()["link"].to_str().unwrap().to_owned());
    });
    let mut request = get("/");
    request.extensions_mut().insert(relay);
    let mut body = upstream(&backend).oneshot(request).await.unwrap().into_body();
    assert_eq!(*links.lock().unwrap(), ["</a.css>; rel=preload"]);
    let (mut content, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame.unwrap().into_data() {
            Ok(data) => {
                assert!(!data.is_empty());
                content.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().unwrap(),
        }
    }
    assert_eq!(content, b"onetwo");
    assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-sum"]);
}

/// Returns the trailer sections of HTTP/2 responses as frames, and whether they are well-formed (RFC 9113 §8.1,
/// §8.2).
fn trailer_sections() -> Vec<(&'static str, Vec<u8>, bool)> {
    const LAST: u8 = END_STREAM | END_HEADERS;
    let fields = |count: usize, size: usize| -> Vec<u8> {
        (0..count).flat_map(|number| literal(&format!("x-{number:03}"), &"v".repeat(size))).collect()
    };
    let sum = literal("x-sum", "1");
    let split = |block: &[u8]| {
        let (first, rest) = block.split_at(3);
        [frame(HEADERS, END_STREAM, first), frame(CONTINUATION, END_HEADERS, rest)].concat()
    };
    let padded = |block: &[u8]| {
        let payload = [&[4, 0, 0, 0, 0, 16], block, &[0x88; 4]].concat();
        frame(HEADERS, LAST | PADDED | PRIORITY, &payload)
    };
    vec![
        ("a field", frame(HEADERS, LAST, &sum), true),
        ("a field after a new table size", frame(HEADERS, LAST, &[&[0x20], &sum[..]].concat()), true),
        ("a field in two frames", split(&sum), true),
        ("a field with padding", padded(&sum), true),
        ("no field", frame(HEADERS, LAST, &[]), true),
        ("32 fields of 500 bytes", frame(HEADERS, LAST, &fields(32, 499)), true),
        ("33 fields", frame(HEADERS, LAST, &fields(33, 1)), false),
        (
            "more than 16 KiB",
            [frame(HEADERS, END_STREAM, &fields(16, 1000)), frame(CONTINUATION, END_HEADERS, &fields(1, 1000))]
                .concat(),
            false,
        ),
        ("a field of the connection", frame(HEADERS, LAST, &literal("connection", "x")), false),
        ("a name in upper case", frame(HEADERS, LAST, &literal("X-Sum", "1")), false),
        ("no END_STREAM", frame(HEADERS, END_HEADERS, &sum), false),
    ]
}

#[tokio::test]
async fn malformed_trailer_section_makes_a_response_incomplete() {
    for (name, trailers, is_well_formed) in trailer_sections() {
        // `:status: 200`, with and without `content-length: 3`.
        for head in [&[0x88][..], &[0x88, 0x0f, 13, 1, b'3']] {
            let response = [frame(HEADERS, END_HEADERS, head), frame(DATA, 0, b"abc"), trailers.clone()].concat();
            let origin = raw_backend(vec![response]).await;
            let upstream: Upstream<crate::http2_backend::Body> =
                Upstream::builder().backend(&origin).unwrap().build().unwrap();
            let response = upstream.oneshot(get("/")).await.unwrap();
            let has_length = head.len() > 1;
            let is_error = response.extensions().get::<ProxyError>().is_some();
            let mut body = response.into_body();
            let (mut content, mut result) = (Vec::new(), Ok(()));
            while let Some(frame) = body.frame().await {
                match frame.map(Frame::into_data) {
                    Ok(Ok(data)) => content.extend_from_slice(&data),
                    Ok(Err(_)) => {}
                    Err(error) => result = Err(error),
                }
            }
            if is_error {
                assert!(!is_well_formed, "{name}");
                continue;
            }
            assert_eq!(result.is_ok(), is_well_formed, "{name}: {result:?}");
            // A client that knows the length would regard the response as complete.
            let is_content_whole = content == b"abc";
            assert!(is_content_whole == is_well_formed || !has_length, "{name}: {content:?}");
        }
    }
}

#[tokio::test]
async fn response_with_content_length_is_incomplete_without_end_stream() {
    // RST_STREAM, and a GOAWAY that leaves the request unprocessed.
    let goaway = [&[0, 0, 8, 7, 0, 0, 0, 0, 0][..], &[0; 7], &[2]].concat();
    for end in [frame(3, 0, &[0; 4]), frame(3, 0, &[0, 0, 0, 8]), goaway] {
        let head = frame(HEADERS, END_HEADERS, &[0x88, 0x0f, 13, 1, b'3']);
        let parts = vec![[head, frame(DATA, 0, b"ab")].concat(), frame(DATA, 0, b"c"), end];
        let origin = raw_backend(parts).await;
        let upstream: Upstream<crate::http2_backend::Body> =
            Upstream::builder().backend(&origin).unwrap().build().unwrap();
        let response = upstream.oneshot(get("/")).await.unwrap();
        let mut body = response.into_body();
        let mut content = Vec::new();
        let error = loop {
            match body.frame().await.expect("an error before the end") {
                Ok(frame) => content.extend_from_slice(&frame.into_data().unwrap()),
                Err(error) => break error,
            }
        };
        assert_eq!(content, b"ab", "before {error:?}");
    }
}

#[tokio::test]
async fn rejects_more_than_16_interim_responses() {
    for (count, status) in [(16, StatusCode::OK), (17, StatusCode::BAD_GATEWAY)] {
        let response = upstream(&backend(Action::Interim(count)).await).oneshot(get("/")).await.unwrap();
        assert_eq!(response.status(), status, "{count}");
    }
}

type AnyBody = UnsyncBoxBody<Bytes, io::Error>;

fn streamed(parts: mpsc::Receiver<io::Result<&'static str>>) -> Request<AnyBody> {
    let frames = stream::unfold(parts, async |mut parts| {
        let part = parts.recv().await?;
        Some((part.map(|part| Frame::data(Bytes::from_static(part.as_bytes()))), parts))
    });
    Request::post("/").header("host", "a").body(UnsyncBoxBody::new(StreamBody::new(Box::pin(frames)))).unwrap()
}

#[tokio::test]
async fn failed_request_body_aborts_the_response_and_the_backend_request() {
    let backend = backend(Action::Echo).await;
    let upstream: Upstream<AnyBody> = Upstream::builder().backend(&backend.origin()).unwrap().build().unwrap();
    let (sender, parts) = mpsc::channel(1);
    let mut body = upstream.oneshot(streamed(parts)).await.unwrap().into_body();
    sender.send(Ok("abc")).await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
    sender.send(Err(io::Error::other("the client closed the connection"))).await.unwrap();
    let error = body.frame().await.expect("an error instead of the end").unwrap_err();
    assert!(matches!(&error, BodyError::Request(why) if why == "the client closed the connection"), "{error:?}");
    assert_eq!(backend.failure().await, Some(8), "CANCEL, and no END_STREAM");
}

#[tokio::test]
async fn sends_the_rest_of_a_request_while_the_response_is_unread() {
    let backend = backend(Action::Echo).await;
    let upstream: Upstream<AnyBody> = Upstream::builder().backend(&backend.origin()).unwrap().build().unwrap();
    let (sender, parts) = mpsc::channel(1);
    let mut body = upstream.oneshot(streamed(parts)).await.unwrap().into_body();
    for _ in 0..20 {
        let sent = sender.send(Ok("abc"));
        tokio::time::timeout(Duration::from_secs(5), sent).await.expect("the request body is read").unwrap();
    }
    drop(sender);
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(length, 60);
}

#[tokio::test]
async fn sends_http2_pings_only_if_configured() {
    for (interval, expects_ping) in [(None, false), (Some(Duration::from_millis(50)), true)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("h2c://{}", listener.local_addr().unwrap());
        let upstream: Upstream<crate::http2_backend::Body> =
            Upstream::builder().backend(&origin).unwrap().http2_ping_interval(interval).build().unwrap();
        let request = tokio::spawn(upstream.oneshot(get("/")));
        let (mut socket, _) = listener.accept().await.unwrap();
        // SETTINGS, and the acknowledgement of the SETTINGS of the client. The request gets no response.
        socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]).await.unwrap();
        let mut preface = [0; 24];
        socket.read_exact(&mut preface).await.unwrap();
        let pings = async {
            loop {
                let mut header = [0; 9];
                socket.read_exact(&mut header).await.unwrap();
                let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
                socket.read_exact(&mut vec![0; length as usize]).await.unwrap();
                if header[3] == 6 {
                    return;
                }
            }
        };
        let has_ping = tokio::time::timeout(Duration::from_millis(500), pings).await.is_ok();
        assert_eq!(has_ping, expects_ping, "{interval:?}");
        request.abort();
    }
}
