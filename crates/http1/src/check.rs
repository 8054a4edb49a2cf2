//! The strict checks of a request head, which find the reason to reject it.

use rproxy_core::RejectedHead;
use rproxy_core::target::{self, Class, is_target_byte};

use crate::framing::RequestBodyFraming;
use crate::limits::HeadLimits;
use crate::syntax::{Lines, content_length, has_token, is_control, is_disguised_framing_field, is_tchar, trim_ows};

/// Returns the reason to reject an incomplete head, whose first `scanned` bytes have already been checked.
///
/// It also rejects data that cannot become a request, such as HTTP/0.9 or a TLS handshake.
pub(crate) fn check_incomplete(limits: &HeadLimits, head: &[u8], scanned: usize) -> Option<RejectedHead> {
    let line = head.strip_prefix(b"\r\n").unwrap_or(head);
    let skipped = head.len() - line.len();
    match memchr::memchr(b'\n', line) {
        Some(end) if skipped + end >= scanned => {
            let line = line[..end].strip_suffix(b"\r").ok_or(RejectedHead::Malformed);
            if let Err(rejected) = line.and_then(|line| RequestLine::parse(line, limits)) {
                return Some(rejected);
            }
        }
        Some(_) => {}
        None if line != b"\r" && line.first().is_some_and(|first| !is_tchar(first)) => {
            return Some(RejectedHead::Malformed);
        }
        // The same check as for the complete head, so that the limit does not depend on read boundaries.
        None if line.split(|&byte| byte == b' ').nth(1).is_some_and(|target| target.len() > limits.target) => {
            return Some(RejectedHead::TargetTooLong);
        }
        None => {}
    }
    // A CR without LF is never valid.
    let unchecked = &head[scanned.min(head.len())..];
    if memchr::memchr_iter(b'\r', unchecked).any(|at| unchecked.get(at + 1).is_some_and(|&next| next != b'\n')) {
        return Some(RejectedHead::Malformed);
    }
    (head.len() > limits.size).then_some(RejectedHead::TooLarge)
}

/// Returns the length of the complete head in `bytes`, or `None` if the head is incomplete.
///
/// The length includes the empty line at the end of the head.
///
/// One empty line before the request line is skipped (RFC 9112 §2.2). An empty line without CR also ends the head, so that
/// [`check_head`] can reject it.
pub(crate) fn head_end(bytes: &[u8], scanned: usize) -> Option<usize> {
    let mut at = scanned.max(if bytes.starts_with(b"\r\n") { 2 } else { 0 });
    while let Some(found) = memchr::memchr(b'\n', bytes.get(at..)?) {
        let line_end = at + found;
        match bytes.get(line_end + 1..)? {
            [b'\n', ..] => return Some(line_end + 2),
            [b'\r', b'\n', ..] => return Some(line_end + 3),
            _ => at = line_end + 1,
        }
    }
    None
}

/// The framing of a valid request head, and whether its target must be encoded.
#[derive(Debug)]
pub(crate) struct CheckedHead {
    pub(crate) framing: RequestBodyFraming,
    /// Whether the request target must be percent-encoded.
    pub(crate) needs_encoding: bool,
}

/// The version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// Determines the framing of a request from its complete head, or returns the reason to reject the head.
pub(crate) fn check_head(head: &[u8], limits: &HeadLimits) -> Result<CheckedHead, RejectedHead> {
    if head.len() > limits.size {
        return Err(RejectedHead::TooLarge);
    }
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    let mut lines = Lines(head);
    let request_line = lines.next().ok_or(RejectedHead::Malformed)??;
    let RequestLine { target, version } = RequestLine::parse(request_line, limits)?;
    let needs_encoding = match target::classify(target) {
        Class::Valid => false,
        Class::Encodable => true,
        Class::Malformed => return Err(RejectedHead::Malformed),
    };

    let (mut length, mut has_coding, mut is_understood, mut fields) = (None, false, true, 0usize);
    let (mut has_upgrade, mut is_upgrade_nominated, mut options) = (false, false, 0);
    for line in lines {
        let line = line?;
        let (name, value) = match line {
            [] => break,
            // RFC 9112 §5.1: no whitespace before the colon. This also rejects folded lines (§5.2).
            _ => match memchr::memchr(b':', line) {
                Some(colon) if colon > 0 && line[..colon].iter().all(is_tchar) => {
                    (&line[..colon], trim_ows(&line[colon + 1..]))
                }
                _ => return Err(RejectedHead::Malformed),
            },
        };
        // No early exit, so that the compiler can vectorise the loop.
        if value.iter().fold(false, |any, byte| any | is_control(byte)) {
            return Err(RejectedHead::Malformed);
        }
        fields += 1;
        if name.eq_ignore_ascii_case(b"content-length") {
            // A repeated field or a list is ambiguous, even if all values are equal.
            if length.is_some() {
                return Err(RejectedHead::Framing);
            }
            length = Some(content_length(value).ok_or(RejectedHead::Framing)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if has_coding || version == Version::Http10 {
                return Err(RejectedHead::Framing);
            }
            is_understood = is_chunked(value)?;
            has_coding = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            has_upgrade = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            is_upgrade_nominated |= has_token(value, b"upgrade");
            options += value.len();
        } else if name.eq_ignore_ascii_case(b"te") {
            options += value.len();
        } else if is_disguised_framing_field(name) {
            return Err(RejectedHead::Framing);
        }
    }
    if fields > limits.fields || options > MAX_OPTIONS {
        return Err(RejectedHead::TooLarge);
    }
    let framing = match (has_coding, length) {
        (true, Some(_)) => return Err(RejectedHead::Framing),
        // RFC 9112 §6.1
        (true, None) if !is_understood => return Err(RejectedHead::UnknownCoding),
        (true, None) => RequestBodyFraming::Chunked,
        (false, Some(length @ 1..)) => RequestBodyFraming::Length(length),
        // RFC 9110 §7.8: Upgrade is ignored if Connection does not nominate it, and in HTTP/1.0.
        (false, _) if has_upgrade && is_upgrade_nominated && version == Version::Http11 => RequestBodyFraming::Upgrade,
        (false, _) => RequestBodyFraming::None,
    };
    Ok(CheckedHead { framing, needs_encoding })
}

/// Returns whether `chunked` is the only transfer coding in the list. Returns an error if the list is invalid.
pub(crate) fn is_chunked(codings: &[u8]) -> Result<bool, RejectedHead> {
    let mut is_chunked = false;
    let mut members = 0usize;
    for coding in codings.split(|&byte| byte == b',').map(trim_ows) {
        // RFC 9112 §6.1, §6.3: chunked is applied only once, and last.
        if coding.is_empty() || !coding.iter().all(is_tchar) || is_chunked {
            return Err(RejectedHead::Framing);
        }
        is_chunked = coding.eq_ignore_ascii_case(b"chunked");
        members += 1;
    }
    Ok(is_chunked && members == 1)
}

/// Returns a head that [`check_head`] accepts without the empty line before it, and with a percent-encoded target.
pub(crate) fn normalise(head: &[u8], needs_encoding: bool) -> Vec<u8> {
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    if !needs_encoding {
        return head.to_vec();
    }
    let start = memchr::memchr(b' ', head).map_or(0, |at| at + 1);
    let end = start + memchr::memchr(b' ', &head[start..]).unwrap_or(0);
    [&head[..start], &target::percent_encode(&head[start..end]), &head[end..]].concat()
}

/// The maximum total length of all `Connection` and `TE` values, which are searched several times.
pub(crate) const MAX_OPTIONS: usize = 2048;

/// The target and the HTTP version in a request line.
struct RequestLine<'a> {
    target: &'a [u8],
    version: Version,
}

impl<'a> RequestLine<'a> {
    /// Parses a request line: method, target and version, separated by single spaces (RFC 9112 §3).
    fn parse(line: &'a [u8], limits: &HeadLimits) -> Result<Self, RejectedHead> {
        let method_end = memchr::memchr(b' ', line).ok_or(RejectedHead::Malformed)?;
        let version_start = memchr::memrchr(b' ', line).ok_or(RejectedHead::Malformed)? + 1;
        let target = line.get(method_end + 1..version_start - 1).ok_or(RejectedHead::Malformed)?;
        if target.len() > limits.target {
            return Err(RejectedHead::TargetTooLong);
        }
        let is_method = method_end > 0 && line[..method_end].iter().all(is_tchar);
        if !is_method || target.is_empty() || !target.iter().copied().all(is_target_byte) {
            return Err(RejectedHead::Malformed);
        }
        let version = match &line[version_start..] {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            _ => return Err(RejectedHead::Malformed),
        };
        Ok(Self { target, version })
    }
}
