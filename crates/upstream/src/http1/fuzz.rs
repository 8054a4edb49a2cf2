//! What the fuzzers call.

use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode};

use super::body::Decoder;
use super::head::{self, Framing};

/// However a response head comes in, it is read alike, and only when it is whole; its body is delimited in one way,
/// which its fields say, too.
pub fn response_head(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let method = if choice & 1 == 0 { Method::GET } else { Method::HEAD };
    let piece = usize::from(choice >> 1).max(1);
    let whole = read(bytes, bytes.len(), &method);
    assert_eq!(whole, read(bytes, piece, &method));
    let Some(Ok((status, headers, framing, _, _))) = whole else { return };

    let number = |length: &HeaderValue| length.to_str().ok()?.parse::<u64>().ok();
    let lengths: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().map(number).collect();
    let is_bodiless = method == Method::HEAD || matches!(status.as_u16(), 100..200 | 204 | 304);
    match framing {
        Framing::Empty => assert!(is_bodiless || lengths == [Some(0)]),
        Framing::Length(length) => assert_eq!(lengths, [Some(length)], "{headers:?}"),
        Framing::Chunked => {
            assert!(lengths.is_empty());
            assert_eq!(headers.get_all(TRANSFER_ENCODING).iter().count(), 1);
        }
        Framing::Close => assert!(lengths.is_empty() && !headers.contains_key(TRANSFER_ENCODING)),
    }
}

/// What was read of a head, and how long that is. `None`: it is not whole.
type Read = Option<Result<(StatusCode, HeaderMap, Framing, bool, usize), ()>>;

fn read(bytes: &[u8], piece: usize, method: &Method) -> Read {
    let mut input = BytesMut::new();
    for (number, part) in bytes.chunks(piece.max(1)).enumerate() {
        input.extend_from_slice(part);
        let have = number * piece + part.len();
        match head::read(&mut input, method) {
            Ok(None) => {}
            Ok(Some(read)) => {
                let (head, ()) = read.response.into_parts();
                return Some(Ok((head.status, head.headers, read.framing, read.keep_alive, have - input.len())));
            }
            Err(_) => return Some(Err(())),
        }
    }
    None
}

/// However a body comes in, it is the same body, and ends at the same place; and it is what a plain reading of the
/// chunks makes of it.
pub fn response_body(bytes: &[u8]) {
    let [choice, piece, bytes @ ..] = bytes else { return };
    let framing = match choice % 4 {
        0 | 1 => Framing::Chunked,
        2 => Framing::Length(u64::from(choice / 4)),
        _ => Framing::Close,
    };
    let whole = decode(framing, bytes, bytes.len());
    let cut = decode(framing, bytes, usize::from(*piece));
    assert_eq!(whole, cut, "{framing:?} in pieces of {piece}");
    if let (Framing::Chunked, Some((data, true, length))) = (framing, whole) {
        assert_eq!(plainly(bytes), Some((data, length)));
    }
}

/// The data, whether the body has ended, and how long it is with its framing; `None` for one that is not well-formed.
fn decode(framing: Framing, bytes: &[u8], piece: usize) -> Option<(Vec<u8>, bool, usize)> {
    let (mut decoder, mut input, mut data) = (Decoder::new(framing), BytesMut::new(), Vec::new());
    let mut have = 0;
    for part in bytes.chunks(piece.max(1)) {
        input.extend_from_slice(part);
        have += part.len();
        while let Some(frame) = decoder.decode(&mut input).ok()? {
            if let Ok(bytes) = frame.into_data() {
                data.extend_from_slice(&bytes);
            }
        }
        if decoder.has_ended() {
            break;
        }
    }
    // What is not whole is kept until it is; how much of it that is, is the decoder's business.
    let length = if decoder.has_ended() { have - input.len() } else { 0 };
    Some((data, decoder.has_ended(), length))
}

/// RFC 9112 §7.1, for bodies that are known to be well-formed and whole.
fn plainly(mut bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let all = bytes.len();
    let mut data = Vec::new();
    loop {
        let size = line(&mut bytes)?;
        let digits = size.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(size.len());
        let size = usize::from_str_radix(str::from_utf8(&size[..digits]).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        data.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
    }
    // RFC 9112 §2.2: here a line may end in LF alone.
    loop {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = bytes.split_at(end + 1);
        bytes = rest;
        if matches!(line, b"\n" | b"\r\n") {
            break;
        }
    }
    Some((data, all - bytes.len()))
}

fn line<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let all = *bytes;
    let end = all.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = all.split_at(end + 1);
    *bytes = rest;
    line.strip_suffix(b"\r\n")
}
