//! The parser of response heads, and the framing of response bodies that a client receives.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Response, StatusCode, Version};
use rproxy_core::field_name;

use crate::received_head::ReceivedHead;
use crate::response::ResponseBodyFraming;

/// A response head, and what follows from it for the connection.
#[derive(Debug)]
#[non_exhaustive]
pub struct ResponseHead {
    /// The response without its content.
    ///
    /// The connection options `close` and `keep-alive`, and `Content-Length` beside the chunked coding, are removed.
    pub response: Response<()>,
    /// The framing of the response body.
    pub framing: ResponseBodyFraming,
    /// Whether the server allows more requests on the connection, and the framing is unambiguous.
    pub keep_alive: bool,
}

/// The reason that a response head is malformed or ambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidResponseHead {
    /// The head is larger than [`MAX_RESPONSE_HEAD_SIZE`].
    #[error("the response head is too large")]
    TooLarge,
    /// The head has more than [`MAX_RESPONSE_FIELDS`] fields.
    #[error("the response has too many header fields")]
    TooManyFields,
    /// The head is malformed.
    #[error("the response head is malformed")]
    Malformed,
    /// The head has no valid status code.
    #[error("the response has no valid status code")]
    Status,
    /// A field has invalid characters.
    #[error("a response header field has invalid characters")]
    Field,
    /// An interim response has content.
    #[error("an interim response has content")]
    InterimContent,
    /// The transfer coding is not supported (RFC 9112 §6.1).
    #[error("the response has an unsupported transfer coding")]
    TransferCoding,
    /// `Content-Length` is not a number.
    #[error("the Content-Length of the response is not a number")]
    ContentLength,
    /// `Content-Length` has different values.
    #[error("the response has conflicting Content-Length values")]
    ConflictingLengths,
}

/// Parses the head of the response to a request with this method, and removes it from `input`. Returns `None` if the head
/// is incomplete.
///
/// The response has a [`ReceivedHead`]. An interim response is a head, too. A 101 response must have been requested, which
/// the caller checks.
///
/// # Errors
///
/// The reason that the head is malformed or ambiguous. The connection cannot be used any more.
///
/// # Examples
///
/// ```
/// use bytes::BytesMut;
/// use http::Method;
/// use rproxy_http1::{ResponseBodyFraming, parse_response_head};
///
/// let mut input = BytesMut::from("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
/// let head = parse_response_head(&mut input, &Method::GET)?.expect("the head is complete");
/// assert_eq!(head.framing, ResponseBodyFraming::Length(5));
/// assert_eq!(input, "hello");
/// # Ok::<(), rproxy_http1::InvalidResponseHead>(())
/// ```
pub fn parse_response_head(input: &mut BytesMut, method: &Method) -> Result<Option<ResponseHead>, InvalidResponseHead> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_RESPONSE_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    // RFC 9112 §5.1: a proxy removes whitespace before the colon in a response.
    config.allow_spaces_after_header_name_in_responses(true);
    let length = match config.parse_response_with_uninit_headers(&mut parsed, input, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_RESPONSE_HEAD_SIZE => length,
        Ok(httparse::Status::Partial) if input.len() <= MAX_RESPONSE_HEAD_SIZE => return Ok(None),
        Ok(_) => return Err(InvalidResponseHead::TooLarge),
        Err(httparse::Error::TooManyHeaders) => return Err(InvalidResponseHead::TooManyFields),
        Err(_) => return Err(InvalidResponseHead::Malformed),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(InvalidResponseHead::Status)?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    // The parsed fields borrow `input`, which is split next. Their offsets do not.
    let mut spans = [FieldSpan::default(); MAX_RESPONSE_FIELDS];
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
            _ => return Err(InvalidResponseHead::Field),
        }
    }
    let keep_alive = persistence.is_persistent(version);
    // Without these fields, the headers need no lookup. RFC 9112 §6.3: they mean nothing in a 2xx response to CONNECT,
    // which starts a tunnel.
    let (framing, is_unambiguous) = match has_length_field || has_coding_field {
        _ if *method == Method::CONNECT && status.is_success() => (ResponseBodyFraming::Empty, false),
        // RFC 9110 §15.2.2: what follows is not HTTP, regardless of these fields.
        _ if status == StatusCode::SWITCHING_PROTOCOLS => (ResponseBodyFraming::Empty, false),
        true => framing(&mut headers, has_coding_field, version, status, method)?,
        false if is_bodiless(status, method) => (ResponseBodyFraming::Empty, true),
        false => (ResponseBodyFraming::Close, false),
    };
    let mut response = Response::new(());
    response.extensions_mut().insert(ReceivedHead::new(head));
    *response.status_mut() = status;
    *response.version_mut() = version;
    *response.headers_mut() = headers;
    Ok(Some(ResponseHead { response, framing, keep_alive: keep_alive && is_unambiguous }))
}

/// Returns whether `input` can be the start of a status line. Other input is rejected without waiting for its end.
pub fn is_status_line_prefix(input: &[u8]) -> bool {
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
) -> Result<(ResponseBodyFraming, bool), InvalidResponseHead> {
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6, RFC 9112 §6.1: these responses have neither field. A server that sends one may also send
        // content, which would be parsed as the next response.
        return match content_length(headers)? {
            Some(0) if !has_coding_field => Ok((ResponseBodyFraming::Empty, true)),
            _ if status.is_informational() => Err(InvalidResponseHead::InterimContent),
            _ => Ok((ResponseBodyFraming::Empty, false)),
        };
    }
    if is_bodiless(status, method) {
        return Ok((ResponseBodyFraming::Empty, true));
    }
    if has_coding_field {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let is_chunked = codings.next().is_some_and(|coding| eq_word(coding.as_bytes(), b"chunked"));
        let is_only = codings.next().is_none();
        if version == Version::HTTP_11 && is_only && !is_chunked && is_ignorable_coding(headers) {
            headers.remove(TRANSFER_ENCODING);
            return Ok((ResponseBodyFraming::Close, false));
        }
        // RFC 9112 §6.1: HTTP/1.0 has no transfer codings, and the request accepts `chunked` only.
        if version != Version::HTTP_11 || !is_chunked || !is_only {
            return Err(InvalidResponseHead::TransferCoding);
        }
        // `chunked` overrides `Content-Length`, which is removed. Both together are ambiguous.
        let is_unambiguous = headers.remove(CONTENT_LENGTH).is_none();
        return Ok((ResponseBodyFraming::Chunked, is_unambiguous));
    }
    match content_length(headers)? {
        Some(length) => Ok((ResponseBodyFraming::Length(length), true)),
        None => Ok((ResponseBodyFraming::Close, false)),
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
pub fn is_bodiless(status: StatusCode, method: &Method) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Returns the value of `Content-Length` (RFC 9110 §8.6), and accepts identical repeated values.
pub fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, InvalidResponseHead> {
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
            let value = parse_digits(member.trim_ascii()).ok_or(InvalidResponseHead::ContentLength)?;
            if *length.get_or_insert(value) != value {
                return Err(InvalidResponseHead::ConflictingLengths);
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
pub const MAX_RESPONSE_FIELDS: usize = 128;
/// The maximum size of a response head in bytes.
pub const MAX_RESPONSE_HEAD_SIZE: usize = u16::MAX as usize;
/// The spare capacity of the header map for fields that are added to the response. Growing the map would double its
/// cost.
const EXTRA_FIELDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(method: Method, head: &str) -> Result<Option<ResponseHead>, InvalidResponseHead> {
        parse_response_head(&mut BytesMut::from(head), &method)
    }

    // RFC 9112 §6.3
    #[test]
    fn response_has_exactly_one_body_framing() {
        for (method, head, framing, keep_alive) in [
            (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", ResponseBodyFraming::Length(5), true),
            (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ResponseBodyFraming::Length(0), true),
            (
                Method::GET,
                "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\ncontent-length: 5\r\n\r\n",
                ResponseBodyFraming::Length(5),
                true,
            ),
            (Method::GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", ResponseBodyFraming::Chunked, true),
            (
                Method::GET,
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
                ResponseBodyFraming::Chunked,
                false,
            ),
            (Method::GET, "HTTP/1.1 200 OK\r\n\r\n", ResponseBodyFraming::Close, false),
            (Method::GET, "HTTP/1.1 200 OK\r\ntransfer-encoding: Identity\r\n\r\n", ResponseBodyFraming::Close, false),
            (Method::GET, "HTTP/1.1 200 OK\r\ntransfer-encoding: binary\r\n\r\n", ResponseBodyFraming::Close, false),
            (Method::GET, "HTTP/1.1 200\r\ncontent-length: 1\r\n\r\n", ResponseBodyFraming::Length(1), true),
            (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", ResponseBodyFraming::Empty, true),
            (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n", ResponseBodyFraming::Empty, true),
            (Method::GET, "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", ResponseBodyFraming::Empty, true),
            (Method::GET, "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", ResponseBodyFraming::Empty, false),
            (
                Method::GET,
                "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
                ResponseBodyFraming::Empty,
                false,
            ),
            (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length \t: 5\r\n\r\n", ResponseBodyFraming::Length(5), true),
            (Method::CONNECT, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", ResponseBodyFraming::Empty, false),
            (Method::CONNECT, "HTTP/1.1 403 No\r\ncontent-length: 5\r\n\r\n", ResponseBodyFraming::Length(5), true),
            (Method::GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", ResponseBodyFraming::Empty, true),
            (
                Method::GET,
                "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 1\r\n\r\n",
                ResponseBodyFraming::Length(1),
                false,
            ),
            (Method::GET, "HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n", ResponseBodyFraming::Length(1), false),
            (
                Method::GET,
                "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\n",
                ResponseBodyFraming::Length(1),
                true,
            ),
        ] {
            let read = parsed(method, head).unwrap().unwrap();
            assert_eq!((read.framing, read.keep_alive), (framing, keep_alive), "{head}");
            let lengths: Vec<_> = read.response.headers().get_all(CONTENT_LENGTH).iter().collect();
            assert!(lengths.len() <= 1, "{head}");
            assert!(framing != ResponseBodyFraming::Chunked || lengths.is_empty(), "{head}");
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
        let read = parse_response_head(&mut input, &Method::GET).unwrap().unwrap();
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
        let many: String = (0..=MAX_RESPONSE_FIELDS).map(|n| format!("x-{n}: 1\r\n")).collect();
        let large = "a".repeat(MAX_RESPONSE_HEAD_SIZE);
        for head in [format!("HTTP/1.1 200 OK\r\n{many}\r\n"), format!("HTTP/1.1 200 OK\r\nx: {large}")] {
            assert!(parsed(Method::GET, &head).is_err());
        }
    }
}
