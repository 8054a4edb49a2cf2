//! What the fuzzers call.

use bytes::Bytes;

use super::framing::{Framed, HeadLimits, Scan, Scanner, first_head};
use super::request;

const LIMITS: HeadLimits = HeadLimits { size: 2048, target: 256, fields: 24 };

/// However the bytes of a connection come in, the same messages are found in them; and another parser sees the first
/// head end at the same place, with the same body after it.
pub fn framing(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let whole = follow(bytes, bytes.len());
    let cut = follow(bytes, usize::from(*piece).max(1));
    assert_eq!(whole, cut, "in pieces of {piece}");

    let Some((end, framed)) = first_head(bytes, &LIMITS) else { return };
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let mut other = httparse::Request::new(&mut lines);
    // What it refuses, hyper refuses.
    let Ok(httparse::Status::Complete(length)) = other.parse(bytes) else { return };
    assert_eq!(length, end);
    let lines = |name: &str| {
        let lines = other.headers.iter().filter(move |line| line.name.eq_ignore_ascii_case(name));
        lines.map(|line| line.value).collect::<Vec<_>>()
    };
    match (&lines("content-length")[..], &lines("transfer-encoding")[..]) {
        ([], []) => assert_eq!(framed, Framed::Length(0)),
        ([length], []) => {
            let length = str::from_utf8(length).ok().and_then(|length| length.parse().ok());
            assert_eq!(length.map(Framed::Length), Some(framed));
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => assert_eq!(framed, Framed::Chunked),
        other => panic!("{framed:?} for {other:?}"),
    }
}

/// With how many heads how many of the bytes may be passed on; `None` where they go wrong, before which more or less of a
/// body may have been passed on already.
fn follow(bytes: &[u8], piece: usize) -> (u64, Option<usize>) {
    let mut scanner = Scanner::new(LIMITS);
    let (mut start, mut end) = (0, 0);
    while end < bytes.len() {
        end = end.saturating_add(piece).min(bytes.len());
        match scanner.scan_all(&bytes[start..end]) {
            Scan::Pass(passed) => start += passed,
            Scan::Encode(_) | Scan::Refuse(..) => return (scanner.heads(), None),
            // The head of the message that goes wrong may have gone ahead.
            Scan::Broken(_) => return (scanner.heads().saturating_sub(1), None),
        }
    }
    (scanner.heads(), Some(start))
}

/// What the short way takes for a request, the scanner takes for the same, without a body.
pub fn request_head(bytes: &[u8]) {
    let shared = Bytes::copy_from_slice(bytes);
    let Some(plain) = request::read(&shared, &LIMITS) else { return };
    assert!(plain.length <= bytes.len());
    let mut scanner = Scanner::new(LIMITS);
    assert_eq!(scanner.scan(&bytes[..plain.length]), Scan::Pass(plain.length));
    assert!(scanner.heads() == 1 && scanner.is_at_head());
    let head = &bytes[..plain.length];
    assert!(head.starts_with(plain.request.method().as_str().as_bytes()));
    assert!(!plain.request.headers().contains_key("content-length"));
    assert!(!plain.request.headers().contains_key("transfer-encoding"));
}
