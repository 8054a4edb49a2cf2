//! Error responses to gRPC calls: gRPC clients treat any status except 200 as a broken server.
//!
//! An error is a trailers-only response (gRPC over HTTP/2, "Responses"): status 200, with `grpc-status` and
//! `grpc-message` in the head, and no content.

use std::fmt::Write as _;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, VARY};
use http::{HeaderValue, Method, Request, StatusCode, response};
use rproxy_core::Rejection;

/// Returns the content type for the response if the request is a gRPC call.
pub(crate) fn content_type<B>(request: &Request<B>) -> Option<&'static str> {
    // All gRPC calls are POST.
    if *request.method() != Method::POST {
        return None;
    }
    let subtype = without_prefix(request.headers().get(CONTENT_TYPE)?.as_bytes(), b"application/grpc")?;
    let forms: [(&[u8], _); 3] =
        [(b"", "application/grpc"), (b"-web", "application/grpc-web"), (b"-web-text", "application/grpc-web-text")];
    let ends = |rest: &[u8]| matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'));
    let form = forms.into_iter().find(|(form, _)| without_prefix(subtype, form).is_some_and(ends));
    form.map(|(_, content_type)| content_type)
}

fn without_prefix<'a>(value: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = value.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Turns the head of an error response into that of a gRPC error.
pub(crate) fn present(
    head: &mut response::Parts,
    rejection: &Rejection,
    proxy_name: Option<&str>,
    content_type: &'static str,
) {
    let status = std::mem::replace(&mut head.status, StatusCode::OK);
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, ETAG, VARY] {
        head.headers.remove(name);
    }
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    head.headers.insert(GRPC_STATUS, HeaderValue::from_static(grpc_status(status)));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&message(status, rejection, proxy_name))) {
        head.headers.insert(GRPC_MESSAGE, message);
    }
}

fn message(status: StatusCode, rejection: &Rejection, proxy_name: Option<&str>) -> String {
    let name = proxy_name.map(|name| format!("{name}: ")).unwrap_or_default();
    let phrase = status.canonical_reason().unwrap_or("Error");
    let sentence = rejection.message().map(|message| format!(": {message}")).unwrap_or_default();
    format!("{name}{} {phrase} ({}){sentence}", status.as_u16(), rejection.reason())
}

/// Maps an HTTP status to a gRPC status code.
///
/// The mapping follows gRPC ("HTTP to gRPC Status Code Mapping"), with two additions: 429 is RESOURCE_EXHAUSTED, so
/// that clients can tell an exhausted quota from a server that is down, and 504 is DEADLINE_EXCEEDED.
fn grpc_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        // UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED.
        401 => "16",
        403 => "7",
        404 | 405 | 501 => "12",
        // RESOURCE_EXHAUSTED, UNAVAILABLE, DEADLINE_EXCEEDED.
        413 | 429 | 431 => "8",
        502 | 503 => "14",
        408 | 504 => "4",
        // INTERNAL; UNKNOWN.
        400 | 421 | 500 => "13",
        _ => "2",
    }
}

/// Percent-encodes everything except printable ASCII without `%` (gRPC over HTTP/2, "Percent-Byte-Unencoded").
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(byte.into()),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_grpc_calls_by_content_type() {
        for (method, sent, expected) in [
            ("POST", "application/grpc", Some("application/grpc")),
            ("POST", "application/grpc+proto", Some("application/grpc")),
            ("POST", "Application/gRPC;charset=utf-8", Some("application/grpc")),
            ("POST", "application/grpc-web+proto", Some("application/grpc-web")),
            ("POST", "application/grpc-web-text", Some("application/grpc-web-text")),
            ("POST", "application/grpcurl", None),
            ("POST", "application/grpc-webby", None),
            ("POST", "application/json", None),
            ("GET", "application/grpc", None),
        ] {
            let request = Request::builder().method(method).header(CONTENT_TYPE, sent).body(()).unwrap();
            let content_type = content_type(&request);
            assert_eq!(content_type, expected, "{sent}");
        }
        assert_eq!(content_type(&Request::builder().method("POST").body(()).unwrap()), None);
    }

    #[test]
    fn maps_http_status_to_grpc_status() {
        for (status, grpc) in [
            (400, "13"),
            (401, "16"),
            (403, "7"),
            (404, "12"),
            (408, "4"),
            (421, "13"),
            (429, "8"),
            (431, "8"),
            (500, "13"),
            (426, "2"),
            (502, "14"),
            (503, "14"),
            (504, "4"),
        ] {
            assert_eq!(grpc_status(StatusCode::from_u16(status).unwrap()), grpc, "{status}");
        }
    }

    #[test]
    fn message_has_the_name_of_the_proxy_and_the_sentence_if_they_exist() {
        let rejection = Rejection::new("test", "closed", StatusCode::FORBIDDEN);
        assert_eq!(message(StatusCode::FORBIDDEN, &rejection, None), "403 Forbidden (closed)");
        let rejection = rejection.with_message("Open from 9.");
        let text = message(StatusCode::FORBIDDEN, &rejection, Some("edge"));
        assert_eq!(text, "edge: 403 Forbidden (closed): Open from 9.");
    }

    #[test]
    fn percent_encodes_messages() {
        assert_eq!(percent_encoded("100 % né\r\n"), "100 %25 n%C3%A9%0D%0A");
    }
}
