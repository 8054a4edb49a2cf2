//! The syntax of an HTTP/1.1 head: lines, field names and field values.

use rproxy_core::RejectedHead;

/// Returns whether the name is that of a framing field with another character in place of the hyphen.
///
/// CGI, WSGI and similar interfaces map `Content_Length` and `Content-Length` to the same variable, so that a backend
/// could use such a field for framing.
pub fn is_disguised_framing_field(name: &[u8]) -> bool {
    const FRAMING: [&[u8]; 2] = [b"content-length", b"transfer-encoding"];
    let same = |(byte, framing): (&u8, &u8)| match framing {
        b'-' => !byte.is_ascii_alphanumeric(),
        letter => byte.eq_ignore_ascii_case(letter),
    };
    let is_like = |framing: &&[u8]| name.len() == framing.len() && name.iter().zip(*framing).all(same);
    FRAMING.iter().any(|framing| is_like(framing) && !name.eq_ignore_ascii_case(framing))
}

/// Returns whether a byte is allowed in a token (RFC 9110 §5.6.2).
pub(crate) fn is_tchar(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// Returns whether a byte is a control character that is invalid in a field value (RFC 9110 §5.5).
pub(crate) fn is_control(byte: &u8) -> bool {
    matches!(byte, 0..=0x08 | 0x0a..=0x1f | 0x7f)
}

/// Removes optional whitespace, which is only spaces and tabs (RFC 9110 §5.6.3).
pub(crate) fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Parses a `Content-Length` value, which consists of digits only (RFC 9110 §8.6).
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Returns whether a comma-separated list contains the token, ignoring case (RFC 9110 §5.6.1).
pub fn has_token(list: &[u8], token: &[u8]) -> bool {
    let mut members = list.split(|&byte| byte == b',').take(MAX_MEMBERS);
    members.any(|member| member.trim_ascii().eq_ignore_ascii_case(token))
}

/// The maximum number of list members that are compared with a token, to limit the work per field.
const MAX_MEMBERS: usize = 64;

/// An iterator over the lines of a head, without their line ends. A bare LF, a bare CR or a NUL is an error.
pub(crate) struct Lines<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], RejectedHead>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr::memchr(b'\n', self.0)?;
        let (line, rest) = self.0.split_at(end + 1);
        self.0 = rest;
        let line = match line {
            [line @ .., b'\r', b'\n'] => line,
            _ => return Some(Err(RejectedHead::Malformed)),
        };
        Some(match memchr::memchr2(b'\r', 0, line) {
            Some(_) => Err(RejectedHead::Malformed),
            None => Ok(line),
        })
    }
}
