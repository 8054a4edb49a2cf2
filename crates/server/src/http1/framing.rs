//! Where each message begins and ends, decided before hyper sees a byte.
//!
//! hyper reads a head that carries both `Content-Length` and `Transfer-Encoding` by the latter and
//! drops the former, so a service can't see that there was a choice, while another reader in the
//! chain may have chosen otherwise: that is request smuggling. This scanner follows the framing on
//! the raw bytes and refuses what has more than one reading (RFC 9112 §6.3, §11.2). It also refuses all that hyper's own
//! parser refuses: hyper answers that by itself, and the response is in no log and has no security headers.

use std::ops::Range;

use super::chunked::Chunked;
use super::request::has_token;
use super::syntax::{Lines, content_length, is_control, is_disguised, is_tchar, trim_ows};
use crate::RefusedHead;
use crate::target::{self, Class, is_target_byte};

/// The limits of a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    pub(crate) size: usize,
    pub(crate) target: usize,
    pub(crate) fields: usize,
}

/// Follows the messages of one connection.
#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    limits: HeadLimits,
    /// Bytes of an incomplete head that hold no line end that was not looked at.
    looked_at: usize,
    /// How many heads were complete so far.
    heads: u64,
    /// The version of the last complete head.
    version: Version,
}

#[derive(Debug)]
enum State {
    Head,
    Length(u64),
    Chunked(Chunked),
    /// After a head that asks for an upgrade: what follows has no meaning until the answer is known.
    Verdict,
    /// After a 101: not HTTP any more.
    Tunnel,
}

/// What a look at bytes found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// So many bytes from the front may be passed on; the rest is an incomplete head, the next message, or waits for a
    /// verdict.
    Pass(usize),
    /// So many bytes may be passed on; the target of the head after them is to be percent-encoded first.
    Encode(usize),
    /// So many bytes may be passed on; the head after them is refused.
    Refuse(usize, RefusedHead),
    /// So many bytes may be passed on; after them a body breaks its framing, and the connection
    /// can't be followed any further.
    Broken(usize),
}

impl Scanner {
    pub(crate) fn new(limits: HeadLimits) -> Self {
        Self { state: State::Head, limits, looked_at: 0, heads: 0, version: Version::Http11 }
    }

    /// Looks at `bytes`, which begin where the last call's `Pass` ended, up to the end of a message.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut at = 0;
        // Where the head of the message stands that is followed, if it is among these bytes.
        let mut head_at = None;
        while at < bytes.len() && !(at > 0 && self.is_at_head()) {
            let rest = &bytes[at..];
            match &mut self.state {
                State::Head => match head_end(rest, self.looked_at) {
                    Some(end) => {
                        self.looked_at = 0;
                        match judge(&rest[..end], &self.limits) {
                            Ok(head) if head.encodes => return Scan::Encode(at),
                            Ok(head) => (self.state, self.version) = (head.next, head.version),
                            Err(refused) => return Scan::Refuse(at, refused),
                        }
                        head_at = Some(at);
                        self.heads += 1;
                        at += end;
                    }
                    None => {
                        let looked_at = std::mem::replace(&mut self.looked_at, rest.len().saturating_sub(3));
                        return match self.limits.incomplete(rest, looked_at) {
                            Some(refused) => Scan::Refuse(at, refused),
                            None => Scan::Pass(at),
                        };
                    }
                },
                State::Length(left) => {
                    let taken = (*left).min(rest.len() as u64);
                    *left -= taken;
                    at += taken as usize;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                }
                State::Chunked(chunked) => match chunked.advance(rest) {
                    Ok((taken, done)) => {
                        at += taken;
                        if done {
                            self.state = State::Head;
                        }
                    }
                    Err(()) => match head_at {
                        // Nobody has seen anything of this message yet, and nobody needs to.
                        Some(head_at) => {
                            self.heads -= 1;
                            return Scan::Refuse(head_at, RefusedHead::Framing);
                        }
                        None => return Scan::Broken(at),
                    },
                },
                State::Verdict => break,
                State::Tunnel => return Scan::Pass(bytes.len()),
            }
        }
        Scan::Pass(at)
    }

    /// Looks at `bytes`, message after message.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn scan_all(&mut self, bytes: &[u8]) -> Scan {
        let mut at = 0;
        loop {
            let scan = self.scan(&bytes[at..]);
            let taken = match scan {
                Scan::Pass(passed) if passed > 0 && at + passed < bytes.len() => passed,
                Scan::Pass(passed) => return Scan::Pass(at + passed),
                Scan::Encode(passed) => return Scan::Encode(at + passed),
                Scan::Refuse(passed, refused) => return Scan::Refuse(at + passed, refused),
                Scan::Broken(passed) => return Scan::Broken(at + passed),
            };
            at += taken;
        }
    }

    /// How many heads have been passed on.
    pub(crate) fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the last complete head was one of HTTP/1.0.
    pub(crate) fn is_http10(&self) -> bool {
        self.version == Version::Http10
    }

    /// Whether the next byte belongs to a head.
    pub(crate) fn is_at_head(&self) -> bool {
        matches!(self.state, State::Head)
    }

    /// Whether the answer to an upgrade is waited for.
    pub(crate) fn awaits_verdict(&self) -> bool {
        matches!(self.state, State::Verdict)
    }

    /// Whether the connection is not HTTP any more.
    pub(crate) fn is_tunnel(&self) -> bool {
        matches!(self.state, State::Tunnel)
    }

    /// Forgets an incomplete head that was looked at.
    pub(crate) fn look_again(&mut self) {
        self.looked_at = 0;
    }

    /// Tells the answer to an upgrade.
    pub(crate) fn verdict(&mut self, switched: bool) {
        self.state = if switched { State::Tunnel } else { State::Head };
    }
}

impl HeadLimits {
    /// Whether a head that has come in part is refused already, its first `looked_at` bytes having passed.
    ///
    /// What is no request line will not become one: HTTP/0.9, a TLS handshake, another protocol.
    fn incomplete(&self, head: &[u8], looked_at: usize) -> Option<RefusedHead> {
        let line = head.strip_prefix(b"\r\n").unwrap_or(head);
        let skipped = head.len() - line.len();
        match memchr::memchr(b'\n', line) {
            Some(end) if skipped + end >= looked_at => {
                let line = line[..end].strip_suffix(b"\r").ok_or(RefusedHead::Malformed);
                if let Err(refused) = line.and_then(|line| RequestLine::new(line, self)) {
                    return Some(refused);
                }
            }
            Some(_) => {}
            None if line != b"\r" && line.first().is_some_and(|first| !is_tchar(first)) => {
                return Some(RefusedHead::Malformed);
            }
            // As the whole head will be judged, so that the limit is the same however it comes in.
            None if line.split(|&byte| byte == b' ').nth(1).is_some_and(|target| target.len() > self.target) => {
                return Some(RefusedHead::TargetTooLong);
            }
            None => {}
        }
        // Nor does a bare CR become a line end.
        let fresh = &head[looked_at.min(head.len())..];
        if memchr::memchr_iter(b'\r', fresh).any(|at| fresh.get(at + 1).is_some_and(|&next| next != b'\n')) {
            return Some(RefusedHead::Malformed);
        }
        (head.len() > self.size).then_some(RefusedHead::TooLarge)
    }
}

/// One past the empty line that ends the head at the front of `bytes`.
///
/// One empty line before a request line is skipped (RFC 9112 §2.2). An empty line is recognised
/// even where its line end lacks the CR, so that [`judge`] sees it and refuses.
fn head_end(bytes: &[u8], looked_at: usize) -> Option<usize> {
    let mut at = looked_at.max(if bytes.starts_with(b"\r\n") { 2 } else { 0 });
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

/// A complete head that is not refused.
struct Head {
    /// The body that follows it.
    next: State,
    version: Version,
    /// Whether its target is to be percent-encoded.
    encodes: bool,
}

/// Which body follows the complete head `head`, or why it is refused.
fn judge(head: &[u8], limits: &HeadLimits) -> Result<Head, RefusedHead> {
    if head.len() > limits.size {
        return Err(RefusedHead::TooLarge);
    }
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    let mut lines = Lines(head);
    let request_line = lines.next().ok_or(RefusedHead::Malformed)??;
    let RequestLine { target, version } = RequestLine::new(request_line, limits)?;
    let encodes = match target::classify(target) {
        Class::Valid => false,
        Class::Encodable => true,
        Class::Malformed => return Err(RefusedHead::Malformed),
    };

    let (mut length, mut chunked, mut understood, mut fields) = (None, false, true, 0usize);
    let (mut upgrade, mut nominated, mut options) = (false, false, 0);
    for line in lines {
        let line = line?;
        let (name, value) = match line {
            [] => break,
            // RFC 9112 §5.1: a name, and nothing between it and the colon. A line that is folded (§5.2) has none.
            _ => match memchr::memchr(b':', line) {
                Some(colon) if colon > 0 && line[..colon].iter().all(is_tchar) => {
                    (&line[..colon], trim_ows(&line[colon + 1..]))
                }
                _ => return Err(RefusedHead::Malformed),
            },
        };
        // To the end without a jump, for the compiler to look at many bytes at a time.
        if value.iter().fold(false, |any, byte| any | is_control(byte)) {
            return Err(RefusedHead::Malformed);
        }
        fields += 1;
        if name.eq_ignore_ascii_case(b"content-length") {
            // Repeated, or a list, even of equal values, is more than one length.
            if length.is_some() {
                return Err(RefusedHead::Framing);
            }
            length = Some(content_length(value).ok_or(RefusedHead::Framing)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || version == Version::Http10 {
                return Err(RefusedHead::Framing);
            }
            understood = is_chunked(value)?;
            chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            upgrade = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            nominated |= has_token(value, b"upgrade");
            options += value.len();
        } else if name.eq_ignore_ascii_case(b"te") {
            options += value.len();
        } else if is_disguised(name) {
            return Err(RefusedHead::Framing);
        }
    }
    if fields > limits.fields || options > MAX_OPTIONS {
        return Err(RefusedHead::TooLarge);
    }
    let next = match (chunked, length) {
        (true, Some(_)) => return Err(RefusedHead::Framing),
        // RFC 9112 §6.1
        (true, None) if !understood => return Err(RefusedHead::UnknownCoding),
        (true, None) => State::Chunked(Chunked::new()),
        (false, Some(length @ 1..)) => State::Length(length),
        // RFC 9110 §7.8: an Upgrade that Connection does not name is for nobody, and so is one in HTTP/1.0.
        (false, _) if upgrade && nominated && version == Version::Http11 => State::Verdict,
        (false, _) => State::Head,
    };
    Ok(Head { next, version, encodes })
}

/// Whether the transfer codings are `chunked` alone; if not, there are some that we do not understand.
fn is_chunked(codings: &[u8]) -> Result<bool, RefusedHead> {
    let mut chunked = false;
    let mut members = 0usize;
    for coding in codings.split(|&byte| byte == b',').map(trim_ows) {
        // RFC 9112 §6.1, §6.3: chunked is applied once, and last.
        if coding.is_empty() || !coding.iter().all(is_tchar) || chunked {
            return Err(RefusedHead::Framing);
        }
        chunked = coding.eq_ignore_ascii_case(b"chunked");
        members += 1;
    }
    Ok(chunked && members == 1)
}

/// The target of the head at the front of `bytes`, percent-encoded: where it stands, and what it is replaced by.
pub(super) fn encoded_target(bytes: &[u8]) -> Option<(Range<usize>, Vec<u8>)> {
    let start = memchr::memchr(b' ', bytes)? + 1;
    let end = start + memchr::memchr(b' ', &bytes[start..])?;
    Some((start..end, target::percent_encode(&bytes[start..end])))
}

/// Bytes of the lists in `Connection` and `TE` together, which several readers walk member by member.
pub(super) const MAX_OPTIONS: usize = 2048;

/// Where the first head of `bytes` ends, and what follows it, for fuzzing: if the head is whole and not refused.
#[cfg(any(test, fuzzing))]
pub(super) fn first_head(bytes: &[u8], limits: &HeadLimits) -> Option<(usize, Framed)> {
    let end = head_end(bytes, 0)?;
    let framed = match judge(&bytes[..end], limits).ok()?.next {
        State::Length(length) => Framed::Length(length),
        State::Chunked(_) => Framed::Chunked,
        State::Head | State::Verdict | State::Tunnel => Framed::Length(0),
    };
    Some((end, framed))
}

/// How the body after a head is delimited.
#[cfg(any(test, fuzzing))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framed {
    Length(u64),
    Chunked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// A request line, as far as it is judged here.
struct RequestLine<'a> {
    target: &'a [u8],
    version: Version,
}

impl<'a> RequestLine<'a> {
    /// RFC 9112 §3: method SP target SP version, with nothing else between.
    fn new(line: &'a [u8], limits: &HeadLimits) -> Result<Self, RefusedHead> {
        let method_end = memchr::memchr(b' ', line).ok_or(RefusedHead::Malformed)?;
        let version_start = memchr::memrchr(b' ', line).ok_or(RefusedHead::Malformed)? + 1;
        let target = line.get(method_end + 1..version_start - 1).ok_or(RefusedHead::Malformed)?;
        if target.len() > limits.target {
            return Err(RefusedHead::TargetTooLong);
        }
        let is_method = method_end > 0 && line[..method_end].iter().all(is_tchar);
        if !is_method || target.is_empty() || !target.iter().copied().all(is_target_byte) {
            return Err(RefusedHead::Malformed);
        }
        let version = match &line[version_start..] {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            _ => return Err(RefusedHead::Malformed),
        };
        Ok(Self { target, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits { size: 1024, target: 256, fields: 20 };

    fn scan(bytes: &[u8]) -> Scan {
        Scanner::new(LIMITS).scan_all(bytes)
    }

    #[test]
    fn one_reading_passes() {
        for message in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length:\t 0 \r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nt: v\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\ncontent-length: 1\r\n\r\nxGET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Type: a\r\nCookie: \xff\r\nTe: trailers\r\n\r\n",
        ] {
            assert_eq!(scan(message), Scan::Pass(message.len()), "{}", message.escape_ascii());
        }
    }

    #[test]
    fn more_than_one_reading_is_refused() {
        // Each line: the fields of a POST, RFC 9112 §6.
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: -1",
            "Content-Length: 0x5",
            "Content-Length: 5 5",
            "Content-Length:",
            "Content-Length: 18446744073709551616",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: gzip, chunked\r\nContent-Length: 5",
            "Transfer-Encoding: gzip;q=1, chunked",
            "Transfer-Encoding: gzip,, chunked",
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding:",
            "Transfer_Encoding: chunked",
            "content.length: 5",
        ] {
            let message = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
            assert_eq!(scan(message.as_bytes()), Scan::Refuse(0, RefusedHead::Framing), "{fields}");
        }
        let http10 = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(scan(http10), Scan::Refuse(0, RefusedHead::Framing));
    }

    // RFC 9112 §6.1
    #[test]
    fn unknown_transfer_codings_are_told_apart() {
        for coding in ["gzip, chunked", "gzip", "identity, Chunked", "xchunked", "a, b"] {
            let message = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n");
            assert_eq!(scan(message.as_bytes()), Scan::Refuse(0, RefusedHead::UnknownCoding), "{coding}");
        }
    }

    #[test]
    fn messages_are_scanned_one_by_one() {
        let bytes = b"GET /a HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 1\r\n\r\nxGET /c";
        let mut scanner = Scanner::new(LIMITS);
        assert_eq!(scanner.scan(bytes), Scan::Pass(19));
        assert_eq!(scanner.scan(&bytes[19..]), Scan::Pass(40));
        assert_eq!(scanner.scan(&bytes[59..]), Scan::Pass(0));
        assert_eq!(scanner.heads(), 2);
    }

    #[test]
    fn a_target_is_encoded_in_its_head() {
        let head = b"\r\nGET /<a>?\"\xff HTTP/1.1\r\nX: <\r\n\r\n";
        assert_eq!(scan(head), Scan::Encode(0));
        let (range, encoded) = encoded_target(head).unwrap();
        let encoded = [&head[..range.start], &encoded, &head[range.end..]].concat();
        assert_eq!(encoded.escape_ascii().to_string(), r"\r\nGET /%3Ca%3E?%22%FF HTTP/1.1\r\nX: <\r\n\r\n");
        assert_eq!(scan(&encoded), Scan::Pass(encoded.len()));
    }

    #[test]
    fn malformed_heads_are_refused() {
        for head in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\r\nHost: a\rTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n",
            "GET /\r\n\r\n",
            "GET\r\n\r\n",
            "GET  HTTP/1.1\r\n\r\n",
            "GET / a HTTP/1.1\r\n\r\n",
            "GET /\t HTTP/1.1\r\n\r\n",
            "GET /a#b HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.2\r\n\r\n",
            "GET / http/1.1\r\n\r\n",
            " GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length\r\n\r\n",
            "GET / HTTP/1.1\r\nA\r\n\r\n",
            "GET / HTTP/1.1\r\n: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nA B: a\r\n\r\n",
            "GET / HTTP/1.1\r\nA: \x0ba\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: \x0cchunked\r\n\r\n",
            "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
            // Before the head is whole.
            "GET /\r\n",
            "GET / HTTP/1.1\n",
            "GET / HTTP/1.2\r\nHost: a\r\n",
            "\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\rb",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n",
            "\x16\x03\x01\x02",
            "\r\n\0",
        ] {
            assert_eq!(scan(head.as_bytes()), Scan::Refuse(0, RefusedHead::Malformed), "{head:?}");
        }
    }

    #[test]
    fn large_heads_are_refused_before_they_end() {
        let long = "a".repeat(2000);
        assert_eq!(scan(format!("GET /{long}").as_bytes()), Scan::Refuse(0, RefusedHead::TargetTooLong));
        let long_target = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(300));
        assert_eq!(scan(long_target.as_bytes()), Scan::Refuse(0, RefusedHead::TargetTooLong));
        assert_eq!(scan(format!("GET / HTTP/1.1\r\nA: {long}").as_bytes()), Scan::Refuse(0, RefusedHead::TooLarge));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(21));
        assert_eq!(scan(many.as_bytes()), Scan::Refuse(0, RefusedHead::TooLarge));
    }

    #[test]
    fn long_lists_of_connection_options_are_rejected() {
        let limits = HeadLimits { size: 1 << 16, target: 64, fields: 20 };
        for (name, bytes, is_rejected) in [
            ("Connection", MAX_OPTIONS, false),
            ("Connection", MAX_OPTIONS + 1, true),
            ("te", MAX_OPTIONS + 1, true),
            ("Accept", 30_000, false),
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: {}\r\n\r\n", "a".repeat(bytes));
            let judged = judge(head.as_bytes(), &limits).err();
            assert_eq!(judged, is_rejected.then_some(RefusedHead::TooLarge), "{name}, {bytes} bytes");
        }
        let two = "a".repeat(MAX_OPTIONS / 2 + 1);
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {two}\r\nConnection: {two}\r\n\r\n");
        assert_eq!(judge(head.as_bytes(), &limits).err(), Some(RefusedHead::TooLarge));
    }

    #[test]
    fn what_follows_an_upgrade_waits_for_the_verdict() {
        let handshake = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let bytes = [&handshake[..], b"GET /smuggled HTTP/1.1\r\n\r\n"].concat();
        let mut scanner = Scanner::new(LIMITS);
        assert_eq!(scanner.scan(&bytes), Scan::Pass(handshake.len()));
        assert!(scanner.awaits_verdict());
        assert_eq!(scanner.scan(b"GET"), Scan::Pass(0));
        scanner.verdict(true);
        assert_eq!(scanner.scan(b"\x81\x00"), Scan::Pass(2));
    }

    #[test]
    fn a_broken_chunk_breaks_the_connection() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut scanner = Scanner::new(LIMITS);
        assert_eq!(scanner.scan(head.as_bytes()), Scan::Pass(head.len()));
        assert_eq!(scanner.scan(b"zz\r\n"), Scan::Broken(0));
        // Where all of it is there, nothing of it is passed on.
        let first = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut scanner = Scanner::new(LIMITS);
        let bytes = format!("{first}{head}1\r\na\r\nzz\r\n");
        assert_eq!(scanner.scan_all(bytes.as_bytes()), Scan::Refuse(first.len(), RefusedHead::Framing));
        assert_eq!(scanner.heads(), 1);
    }

    proptest! {
        /// However the bytes are cut, the same messages are found.
        #[test]
        fn cuts_do_not_matter(cuts in proptest::collection::vec(1usize..40, 0..40)) {
            let bytes = b"\r\nPOST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10;x\r\n0123456789abcdef\r\n0\r\nA: b\r\n\r\n\
                POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nGET / HTTP/1GET /c HTTP/1.1\r\nHost: a\r\n\r\n";
            let mut scanner = Scanner::new(LIMITS);
            let (mut start, mut end) = (0, 0);
            for cut in cuts.into_iter().chain([bytes.len()]) {
                end = (end + cut).min(bytes.len());
                match scanner.scan_all(&bytes[start..end]) {
                    Scan::Pass(passed) => start += passed,
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            prop_assert_eq!(start, bytes.len());
            prop_assert_eq!(scanner.heads(), 3);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = scan(&bytes);
        }
    }
}
