//! The pieces of a head: lines, names, values.

use crate::RefusedHead;

/// Whether the field `name` is one of those that frame, but for what stands for the hyphen: CGI, WSGI and many more turn
/// both into the same variable, and so take for framing what nobody here has taken for it.
pub(crate) fn is_disguised(name: &[u8]) -> bool {
    const FRAMING: [&[u8]; 2] = [b"content-length", b"transfer-encoding"];
    let same = |(byte, framing): (&u8, &u8)| match framing {
        b'-' => !byte.is_ascii_alphanumeric(),
        letter => byte.eq_ignore_ascii_case(letter),
    };
    let is_like = |framing: &&[u8]| name.len() == framing.len() && name.iter().zip(*framing).all(same);
    FRAMING.iter().any(|framing| is_like(framing) && !name.eq_ignore_ascii_case(framing))
}

/// RFC 9110 §5.6.2
pub(super) fn is_tchar(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// RFC 9110 §5.5
pub(super) fn is_control(byte: &u8) -> bool {
    matches!(byte, 0..=0x08 | 0x0a..=0x1f | 0x7f)
}

/// RFC 9110 §5.6.3: only these two are white space.
pub(super) fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 9110 §8.6: digits alone.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The lines of a head, without their CRLF; a bare LF, a bare CR or a NUL is an error.
pub(super) struct Lines<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], RefusedHead>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr::memchr(b'\n', self.0)?;
        let (line, rest) = self.0.split_at(end + 1);
        self.0 = rest;
        let line = match line {
            [line @ .., b'\r', b'\n'] => line,
            _ => return Some(Err(RefusedHead::Malformed)),
        };
        Some(match memchr::memchr2(b'\r', 0, line) {
            Some(_) => Err(RefusedHead::Malformed),
            None => Ok(line),
        })
    }
}
