//! Tests of responses to HEAD, which have the header fields of responses to GET (RFC 9110 §9.3.2).

use http::{HeaderMap, HeaderValue, Method, Response};
use http_body_util::Full;

use crate::{append, exchange, field, get};

/// Returns the header sections of the responses to HEAD and GET for this content type and length.
async fn head_and_get(codings: &str, media_type: &str, length: usize) -> (HeaderMap, HeaderMap) {
    let fields = [
        ("content-type", media_type),
        ("etag", "\"v1\""),
        ("accept-ranges", "bytes"),
        ("content-digest", "sha-256=:AA==:"),
        ("repr-digest", "sha-256=:AA==:"),
        ("digest", "sha-256=AA=="),
        ("content-md5", "AA=="),
    ];
    let mut sections = Vec::new();
    for (method, content) in [(Method::HEAD, String::new()), (Method::GET, "x".repeat(length))] {
        let mut response = Response::new(Full::from(content));
        response.headers_mut().insert("content-length", HeaderValue::from(length));
        append(response.headers_mut(), &fields);
        let mut request = get(&[("accept-encoding", codings)]);
        *request.method_mut() = method;
        sections.push(exchange(request, response).await.headers().clone());
    }
    (sections.remove(0), sections.remove(0))
}

#[tokio::test]
async fn response_to_head_has_the_header_fields_of_get() {
    for media_type in [
        "text/plain",
        "image/x-icon",
        "image/vnd.microsoft.icon",
        "image/bmp",
        "image/svg+xml",
        "image/png",
        "application/wasm",
        "application/grpc",
        "application/octet-stream",
        "text/event-stream",
        "Text/Event-Stream",
        "font/ttf",
        "font/woff2",
    ] {
        for codings in ["gzip", "br, gzip", "identity"] {
            for length in [0, 255, 256, 4000] {
                let (head, get) = head_and_get(codings, media_type, length).await;
                assert_eq!(head, get, "{media_type} {codings} {length}");
            }
        }
    }
}

#[tokio::test]
async fn response_to_head_of_compressed_content_has_no_content_length() {
    let (head, _) = head_and_get("gzip", "text/plain", 4000).await;
    assert_eq!((field(&head, "content-encoding"), field(&head, "vary")), ("gzip", "accept-encoding"));
    assert!(!head.contains_key("content-length"));
    let (head, _) = head_and_get("gzip", "text/plain", 255).await;
    assert_eq!(head["content-length"], "255");
}
