//! The serialisation of request heads.

use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING};
use http::{Method, Request};

use crate::fields::{put_field, put_length};
use crate::framing::RequestBodyFraming;
use crate::received_head::FieldWriter;
use crate::syntax::has_token;

/// Writes the head of a request, and returns whether the connection can be reused after it.
///
/// The target is written in origin-form, or in authority-form for CONNECT (RFC 9112 §3.2). `Content-Length` and
/// `Transfer-Encoding` are written from `framing`, in place of the fields of the request. All other fields are written as
/// they are, with the letter case of the [`ReceivedHead`](crate::ReceivedHead) of the request.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use rproxy_http1::{RequestBodyFraming, write_request_head};
///
/// let mut out = Vec::new();
/// let request = Request::post("http://example.org/form").header("host", "example.org").body(())?;
/// let keep_alive = write_request_head(&mut out, &request, RequestBodyFraming::Length(3));
/// assert_eq!(out, b"POST /form HTTP/1.1\r\nhost: example.org\r\ncontent-length: 3\r\n\r\n");
/// assert!(keep_alive);
/// # Ok::<(), http::Error>(())
/// ```
pub fn write_request_head<B>(out: &mut Vec<u8>, request: &Request<B>, framing: RequestBodyFraming) -> bool {
    let method = request.method();
    let target = target(request);
    let headers = request.headers();
    // Sufficient for most heads, so that the buffer grows at most once.
    out.reserve(target.len() + 40 * headers.len() + 64);
    out.extend_from_slice(method.as_str().as_bytes());
    // RFC 9112 §3.2.1: an empty path is sent as `/`.
    out.extend_from_slice(if target.starts_with('?') { b" /" } else { b" " });
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let mut fields = FieldWriter::new(out, request.extensions());
    let (mut has_length, mut has_te, mut says_close) = (false, false, false);
    let mut length_name = None;
    for (name, value) in headers {
        // The framing fields are written below, from the actual body.
        if *name == CONTENT_LENGTH {
            has_length = true;
            length_name = fields.received_name(name, value);
        } else if *name != TRANSFER_ENCODING {
            has_te |= *name == TE;
            says_close |= *name == CONNECTION && has_token(value.as_bytes(), b"close");
            fields.put(name, value);
        }
    }
    fields.finish();
    match framing {
        RequestBodyFraming::Length(length) => put_length(out, length_name, length),
        RequestBodyFraming::Chunked => put_field(out, TRANSFER_ENCODING.as_str(), b"chunked"),
        // RFC 9110 §8.6: `Content-Length: 0` for methods that expect content.
        _ if has_length || matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            put_length(out, length_name, 0)
        }
        _ => {}
    }
    let closes = has_unexpected_content(method, framing);
    // RFC 9110 §10.1.4: `TE` requires the connection option `te`.
    match (closes && !says_close, has_te) {
        (false, false) => {}
        (false, true) => put_field(out, CONNECTION.as_str(), b"te"),
        (true, false) => put_field(out, CONNECTION.as_str(), b"close"),
        (true, true) => put_field(out, CONNECTION.as_str(), b"close, te"),
    }
    out.extend_from_slice(b"\r\n");
    !closes && !says_close
}

/// Returns the target in origin-form or asterisk-form, or in authority-form for CONNECT (RFC 9112 §3.2).
fn target<B>(request: &Request<B>) -> &str {
    let uri = request.uri();
    match uri.path_and_query() {
        Some(target) => target.as_str(),
        None if *request.method() == Method::CONNECT => uri.authority().map_or("/", |authority| authority.as_str()),
        None => "/",
    }
}

/// Returns whether a request has content although its method gives content no meaning.
///
/// These methods are defined without (RFC 9110 §9.3.1, §9.3.2, §9.3.5, §9.3.7, §9.3.8). Some servers do not read the
/// content and parse it as the next request, whose response another client would get. So the connection is closed.
fn has_unexpected_content(method: &Method, framing: RequestBodyFraming) -> bool {
    let expects_none = matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE);
    expects_none && matches!(framing, RequestBodyFraming::Length(_) | RequestBodyFraming::Chunked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(method: &str, target: &str, fields: &[(&str, &str)], framing: RequestBodyFraming) -> String {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut out = Vec::new();
        write_request_head(&mut out, &request.body(()).unwrap(), framing);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn request_head_has_an_origin_form_target_and_one_body_framing() {
        for (method, target, fields, framing, expected) in [
            ("GET", "/a?b=c", &[("host", "h")][..], RequestBodyFraming::None, "GET /a?b=c HTTP/1.1\r\nhost: h\r\n\r\n"),
            ("GET", "http://h/a", &[], RequestBodyFraming::None, "GET /a HTTP/1.1\r\n\r\n"),
            ("GET", "http://h?a", &[], RequestBodyFraming::None, "GET /?a HTTP/1.1\r\n\r\n"),
            ("CONNECT", "h:443", &[], RequestBodyFraming::None, "CONNECT h:443 HTTP/1.1\r\n\r\n"),
            ("OPTIONS", "*", &[], RequestBodyFraming::None, "OPTIONS * HTTP/1.1\r\n\r\n"),
            ("POST", "/", &[], RequestBodyFraming::None, "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"),
            (
                "DELETE",
                "/",
                &[("content-length", "0")],
                RequestBodyFraming::None,
                "DELETE / HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
            ),
            (
                "GET",
                "/",
                &[],
                RequestBodyFraming::Length(5),
                "GET / HTTP/1.1\r\ncontent-length: 5\r\nconnection: close\r\n\r\n",
            ),
            (
                "GET",
                "/",
                &[("te", "trailers")],
                RequestBodyFraming::None,
                "GET / HTTP/1.1\r\nte: trailers\r\nconnection: te\r\n\r\n",
            ),
            (
                "PUT",
                "/",
                &[("content-length", "9")],
                RequestBodyFraming::Length(5),
                "PUT / HTTP/1.1\r\ncontent-length: 5\r\n\r\n",
            ),
            (
                "POST",
                "/",
                &[("transfer-encoding", "gzip, chunked"), ("content-length", "3"), ("a", "b")],
                RequestBodyFraming::Chunked,
                "POST / HTTP/1.1\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n",
            ),
        ] {
            assert_eq!(written(method, target, fields, framing), expected);
        }
    }

    #[test]
    fn connection_is_closed_after_content_without_meaning_or_the_option_close() {
        let keep_alive = |method: Method, connection: &str, framing| {
            let request = Request::builder().method(method).header("connection", connection).body(()).unwrap();
            write_request_head(&mut Vec::new(), &request, framing)
        };
        let (none, length) = (RequestBodyFraming::None, RequestBodyFraming::Length(1));
        assert!(keep_alive(Method::GET, "te", none) && keep_alive(Method::POST, "", RequestBodyFraming::Chunked));
        assert!(!keep_alive(Method::GET, "x, Close", none));
        for method in [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS, Method::TRACE] {
            assert!(!keep_alive(method, "", length));
        }
    }
}
