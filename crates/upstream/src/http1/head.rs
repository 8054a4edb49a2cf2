//! The writer of request heads, and the parser of response heads and their body framing.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{BufMut, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, TE, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Version};
use rproxy_core::field_name;

use super::Malformed;

/// The framing of a body (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// The message has no body.
    Empty,
    /// The body length is given by `Content-Length`.
    Length(u64),
    Chunked,
    /// The body ends when the connection is closed, in responses only.
    Close,
}

/// Writes the head of a request whose body has this framing.
pub(super) fn write<B>(request: &Request<B>, framing: Framing, out: &mut BytesMut) {
    let method = request.method();
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let headers = request.headers();
    // Sufficient for most heads, so that the buffer grows at most once.
    out.reserve(target.len() + 40 * headers.len() + 64);
    out.put_slice(method.as_str().as_bytes());
    out.put_slice(b" ");
    out.put_slice(target.as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    let (mut has_length, mut has_te) = (false, false);
    for (name, value) in headers {
        // The framing fields are written below, from the actual body.
        if *name == CONTENT_LENGTH {
            has_length = true;
        } else if *name != TRANSFER_ENCODING {
            has_te |= *name == TE;
            put_field(out, name.as_str(), value.as_bytes());
        }
    }
    match framing {
        Framing::Length(length) => put_field(out, "content-length", itoa::Buffer::new().format(length).as_bytes()),
        Framing::Chunked => put_field(out, "transfer-encoding", b"chunked"),
        // RFC 9110 §8.6: `Content-Length: 0` for methods that expect content.
        _ if has_length || matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            put_field(out, "content-length", b"0");
        }
        _ => {}
    }
    // RFC 9110 §10.1.4: `TE` requires the connection option `te`.
    match (closes_connection(method, framing), has_te) {
        (false, false) => {}
        (false, true) => put_field(out, "connection", b"te"),
        (true, false) => put_field(out, "connection", b"close"),
        (true, true) => put_field(out, "connection", b"close, te"),
    }
    out.put_slice(b"\r\n");
}

/// Returns whether the connection must be closed after a request with this method and framing.
///
/// With these methods, content has no defined meaning (RFC 9110 §9.3.1, §9.3.2, §9.3.5, §9.3.7, §9.3.8). Some backends
/// do not read it and parse it as the next request, whose response another client would get.
pub(super) fn closes_connection(method: &Method, framing: Framing) -> bool {
    let expects_none = matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE);
    expects_none && framing != Framing::Empty
}

/// Writes a header field line.
fn put_field(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// A parsed response head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// Whether the backend allows more requests on the connection.
    pub(super) keep_alive: bool,
}

/// Parses the head of the response to a request with this method. Returns `None` if the head is incomplete.
pub(super) fn read(input: &mut BytesMut, method: &Method) -> Result<Option<Head>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    // RFC 9112 §5.1: a proxy removes whitespace before the colon in a response.
    config.allow_spaces_after_header_name_in_responses(true);
    let length = match config.parse_response_with_uninit_headers(&mut parsed, input, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD_SIZE => length,
        Ok(httparse::Status::Partial) if input.len() <= MAX_HEAD_SIZE => return Ok(None),
        Ok(_) => return Err(Malformed("the response head is too large")),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed("the response has too many header fields")),
        Err(_) => return Err(Malformed("the response head is malformed")),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed("the response has no valid status code"))?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    // The parsed fields borrow `input`, which is split next. Their offsets do not.
    let mut spans = [FieldSpan::default(); MAX_FIELDS];
    let count = parsed.headers.len();
    for (span, field) in spans.iter_mut().zip(&*parsed.headers) {
        *span = FieldSpan { name: offset(input, field.name.as_bytes()), value: offset(input, field.value) };
    }

    let head = input.split_to(length).freeze();
    let mut headers = HeaderMap::with_capacity(count + EXTRA_FIELDS);
    let mut persistence = Persistence::default();
    let (mut has_length_field, mut has_coding_field) = (false, false);
    for span in &spans[..count] {
        let name = field_name(&head[span.name.range()]);
        // The options about this connection are removed. Most fields contain no others.
        if name.as_ref().is_ok_and(|name| *name == CONNECTION) && persistence.add_options(&head[span.value.range()]) {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(head.slice(span.value.range()));
        match (name, value) {
            (Ok(name), Ok(value)) => {
                match name {
                    CONTENT_LENGTH => has_length_field = true,
                    TRANSFER_ENCODING => has_coding_field = true,
                    _ => {}
                }
                headers.append(name, value);
            }
            _ => return Err(Malformed("a response header field has invalid characters")),
        }
    }
    let keep_alive = persistence.is_persistent(version);
    // Without these fields, the headers need no lookup.
    let (framing, is_unambiguous) = match has_length_field || has_coding_field {
        true => framing(&mut headers, has_coding_field, version, status, method)?,
        false if is_bodiless(status, method) => (Framing::Empty, true),
        false => (Framing::Close, false),
    };
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = version;
    *response.headers_mut() = headers;
    Ok(Some(Head { response, framing, keep_alive: keep_alive && is_unambiguous }))
}

/// Returns whether `input` can be the start of a status line. Other input is rejected without waiting for its end.
pub(super) fn is_status_line_prefix(input: &[u8]) -> bool {
    input.iter().zip(b"HTTP/1.").all(|(byte, expected)| byte == expected)
}

/// A byte range within a response head.
#[derive(Clone, Copy, Default)]
struct Span {
    start: u16,
    end: u16,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The byte ranges of a field's name and value.
#[derive(Clone, Copy, Default)]
struct FieldSpan {
    name: Span,
    value: Span,
}

/// Returns the position of the slice `part` within `whole`.
fn offset(whole: &[u8], part: &[u8]) -> Span {
    // A head is smaller than 64 KiB, so the offset fits.
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize) as u16;
    Span { start, end: start.saturating_add(part.len() as u16) }
}

/// The connection options `close` and `keep-alive` of a response (RFC 9112 §9.3).
#[derive(Default)]
struct Persistence {
    close: bool,
    keep_alive: bool,
}

impl Persistence {
    /// Adds the connection options in a `Connection` field value. Returns whether it contains no other options.
    fn add_options(&mut self, field: &[u8]) -> bool {
        if field.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
            return true;
        }
        let mut is_all = true;
        for option in field.split(|&byte| byte == b',') {
            let (close, keep_alive) = (eq_word(option, b"close"), eq_word(option, b"keep-alive"));
            self.close |= close;
            self.keep_alive |= keep_alive;
            is_all &= close || keep_alive || option.trim_ascii().is_empty();
        }
        is_all
    }

    fn is_persistent(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }
}

/// Returns the framing of a response body (RFC 9112 §6.3), and whether it is unambiguous.
fn framing(
    headers: &mut HeaderMap,
    has_coding_field: bool,
    version: Version,
    status: StatusCode,
    method: &Method,
) -> Result<(Framing, bool), Malformed> {
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6, RFC 9112 §6.1: these responses have neither field. A server that sends one may also send
        // content, which would be parsed as the next response.
        return match content_length(headers)? {
            Some(0) if !has_coding_field => Ok((Framing::Empty, true)),
            _ if status.is_informational() => Err(Malformed("an interim response has content")),
            _ => Ok((Framing::Empty, false)),
        };
    }
    if is_bodiless(status, method) {
        return Ok((Framing::Empty, true));
    }
    if has_coding_field {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let is_chunked = codings.next().is_some_and(|coding| eq_word(coding.as_bytes(), b"chunked"));
        let is_only = codings.next().is_none();
        if version == Version::HTTP_11 && is_only && !is_chunked && is_ignorable_coding(headers) {
            headers.remove(TRANSFER_ENCODING);
            return Ok((Framing::Close, false));
        }
        // RFC 9112 §6.1: HTTP/1.0 has no transfer codings, and the request accepts `chunked` only.
        if version != Version::HTTP_11 || !is_chunked || !is_only {
            return Err(Malformed("the response has an unsupported transfer coding"));
        }
        // `chunked` overrides `Content-Length`, which is removed. Both together are ambiguous.
        let is_unambiguous = headers.remove(CONTENT_LENGTH).is_none();
        return Ok((Framing::Chunked, is_unambiguous));
    }
    match content_length(headers)? {
        Some(0) => Ok((Framing::Empty, true)),
        Some(length) => Ok((Framing::Length(length), true)),
        None => Ok((Framing::Close, false)),
    }
}

/// Returns whether `Transfer-Encoding` contains only an unregistered coding and can be ignored.
///
/// Old servers send `identity`, and some applications send `binary` instead of another field. Such a body ends with the
/// connection (RFC 9112 §6.3), which is unambiguous. A registered coding, a variant of `chunked`, or an additional
/// `Content-Length` is ambiguous.
fn is_ignorable_coding(headers: &HeaderMap) -> bool {
    let value = headers.get(TRANSFER_ENCODING).map(|field| field.as_bytes().trim_ascii().to_ascii_lowercase());
    let is_word =
        |word: &[u8]| !word.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    let is_registered = |word: &[u8]| REGISTERED_CODINGS.iter().any(|coding| word == coding.as_bytes());
    let is_disguised = |word: &[u8]| word.windows(5).any(|part| part == b"chunk");
    !headers.contains_key(CONTENT_LENGTH)
        && value.is_some_and(|word| is_word(&word) && !is_registered(&word) && !is_disguised(&word))
}

/// The registered transfer codings (RFC 9112 §12.3), including the old names of RFC 9112 §7.2.
const REGISTERED_CODINGS: [&str; 7] = ["chunked", "compress", "deflate", "gzip", "trailers", "x-compress", "x-gzip"];

/// Returns whether a response has no body, regardless of its header fields.
pub(crate) fn is_bodiless(status: StatusCode, method: &Method) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Returns the value of `Content-Length` (RFC 9110 §8.6), and accepts identical repeated values.
pub(crate) fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, Malformed> {
    // If there are as many values as names, no field is repeated, which makes one lookup enough for most responses.
    if headers.len() == headers.keys_len() {
        let Some(field) = headers.get(CONTENT_LENGTH) else { return Ok(None) };
        if let Some(length) = parse_digits(field.as_bytes()) {
            return Ok(Some(length));
        }
    }
    let fields = headers.get_all(CONTENT_LENGTH);
    let mut all = fields.iter();
    let Some(first) = all.next() else { return Ok(None) };
    let is_single = all.next().is_none();
    let mut length = None;
    for field in fields {
        for member in field.as_bytes().split(|&byte| byte == b',') {
            let value = parse_digits(member.trim_ascii())
                .ok_or(Malformed("the Content-Length of the response is not a number"))?;
            if *length.get_or_insert(value) != value {
                return Err(Malformed("the response has conflicting Content-Length values"));
            }
        }
    }
    // A repeated value is reduced to one.
    if let Some(length) = length
        && (!is_single || first.as_bytes().contains(&b','))
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(length)
}

/// Parses a number that consists of decimal digits only.
fn parse_digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Returns whether a value equals a word, ignoring case and surrounding whitespace.
fn eq_word(value: &[u8], word: &[u8]) -> bool {
    value.trim_ascii().eq_ignore_ascii_case(word)
}

/// The maximum number of header fields in a response head.
pub(crate) const MAX_FIELDS: usize = 128;
/// The maximum size of a response head in bytes.
pub(crate) const MAX_HEAD_SIZE: usize = u16::MAX as usize;
/// The spare capacity of the header map for fields that are added to the response. Growing the map would double its
/// cost.
const EXTRA_FIELDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(method: &str, target: &str, fields: &[(&str, &str)], framing: Framing) -> String {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut out = BytesMut::new();
        write(&request.body(()).unwrap(), framing, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn request_head_has_an_origin_form_target_and_one_body_framing() {
        for (method, target, fields, framing, expected) in [
            ("GET", "/a?b=c", &[("host", "h")][..], Framing::Empty, "GET /a?b=c HTTP/1.1\r\nhost: h\r\n\r\n"),
            ("GET", "http://h/a", &[], Framing::Empty, "GET /a HTTP/1.1\r\n\r\n"),
            ("OPTIONS", "*", &[], Framing::Empty, "OPTIONS * HTTP/1.1\r\n\r\n"),
            ("POST", "/", &[], Framing::Empty, "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"),
            (
                "DELETE",
                "/",
                &[("content-length", "0")],
                Framing::Empty,
                "DELETE / HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
            ),
            ("GET", "/", &[], Framing::Length(5), "GET / HTTP/1.1\r\ncontent-length: 5\r\nconnection: close\r\n\r\n"),
            (
                "GET",
                "/",
                &[("te", "trailers")],
                Framing::Empty,
                "GET / HTTP/1.1\r\nte: trailers\r\nconnection: te\r\n\r\n",
            ),
            ("PUT", "/", &[("content-length", "9")], Framing::Length(5), "PUT / HTTP/1.1\r\ncontent-length: 5\r\n\r\n"),
            (
                "POST",
                "/",
                &[("transfer-encoding", "gzip, chunked"), ("content-length", "3"), ("a", "b")],
                Framing::Chunked,
                "POST / HTTP/1.1\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n",
            ),
        ] {
            assert_eq!(written(method, target, fields, framing), expected);
        }
    }

    fn parsed(method: Method, head: &str) -> Result<Option<Head>, Malformed> {
        read(&mut BytesMut::from(head), &method)
    }

    // RFC 9112 §6.3
    #[test]
    fn response_has_exactly_one_body_framing() {
        for (method, head, framing, keep_alive) in [
            (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Framing::Length(5), true),
            (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Framing::Empty, true),
            (
                Method::GET,
                "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\ncontent-length: 5\r\n\r\n",
                Framing::Length(5),
                true,
            ),
            (Method::GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", Framing::Chunked, true),
            (
                Method::GET,
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
                Framing::Chunked,
                false,
            ),
            (Method::GET, "HTTP/1.1 200 OK\r\n\r\n", Framing::Close, false),
            (Method::GET, "HTTP/1.1 200 OK\r\ntransfer-encoding: Identity\r\n\r\n", Framing::Close, false),
            (Method::GET, "HTTP/1.1 200 OK\r\ntransfer-encoding: binary\r\n\r\n", Framing::Close, false),
            (Method::GET, "HTTP/1.1 200\r\ncontent-length: 1\r\n\r\n", Framing::Length(1), true),
            (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Framing::Empty, true),
            (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n", Framing::Empty, true),
            (Method::GET, "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", Framing::Empty, true),
            (Method::GET, "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", Framing::Empty, false),
            (Method::GET, "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n", Framing::Empty, false),
            (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length \t: 5\r\n\r\n", Framing::Length(5), true),
            (Method::GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", Framing::Empty, true),
            (
                Method::GET,
                "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 1\r\n\r\n",
                Framing::Length(1),
                false,
            ),
            (Method::GET, "HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n", Framing::Length(1), false),
            (
                Method::GET,
                "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\n",
                Framing::Length(1),
                true,
            ),
        ] {
            let read = parsed(method, head).unwrap().unwrap();
            assert_eq!((read.framing, read.keep_alive), (framing, keep_alive), "{head}");
            let lengths: Vec<_> = read.response.headers().get_all(CONTENT_LENGTH).iter().collect();
            assert!(lengths.len() <= 1, "{head}");
            assert!(framing != Framing::Chunked || lengths.is_empty(), "{head}");
        }
    }

    // RFC 9110 §7.6.1
    #[test]
    fn removes_close_and_keep_alive_from_the_connection_field() {
        for (field, is_kept) in [
            ("keep-alive", false),
            ("Keep-Alive, close", false),
            (" , close", false),
            ("", false),
            ("close, x-own", true),
            ("upgrade", true),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\nconnection: {field}\r\ncontent-length: 0\r\n\r\n");
            let read = parsed(Method::GET, &head).unwrap().unwrap();
            assert_eq!(read.response.headers().contains_key(CONNECTION), is_kept, "{field}");
        }
    }

    #[test]
    fn rejects_ambiguous_response_heads() {
        for head in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: X-Gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked;a=b\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: \x0bchunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: identity, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\ncontent-length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding:\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: identity\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n",
            "HTTP/1.1 100 Continue\r\ncontent-length: 5\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 99 No\r\n\r\n",
            "<html>",
        ] {
            assert!(parsed(Method::GET, head).is_err(), "{head}");
        }
    }

    #[test]
    fn parses_a_response_head_without_consuming_the_bytes_that_follow() {
        let head = "HTTP/1.1 200 OK\r\nx-a: 1\r\nx-a: 2\r\n\r\n";
        for end in 0..head.len() {
            assert!(parsed(Method::GET, &head[..end]).unwrap().is_none(), "{end}");
        }
        let mut input = BytesMut::from(format!("{head}body").as_str());
        let read = read(&mut input, &Method::GET).unwrap().unwrap();
        assert_eq!(read.response.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(input, "body");
    }

    #[test]
    fn detects_a_non_http1_response_by_its_first_bytes() {
        for (input, may) in [("", true), ("H", true), ("HTTP/1.1 200", true), ("HTTP/2", false), ("\0\0", false)] {
            assert_eq!(is_status_line_prefix(input.as_bytes()), may, "{input:?}");
        }
    }

    #[test]
    fn limits_the_size_and_field_count_of_a_response_head() {
        let many: String = (0..=MAX_FIELDS).map(|n| format!("x-{n}: 1\r\n")).collect();
        let large = "a".repeat(MAX_HEAD_SIZE);
        for head in [format!("HTTP/1.1 200 OK\r\n{many}\r\n"), format!("HTTP/1.1 200 OK\r\nx: {large}")] {
            assert!(parsed(Method::GET, &head).is_err());
        }
    }
}
