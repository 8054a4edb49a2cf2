//! The fuzz targets of the HTTP/1.1 parsers.

use bytes::Bytes;

use super::framing::{BodyFraming, HeadLimits, first_head};
use super::request_head;
use super::scanner::{Scan, Scanner};

const LIMITS: HeadLimits = HeadLimits { size: 2048, target: 256, fields: 24 };

/// Checks that read boundaries do not change the scanned messages, and that httparse finds the same framing.
pub fn framing(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let whole = scan_in_pieces(bytes, bytes.len());
    let split = scan_in_pieces(bytes, usize::from(*piece).max(1));
    assert_eq!(whole, split, "splitting the input into chunks of {piece} bytes changes the scanned messages");

    let Some((end, body)) = first_head(bytes, &LIMITS) else { return };
    let body = if body == BodyFraming::Upgrade { BodyFraming::None } else { body };
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let mut other = httparse::Request::new(&mut lines);
    // hyper rejects a head that httparse rejects.
    let Ok(httparse::Status::Complete(length)) = other.parse(bytes) else { return };
    assert_eq!(length, end);
    let lines = |name: &str| {
        let lines = other.headers.iter().filter(move |line| line.name.eq_ignore_ascii_case(name));
        lines.map(|line| line.value).collect::<Vec<_>>()
    };
    match (&lines("content-length")[..], &lines("transfer-encoding")[..]) {
        ([], []) => assert_eq!(body, BodyFraming::None),
        ([length], []) => {
            let length = str::from_utf8(length).ok().and_then(|length| length.parse().ok());
            let expected =
                length.map(|length| if length == 0 { BodyFraming::None } else { BodyFraming::Length(length) });
            assert_eq!(expected, Some(body));
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => assert_eq!(body, BodyFraming::Chunked),
        other => panic!("the scanner accepted the framing {body:?} for the invalid framing fields {other:?}"),
    }
}

/// Returns the number of complete heads in `bytes`, and the number of bytes that may be forwarded.
///
/// The number of bytes is `None` for an invalid message, because the part of it that is forwarded depends on read
/// boundaries.
fn scan_in_pieces(bytes: &[u8], piece: usize) -> (u64, Option<usize>) {
    let mut scanner = Scanner::new(LIMITS);
    let (mut start, mut end) = (0, 0);
    while end < bytes.len() {
        end = end.saturating_add(piece).min(bytes.len());
        match scanner.scan_all(&bytes[start..end]) {
            Scan::Pass(passed) => start += passed,
            Scan::Encode(_) | Scan::Reject(..) => return (scanner.heads(), None),
            // The head of the invalid message may have been counted.
            Scan::Broken(_) => return (scanner.heads().saturating_sub(1), None),
        }
    }
    (scanner.heads(), Some(start))
}

/// Checks that the scanner accepts every request head accepted by the fast path, and finds no body after it.
pub fn request_head(bytes: &[u8]) {
    let shared = Bytes::copy_from_slice(bytes);
    let Some(plain) = request_head::parse(&shared, &LIMITS) else { return };
    assert!(plain.length <= bytes.len());
    let mut scanner = Scanner::new(LIMITS);
    assert_eq!(scanner.scan(&bytes[..plain.length]), Scan::Pass(plain.length));
    assert!(scanner.heads() == 1 && scanner.is_at_head());
    let head = &bytes[..plain.length];
    assert!(head.starts_with(plain.request.method().as_str().as_bytes()));
    assert!(!plain.request.headers().contains_key("content-length"));
    assert!(!plain.request.headers().contains_key("transfer-encoding"));
}
