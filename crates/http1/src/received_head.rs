//! The head of a message as it was received, for the letter case of its field names.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use http::{Extensions, HeaderName, HeaderValue};

use crate::fields::put_field;
use crate::syntax::trim_ows;

/// A message extension: the head as it was received, with the letter case of its field names.
///
/// Field names are case-insensitive (RFC 9110 §5.1), but some old clients, devices and servers recognise only one
/// spelling. The parsers of this crate add the extension, and the writers write the fields of the message as they were
/// received.
///
/// The value of a received field is a part of the head, so its address leads to the received name. A field that was added,
/// renamed or got another value has its name in lower case.
#[derive(Clone)]
pub struct ReceivedHead(Bytes);

impl ReceivedHead {
    /// Creates the extension from the bytes of which the field values are slices.
    pub(crate) fn new(head: Bytes) -> Self {
        Self(head)
    }

    /// Returns the name of a field in the received letter case, unless the field was added or changed.
    pub(crate) fn name(&self, name: &HeaderName, value: &HeaderValue) -> Option<&[u8]> {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        let at = self.position(value)?;
        match self.line(at, name, value) {
            Some(line) => self.0.get(line.start..line.start + name.len()),
            None => self.name_in_other_line(at, name),
        }
    }

    /// Returns the position of a value that is a part of the head.
    #[inline]
    fn position(&self, value: &[u8]) -> Option<usize> {
        // Wraps for a value before the head, and is then larger than the head.
        let at = value.as_ptr().addr().wrapping_sub(self.0.as_ptr().addr());
        (at < self.0.len()).then_some(at)
    }

    /// Returns the position of the received line of a field, if it is as this crate would also write it.
    #[inline]
    fn line(&self, at: usize, name: &[u8], value: &[u8]) -> Option<Range<usize>> {
        let start = at.wrapping_sub(name.len() + COLON.len());
        let end = at + value.len() + LINE_END.len();
        // With the end of the line before.
        let (&before, line) = self.0.get(start.wrapping_sub(1)..end)?.split_first()?;
        let (received, rest) = line.split_at_checked(name.len())?;
        let is_line = before == b'\n' && rest.first_chunk() == Some(COLON) && rest.last_chunk() == Some(LINE_END);
        (is_line && is_same_name(received, name)).then_some(start..end)
    }

    /// Returns the received name of a field whose line has other whitespace or another line end.
    #[cold]
    fn name_in_other_line(&self, at: usize, name: &[u8]) -> Option<&[u8]> {
        let before = trim_ows(&self.0[..at]).strip_suffix(b":").map(trim_ows)?;
        let (before, received) = before.split_at_checked(before.len().checked_sub(name.len())?)?;
        (before.ends_with(b"\n") && is_same_name(received, name)).then_some(received)
    }
}

const COLON: &[u8; 2] = b": ";
const LINE_END: &[u8; 2] = b"\r\n";

/// Writes the fields of a message. Those that are as they were received have the received letter case of their name.
///
/// Adjacent lines of the received head are copied at once, which is faster than to write each field.
#[derive(Debug)]
pub struct FieldWriter<'o, 'h> {
    out: &'o mut Vec<u8>,
    head: Option<&'h ReceivedHead>,
    /// The lines of the head that are not written yet.
    lines: Range<usize>,
}

impl<'o, 'h> FieldWriter<'o, 'h> {
    /// Creates a writer for the fields of a message with these extensions.
    pub fn new(out: &'o mut Vec<u8>, extensions: &'h Extensions) -> Self {
        Self { out, head: extensions.get(), lines: 0..0 }
    }

    /// Returns the received name of a field, unless the field was added or changed.
    pub(crate) fn received_name(&self, name: &HeaderName, value: &HeaderValue) -> Option<&'h [u8]> {
        self.head?.name(name, value)
    }

    /// Writes a field, at the latest with [`finish`](Self::finish).
    #[inline]
    pub fn put(&mut self, name: &HeaderName, value: &HeaderValue) {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        let Some((head, at)) = self.head.and_then(|head| Some((head, head.position(value)?))) else {
            self.flush();
            return put_field(self.out, name, value);
        };
        match head.line(at, name, value) {
            // The run of lines goes on.
            Some(line) if line.start == self.lines.end => self.lines.end = line.end,
            Some(line) => {
                self.flush();
                self.lines = line;
            }
            None => {
                self.flush();
                put_field(self.out, head.name_in_other_line(at, name).unwrap_or(name), value);
            }
        }
    }

    /// Writes the fields that are not written yet.
    pub fn finish(mut self) {
        self.flush();
    }

    #[inline]
    fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        if let Some(lines) = self.head.and_then(|head| head.0.get(lines)) {
            self.out.extend_from_slice(lines);
        }
    }
}

/// Returns whether a received name is `name`, which is in lower case. Most names are compared as two words.
///
/// Both are tokens, whose bytes differ in the bit of the letter case only if they are the same letter, or `^` and `~`.
#[inline]
fn is_same_name(received: &[u8], name: &[u8]) -> bool {
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    let is_same_word = |one, other| (word(one) ^ word(other)) & u64::from_ne_bytes([CASE; 8]) == 0;
    let is_same_rest = |one: &[u8], other: &[u8]| one.iter().zip(other).all(|(one, other)| (one ^ other) & CASE == 0);
    if received.len() != name.len() {
        return false;
    }
    let (Some((received_start, received_rest)), Some((name_start, name_rest))) =
        (received.split_first_chunk(), name.split_first_chunk())
    else {
        return is_same_rest(received, name);
    };
    if !is_same_word(received_start, name_start) {
        return false;
    }
    match (received.last_chunk(), name.last_chunk()) {
        // The words cover the name; they may overlap.
        (Some(received_end), Some(name_end)) if name_rest.len() <= 8 => is_same_word(received_end, name_end),
        _ => is_same_rest(received_rest, name_rest),
    }
}

/// All bits but that of the letter case.
const CASE: u8 = !0x20;

impl fmt::Debug for ReceivedHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The head can contain credentials.
        write!(f, "ReceivedHead({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::is_tchar;
    use crate::{HeadLimits, RequestBodyFraming, RequestParser, parse_response_head, write_request_head};
    use crate::{ResponseContext, write_response_head, write_switching_protocols};
    use bytes::BytesMut;
    use http::{Method, Request, Response};

    fn request(head: &'static str) -> Request<()> {
        let head = RequestParser::new(HeadLimits::default()).parse(&Bytes::from_static(head.as_bytes()));
        let mut head = head.unwrap().unwrap();
        head.request.extensions_mut().insert(head.received);
        head.request
    }

    fn written(request: &Request<()>, framing: RequestBodyFraming) -> String {
        let mut out = Vec::new();
        write_request_head(&mut out, request, framing);
        String::from_utf8(out).unwrap()
    }

    fn response(head: &str) -> Response<()> {
        parse_response_head(&mut BytesMut::from(head), &Method::GET).unwrap().unwrap().response
    }

    #[test]
    fn names_are_the_same_only_if_they_differ_in_the_case_of_letters() {
        let tokens = (0..=0xff_u8).filter(is_tchar);
        let tokens: Vec<u8> = tokens.collect();
        for name in
            ["a", "te", "age", "host", "x-a-z", "cookie", "x-azaz-z", "accept-encoding", "x-forwarded-proto", "!#$%_`|"]
        {
            let name = name.as_bytes();
            for at in 0..name.len() {
                for &byte in &tokens {
                    let mut received = name.to_vec();
                    received[at] = byte;
                    let is_same = received.eq_ignore_ascii_case(name);
                    assert_eq!(
                        is_same_name(&received, name),
                        is_same,
                        "{} {}",
                        received.escape_ascii(),
                        name.escape_ascii()
                    );
                }
            }
            assert!(!is_same_name(&name[1..], name));
        }
    }

    #[test]
    fn request_has_the_received_field_names() {
        let head = "PUT / HTTP/1.1\r\nHost: a\r\nsec-ch-ua: b\r\nSOAPAction: c\r\nX-uPNP: d\r\nX-UPNP: e\r\n\
            Content-LENGTH: 5\r\n\r\n";
        assert_eq!(written(&request(head), RequestBodyFraming::Length(5)), head);
        assert_eq!(written(&request(head), RequestBodyFraming::Length(7)), head.replace("LENGTH: 5", "LENGTH: 7"));
        let chunked = head.replace("Content-LENGTH: 5", "transfer-encoding: chunked");
        assert_eq!(written(&request(head), RequestBodyFraming::Chunked), chunked);
    }

    #[test]
    fn names_keep_their_case_with_other_whitespace() {
        let head = "GET / HTTP/1.1\r\nHost:a\r\nX-One:  b\r\nX-Two:\tc \r\nX-Three: d\t\r\n\r\n";
        let expected = "GET / HTTP/1.1\r\nHost: a\r\nX-One: b\r\nX-Two: c\r\nX-Three: d\r\n\r\n";
        assert_eq!(written(&request(head), RequestBodyFraming::None), expected);
    }

    #[test]
    fn added_renamed_and_changed_fields_have_lower_case_names() {
        let mut request = request("GET / HTTP/1.1\r\nHost: a\r\nX-One: b\r\nX-Two: c\r\nX-Own: X-Two: d\r\n\r\n");
        let other = response("HTTP/1.1 200 OK\r\nX-Foreign: e\r\n\r\n").headers()["x-foreign"].clone();
        let headers = request.headers_mut();
        headers.insert("x-one", HeaderValue::from_static("b"));
        let (two, own) = (headers.remove("x-two").unwrap(), headers.remove("x-own").unwrap());
        headers.insert("x-renamed", two.clone());
        headers.insert("two", two);
        headers.insert("own", own);
        headers.insert("x-foreign", other);
        let expected = "GET / HTTP/1.1\r\nHost: a\r\nx-one: b\r\nx-renamed: c\r\ntwo: c\r\nown: X-Two: d\r\n\
            x-foreign: e\r\n\r\n";
        let mut lines: Vec<_> = expected.split("\r\n").collect();
        let text = written(&request, RequestBodyFraming::None);
        let mut written: Vec<_> = text.split("\r\n").collect();
        lines.sort_unstable();
        written.sort_unstable();
        assert_eq!(written, lines);
    }

    #[test]
    fn response_has_the_received_field_names() {
        let context = ResponseContext { is_head: false, keep_alive: true, takes_trailers: false, is_http10: false };
        for (received, expected) in [
            (
                "HTTP/1.1 200 OK\r\nETag: a\r\nDATE: b\r\nset-COOKIE: c\r\nSet-Cookie: d\r\nContent-length: 3\r\n\r\n",
                "HTTP/1.1 200 OK\r\nETag: a\r\nDATE: b\r\nset-COOKIE: c\r\nSet-Cookie: d\r\nContent-length: 3\r\n\r\n",
            ),
            // RFC 9112 §2.2, §5.1: other line ends, and whitespace before the colon.
            (
                "HTTP/1.1 200 OK\nETag : a\nDate: b\nContent-Length: 3\n\n",
                "HTTP/1.1 200 OK\r\nETag: a\r\nDate: b\r\nContent-Length: 3\r\n\r\n",
            ),
        ] {
            let mut out = Vec::new();
            let head = response(received).into_parts().0;
            write_response_head(&mut out, &head, context, &http_body::SizeHint::with_exact(3));
            assert_eq!(out.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
        }
    }

    #[test]
    fn switching_protocols_has_the_received_field_names() {
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\nDate: b\r\n\r\n";
        let mut out = Vec::new();
        write_switching_protocols(&mut out, &response(head).into_parts().0);
        assert_eq!(String::from_utf8(out).unwrap(), head);
    }
}
