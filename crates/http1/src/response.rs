//! The serialisation of response heads, and the framing of response bodies.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, TRANSFER_ENCODING};
use http::response::Parts;
use http_body::SizeHint;

use crate::fields::{put_field, put_length};
use crate::received_head::FieldWriter;
use crate::request::ResponseContext;
use crate::syntax::{self, has_token};

/// The framing of a response body (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseBodyFraming {
    /// The response has no body, regardless of its fields.
    Empty,
    /// The body has this length in bytes.
    Length(u64),
    /// The body has the transfer coding `chunked`, and an unknown length.
    Chunked,
    /// The body ends when the connection closes.
    Close,
}

/// Writes a response head, and returns the body framing and whether the connection can be reused.
///
/// The field names have the letter case of the [`ReceivedHead`](crate::ReceivedHead) of the response.
pub fn write_response_head(
    out: &mut Vec<u8>,
    head: &Parts,
    context: ResponseContext,
    size: &SizeHint,
) -> (ResponseBodyFraming, bool) {
    let framing = framing(head, context, size);
    let mut keep_alive = context.keep_alive && framing != ResponseBodyFraming::Close;
    // Includes space for a small body, so that appending it does not reallocate.
    out.reserve(64 * head.headers.len() + 512);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    let mut fields = FieldWriter::new(out, &head.extensions);
    let (mut has_date, mut says_close, mut length_name) = (false, false, None);
    for (name, value) in &head.headers {
        if *name == CONTENT_LENGTH {
            length_name = fields.received_name(name, value);
        }
        if *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING {
            // Written below.
            continue;
        }
        if *name == CONNECTION && has_token(value.as_bytes(), b"close") {
            (keep_alive, says_close) = (false, true);
        }
        has_date |= *name == DATE;
        fields.put(name, value);
    }
    fields.finish();
    match framing {
        ResponseBodyFraming::Length(length) => put_length(out, length_name, length),
        ResponseBodyFraming::Chunked => put_field(out, TRANSFER_ENCODING.as_str(), b"chunked"),
        // RFC 9110 §8.6: the length that the body would have, except for 204.
        ResponseBodyFraming::Empty if head.status != StatusCode::NO_CONTENT => {
            if let Some(length) = length(&head.headers).or(size.exact().filter(|&exact| context.is_head && exact > 0)) {
                put_length(out, length_name, length);
            }
        }
        ResponseBodyFraming::Empty | ResponseBodyFraming::Close => {}
    }
    if !keep_alive && !says_close {
        put_field(out, CONNECTION.as_str(), b"close");
    } else if keep_alive && context.is_http10 {
        // RFC 9112 §9.3: HTTP/1.0 clients close the connection otherwise.
        put_field(out, CONNECTION.as_str(), b"keep-alive");
    }
    if !has_date {
        put_date(out);
    }
    out.extend_from_slice(b"\r\n");
    (framing, keep_alive)
}

/// Writes the head of a response 101, after which the connection has another protocol (RFC 9110 §15.2.2).
pub fn write_switching_protocols(out: &mut Vec<u8>, head: &Parts) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    let mut fields = FieldWriter::new(out, &head.extensions);
    for (name, value) in &head.headers {
        // RFC 9110 §8.6, RFC 9112 §6.1: it has no content.
        if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            fields.put(name, value);
        }
    }
    fields.finish();
    if !head.headers.contains_key(DATE) {
        put_date(out);
    }
    out.extend_from_slice(b"\r\n");
}

fn framing(head: &Parts, context: ResponseContext, size: &SizeHint) -> ResponseBodyFraming {
    let has_no_body = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if context.is_head || has_no_body || head.status.is_informational() {
        return ResponseBodyFraming::Empty;
    }
    match size.exact().or_else(|| length(&head.headers)) {
        Some(length) => ResponseBodyFraming::Length(length),
        // RFC 9112 §6.1
        None if context.is_http10 => ResponseBodyFraming::Close,
        None => ResponseBodyFraming::Chunked,
    }
}

/// Returns the value of `Content-Length`, if there is exactly one valid value.
fn length(headers: &HeaderMap) -> Option<u64> {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    syntax::content_length(line.as_bytes())
}

/// Writes a `Date` field (RFC 9110 §6.6.1), which is formatted once per second.
fn put_date(out: &mut Vec<u8>) {
    thread_local! {
        static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|(second, date)| {
        if *second != now || date.is_empty() {
            *second = now;
            *date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
        }
        put_field(out, DATE.as_str(), date.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;

    const GET: ResponseContext =
        ResponseContext { is_head: false, keep_alive: true, takes_trailers: false, is_http10: false };
    const HEAD: ResponseContext = ResponseContext { is_head: true, ..GET };

    fn written(
        context: ResponseContext,
        status: u16,
        fields: &[(&str, &str)],
        size: SizeHint,
    ) -> (String, ResponseBodyFraming, bool) {
        let mut response = Response::builder().status(status).header("date", "now");
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let mut out = Vec::new();
        let (framing, keep_alive) =
            write_response_head(&mut out, &response.body(()).unwrap().into_parts().0, context, &size);
        let text = String::from_utf8(out).unwrap();
        let head = text.strip_prefix("HTTP/1.1 ").and_then(|text| text.strip_suffix("\r\n\r\n")).unwrap();
        (head.replace("date: now\r\n", "").replace("\r\ndate: now", "").replace("\r\n", "|"), framing, keep_alive)
    }

    #[test]
    fn body_framing_depends_on_method_status_and_size() {
        let unknown = SizeHint::default;
        let exact = SizeHint::with_exact;
        let length = &[("content-length", "7")][..];
        for (context, status, fields, size, head, framing) in [
            (GET, 200, &[][..], exact(3), "200 OK|content-length: 3", ResponseBodyFraming::Length(3)),
            (GET, 200, &[], exact(0), "200 OK|content-length: 0", ResponseBodyFraming::Length(0)),
            (GET, 200, &[], unknown(), "200 OK|transfer-encoding: chunked", ResponseBodyFraming::Chunked),
            (GET, 200, length, unknown(), "200 OK|content-length: 7", ResponseBodyFraming::Length(7)),
            // The size of the body takes precedence over the field.
            (GET, 200, length, exact(3), "200 OK|content-length: 3", ResponseBodyFraming::Length(3)),
            (
                GET,
                200,
                &[("content-length", "7, 7")],
                unknown(),
                "200 OK|transfer-encoding: chunked",
                ResponseBodyFraming::Chunked,
            ),
            (
                GET,
                200,
                &[("transfer-encoding", "gzip")],
                exact(1),
                "200 OK|content-length: 1",
                ResponseBodyFraming::Length(1),
            ),
            (GET, 204, length, exact(0), "204 No Content", ResponseBodyFraming::Empty),
            (GET, 304, length, exact(0), "304 Not Modified|content-length: 7", ResponseBodyFraming::Empty),
            (GET, 304, &[], exact(0), "304 Not Modified", ResponseBodyFraming::Empty),
            (HEAD, 200, length, exact(0), "200 OK|content-length: 7", ResponseBodyFraming::Empty),
            (HEAD, 200, &[], exact(3), "200 OK|content-length: 3", ResponseBodyFraming::Empty),
            (HEAD, 200, &[], exact(0), "200 OK", ResponseBodyFraming::Empty),
            (HEAD, 200, &[], unknown(), "200 OK", ResponseBodyFraming::Empty),
            (GET, 299, &[], exact(0), "299 |content-length: 0", ResponseBodyFraming::Length(0)),
        ] {
            assert_eq!(written(context, status, fields, size), (head.to_owned(), framing, true), "{status} {fields:?}");
        }
    }

    #[test]
    fn connection_is_reused_unless_client_or_service_requests_close() {
        let closes = ResponseContext { keep_alive: false, ..GET };
        for (context, fields, head, keep_alive) in [
            (GET, &[][..], "200 OK|content-length: 0", true),
            (GET, &[("connection", "Upgrade")], "200 OK|connection: Upgrade|content-length: 0", true),
            (GET, &[("connection", "x, Close")], "200 OK|connection: x, Close|content-length: 0", false),
            (closes, &[("connection", "close")], "200 OK|connection: close|content-length: 0", false),
            (closes, &[], "200 OK|content-length: 0|connection: close", false),
        ] {
            let (text, _, is_reused) = written(context, 200, fields, SizeHint::with_exact(0));
            assert_eq!((&*text, is_reused), (head, keep_alive));
        }
    }

    // RFC 9110 §2.5, RFC 9112 §9.3
    #[test]
    fn http_1_0_clients_get_http_1_1_responses_without_chunked_coding() {
        let closes = ResponseContext { keep_alive: false, is_http10: true, ..GET };
        let asks = ResponseContext { is_http10: true, ..GET };
        for (context, size, head, framing, keep_alive) in [
            (
                asks,
                SizeHint::with_exact(3),
                "200 OK|content-length: 3|connection: keep-alive",
                ResponseBodyFraming::Length(3),
                true,
            ),
            (
                closes,
                SizeHint::with_exact(3),
                "200 OK|content-length: 3|connection: close",
                ResponseBodyFraming::Length(3),
                false,
            ),
            (asks, SizeHint::default(), "200 OK|connection: close", ResponseBodyFraming::Close, false),
            (closes, SizeHint::default(), "200 OK|connection: close", ResponseBodyFraming::Close, false),
        ] {
            assert_eq!(written(context, 200, &[], size), (head.to_owned(), framing, keep_alive));
        }
    }

    #[test]
    fn adds_a_date_field() {
        let mut out = Vec::new();
        write_response_head(&mut out, &Response::new(()).into_parts().0, GET, &SizeHint::with_exact(0));
        let text = String::from_utf8(out).unwrap();
        let date = text.lines().find_map(|line| line.strip_prefix("date: ")).unwrap();
        assert!(httpdate::parse_http_date(date).is_ok());
    }
}
