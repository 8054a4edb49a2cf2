//! The head of a request, written; the head of a response, read; and how long the body of either is.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{BufMut, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Version};

use super::Malformed;

/// How a body is delimited (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Empty,
    /// So many bytes.
    Length(u64),
    Chunked,
    /// Whatever comes before the connection ends; for responses only.
    Close,
}

/// Writes the head of `request`, whose body is delimited so.
pub(super) fn write<B>(request: &Request<B>, framing: Framing, out: &mut BytesMut) {
    let method = request.method();
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let headers = request.headers();
    // Enough for most, so that the buffer grows once at most.
    out.reserve(target.len() + 40 * headers.len() + 64);
    out.put_slice(method.as_str().as_bytes());
    out.put_slice(b" ");
    out.put_slice(target.as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    let (mut has_length, mut has_te) = (false, false);
    for (name, value) in headers {
        // How the body is delimited is said below, as it is, whatever somebody claims.
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
        // RFC 9110 §8.6: where content might be expected, it is said that there is none.
        _ if has_length || matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            put_field(out, "content-length", b"0");
        }
        _ => {}
    }
    // RFC 9110 §10.1.4: the sender of `TE` says that it is for the next recipient alone.
    match (is_last(method, framing), has_te) {
        (false, false) => {}
        (false, true) => put_field(out, "connection", b"te"),
        (true, false) => put_field(out, "connection", b"close"),
        (true, true) => put_field(out, "connection", b"close, te"),
    }
    out.put_slice(b"\r\n");
}

/// Whether a request of this method, its content delimited so, is the last on its connection.
///
/// RFC 9110 §9.3.1, §9.3.2, §9.3.5, §9.3.7, §9.3.8: with these methods content means nothing in general, and there are
/// backends that leave it where it is: then the connection goes on with it, as if it were the next request, and somebody
/// else gets its response.
pub(super) fn is_last(method: &Method, framing: Framing) -> bool {
    let expects_none = matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE);
    expects_none && framing != Framing::Empty
}

fn put_field(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// A response head that was read.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// Whether the backend lets the connection be used again.
    pub(super) keep_alive: bool,
}

/// Takes the head of a response to `method` from the front of `input`; `None` while it is not whole.
pub(super) fn read(input: &mut BytesMut, method: &Method) -> Result<Option<Head>, Malformed> {
    let mut lines = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    // RFC 9112 §5.1: a proxy removes white space before a colon from a response.
    config.allow_spaces_after_header_name_in_responses(true);
    let length = match config.parse_response_with_uninit_headers(&mut parsed, input, &mut lines) {
        Ok(httparse::Status::Complete(length)) if length <= LARGEST_HEAD => length,
        Ok(httparse::Status::Partial) if input.len() <= LARGEST_HEAD => return Ok(None),
        Ok(_) => return Err(Malformed("the response head is too large")),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed("the response has too many fields")),
        Err(_) => return Err(Malformed("that is no response head")),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed("the response has no status"))?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    // The lines borrow what is split off next; their places don't.
    let mut places = [Place::default(); MOST_FIELDS];
    let count = parsed.headers.len();
    for (place, line) in places.iter_mut().zip(&*parsed.headers) {
        *place = Place { name: offset(input, line.name.as_bytes()), value: offset(input, line.value) };
    }

    let head = input.split_to(length).freeze();
    let mut headers = HeaderMap::with_capacity(count + ROOM);
    let mut persistence = Persistence::default();
    let (mut says_length, mut says_coding) = (false, false);
    for place in &places[..count] {
        let name = HeaderName::from_bytes(&head[place.name.range()]);
        // What it says of the connection is for us, and is most often all that it says.
        if name.as_ref().is_ok_and(|name| *name == CONNECTION) && persistence.said(&head[place.value.range()]) {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(head.slice(place.value.range()));
        match (name, value) {
            (Ok(name), Ok(value)) => {
                match name {
                    CONTENT_LENGTH => says_length = true,
                    TRANSFER_ENCODING => says_coding = true,
                    _ => {}
                }
                headers.append(name, value);
            }
            _ => return Err(Malformed("a field of the response has bytes that it may not have")),
        }
    }
    let keep_alive = persistence.keeps_alive(version);
    // What is not there need not be looked for.
    let (framing, is_clear) = match says_length || says_coding {
        true => framing(&mut headers, says_coding, version, status, method)?,
        false if is_bodiless(status, method) => (Framing::Empty, true),
        false => (Framing::Close, false),
    };
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = version;
    *response.headers_mut() = headers;
    Ok(Some(Head { response, framing, keep_alive: keep_alive && is_clear }))
}

/// Whether a status line may begin with these bytes. What may not has no end worth waiting for.
pub(super) fn may_begin_with(input: &[u8]) -> bool {
    input.iter().zip(b"HTTP/1.").all(|(byte, expected)| byte == expected)
}

/// Where something stands in a head.
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

#[derive(Clone, Copy, Default)]
struct Place {
    name: Span,
    value: Span,
}

fn offset(whole: &[u8], part: &[u8]) -> Span {
    // Within one head, so it fits.
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize) as u16;
    Span { start, end: start.saturating_add(part.len() as u16) }
}

/// What `Connection` says of the connection itself (RFC 9112 §9.3).
#[derive(Default)]
struct Persistence {
    says_close: bool,
    says_keep_alive: bool,
}

impl Persistence {
    /// Takes note of a line; whether that is all there is to it, so that nothing in it nominates a field.
    fn said(&mut self, line: &[u8]) -> bool {
        if line.eq_ignore_ascii_case(b"keep-alive") {
            self.says_keep_alive = true;
            return true;
        }
        let mut is_all = true;
        for option in line.split(|&byte| byte == b',') {
            let (close, keep_alive) = (is(option, b"close"), is(option, b"keep-alive"));
            self.says_close |= close;
            self.says_keep_alive |= keep_alive;
            is_all &= close || keep_alive || option.trim_ascii().is_empty();
        }
        is_all
    }

    fn keeps_alive(&self, version: Version) -> bool {
        !self.says_close && (version == Version::HTTP_11 || self.says_keep_alive)
    }
}

/// RFC 9112 §6.3: how the body of a response is delimited, and whether that is beyond doubt.
fn framing(
    headers: &mut HeaderMap,
    says_coding: bool,
    version: Version,
    status: StatusCode,
    method: &Method,
) -> Result<(Framing, bool), Malformed> {
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6, RFC 9112 §6.1: neither field is ever in these. Whoever says otherwise may send content, and a
        // reader of the next response would take it for that.
        return match content_length(headers)? {
            Some(0) if !says_coding => Ok((Framing::Empty, true)),
            _ if status.is_informational() => Err(Malformed("an interim response says that it has content")),
            _ => Ok((Framing::Empty, false)),
        };
    }
    if is_bodiless(status, method) {
        return Ok((Framing::Empty, true));
    }
    if says_coding {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let is_chunked = codings.next().is_some_and(|coding| is(coding.as_bytes(), b"chunked"));
        let is_only = codings.next().is_none();
        if version == Version::HTTP_11 && is_only && !is_chunked && is_no_coding(headers) {
            headers.remove(TRANSFER_ENCODING);
            return Ok((Framing::Close, false));
        }
        // RFC 9112 §6.1: HTTP/1.0 has none, and others than this one were never asked for.
        if version != Version::HTTP_11 || !is_chunked || !is_only {
            return Err(Malformed("the response has a transfer coding that nobody asked for"));
        }
        // It overrides a length, which must not be passed on. Whoever sends both may be confused, or confusing.
        let is_clear = headers.remove(CONTENT_LENGTH).is_none();
        return Ok((Framing::Chunked, is_clear));
    }
    match content_length(headers)? {
        Some(0) => Ok((Framing::Empty, true)),
        Some(length) => Ok((Framing::Length(length), true)),
        None => Ok((Framing::Close, false)),
    }
}

/// Whether `Transfer-Encoding` names nothing that could have been done to the body: `identity`, as old servers say, or
/// `binary`, as applications do that mean another field. What it delimits then ends with the connection (RFC 9112 §6.3), which
/// can't be read in two ways. A coding that is registered, or a `chunked` in disguise, could; so could a length beside it.
fn is_no_coding(headers: &HeaderMap) -> bool {
    let said = headers.get(TRANSFER_ENCODING).map(|line| line.as_bytes().trim_ascii().to_ascii_lowercase());
    let is_word =
        |word: &[u8]| !word.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    let is_registered = |word: &[u8]| REGISTERED_CODINGS.iter().any(|coding| word == coding.as_bytes());
    let is_disguised = |word: &[u8]| word.windows(5).any(|part| part == b"chunk");
    !headers.contains_key(CONTENT_LENGTH)
        && said.is_some_and(|word| is_word(&word) && !is_registered(&word) && !is_disguised(&word))
}

/// The registry of RFC 9112 §12.3, with the old names of §7.2.
const REGISTERED_CODINGS: [&str; 7] = ["chunked", "compress", "deflate", "gzip", "trailers", "x-compress", "x-gzip"];

/// Whether a response has no body whatever its fields say.
pub(crate) fn is_bodiless(status: StatusCode, method: &Method) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// RFC 9110 §8.6: decimal digits, and, if said more than once, the same each time.
pub(crate) fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, Malformed> {
    let lines = headers.get_all(CONTENT_LENGTH);
    let mut all = lines.iter();
    let Some(first) = all.next() else { return Ok(None) };
    let is_single = all.next().is_none();
    let mut length = None;
    for line in lines {
        for member in line.as_bytes().split(|&byte| byte == b',') {
            let said = digits(member.trim_ascii()).ok_or(Malformed("the response has no length that is a number"))?;
            if *length.get_or_insert(said) != said {
                return Err(Malformed("the response has two lengths"));
            }
        }
    }
    // One number, for whoever reads it next.
    if let Some(length) = length
        && (!is_single || first.as_bytes().contains(&b','))
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(length)
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn is(said: &[u8], word: &[u8]) -> bool {
    said.trim_ascii().eq_ignore_ascii_case(word)
}

/// More than any application sends, and little enough to hold for each request.
pub(crate) const MOST_FIELDS: usize = 128;
pub(crate) const LARGEST_HEAD: usize = u16::MAX as usize;
/// For the fields that are added on the way to the client: growing a map is as dear as filling it.
const ROOM: usize = 16;

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
    fn a_request_is_written_in_origin_form_with_one_framing() {
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
    fn a_response_body_is_delimited_in_one_way() {
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
    fn what_connection_says_of_the_connection_alone_is_not_passed_on() {
        for (line, is_passed_on) in [
            ("keep-alive", false),
            ("Keep-Alive, close", false),
            (" , close", false),
            ("", false),
            ("close, x-own", true),
            ("upgrade", true),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\nconnection: {line}\r\ncontent-length: 0\r\n\r\n");
            let read = parsed(Method::GET, &head).unwrap().unwrap();
            assert_eq!(read.response.headers().contains_key(CONNECTION), is_passed_on, "{line}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
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
    fn a_head_is_taken_when_it_is_whole_and_not_a_byte_more() {
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
    fn what_is_no_status_line_is_told_by_its_first_bytes() {
        for (input, may) in [("", true), ("H", true), ("HTTP/1.1 200", true), ("HTTP/2", false), ("\0\0", false)] {
            assert_eq!(may_begin_with(input.as_bytes()), may, "{input:?}");
        }
    }

    #[test]
    fn heads_have_limits() {
        let many: String = (0..=MOST_FIELDS).map(|n| format!("x-{n}: 1\r\n")).collect();
        let large = "a".repeat(LARGEST_HEAD);
        for head in [format!("HTTP/1.1 200 OK\r\n{many}\r\n"), format!("HTTP/1.1 200 OK\r\nx: {large}")] {
            assert!(parsed(Method::GET, &head).is_err());
        }
    }
}
