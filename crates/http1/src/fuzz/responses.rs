//! The fuzz targets of the parsers of responses.

use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::response::Parts;
use http::{Method, StatusCode};

use crate::{BodyDecoder, ReceivedHead, ResponseBodyFraming, parse_response_head};

/// Asserts that a split response head is parsed like an unsplit one and has consistent framing.
pub fn response_head(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let method = if choice & 1 == 0 { Method::GET } else { Method::HEAD };
    let piece = usize::from(choice >> 1).max(1);
    let complete = read(bytes, bytes.len(), &method);
    assert_eq!(complete, read(bytes, piece, &method));
    let Some(Ok((status, headers, framing, _, _))) = complete else { return };

    let number = |length: &HeaderValue| length.to_str().ok()?.parse::<u64>().ok();
    let lengths: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().map(number).collect();
    let is_bodiless = method == Method::HEAD || matches!(status.as_u16(), 100..200 | 204 | 304);
    match framing {
        ResponseBodyFraming::Empty => assert!(is_bodiless),
        ResponseBodyFraming::Length(length) => assert_eq!(lengths, [Some(length)], "{headers:?}"),
        ResponseBodyFraming::Chunked => {
            assert!(lengths.is_empty());
            assert_eq!(headers.get_all(TRANSFER_ENCODING).iter().count(), 1);
        }
        ResponseBodyFraming::Close => assert!(lengths.is_empty() && !headers.contains_key(TRANSFER_ENCODING)),
    }
}

/// The result of parsing a response head, with the length of the head. `None` means that the head is incomplete.
type Read = Option<Result<(StatusCode, HeaderMap, ResponseBodyFraming, bool, usize), ()>>;

/// Parses a response head that arrives in segments of `piece` bytes.
fn read(bytes: &[u8], piece: usize, method: &Method) -> Read {
    let mut input = BytesMut::new();
    for (number, part) in bytes.chunks(piece.max(1)).enumerate() {
        input.extend_from_slice(part);
        let received = number * piece + part.len();
        match parse_response_head(&mut input, method) {
            Ok(None) => {}
            Ok(Some(read)) => {
                let (head, ()) = read.response.into_parts();
                assert_names_are_received(&head);
                return Some(Ok((head.status, head.headers, read.framing, read.keep_alive, received - input.len())));
            }
            Err(_) => return Some(Err(())),
        }
    }
    None
}

/// Asserts that each field with a value has its received name. A merged `Content-Length` is not a received field.
fn assert_names_are_received(head: &Parts) {
    let Some(received) = head.extensions.get::<ReceivedHead>() else { panic!("no received head") };
    let fields = head.headers.iter().filter(|(name, value)| **name != CONTENT_LENGTH && !value.is_empty());
    for (name, value) in fields {
        let found = received.name(name, value).map(<[u8]>::to_ascii_lowercase);
        assert_eq!(found.as_deref(), Some(name.as_str().as_bytes()));
    }
}

/// Asserts that a split body is decoded like an unsplit one, and as a reference decoder does.
pub fn response_body(bytes: &[u8]) {
    let [choice, piece, bytes @ ..] = bytes else { return };
    let framing = match choice % 4 {
        0 | 1 => ResponseBodyFraming::Chunked,
        2 => ResponseBodyFraming::Length(u64::from(choice / 4)),
        _ => ResponseBodyFraming::Close,
    };
    let complete = decode(framing, bytes, bytes.len());
    let in_segments = decode(framing, bytes, usize::from(*piece));
    assert_eq!(complete, in_segments, "a body with framing {framing:?} in segments of {piece} bytes");
    if let (ResponseBodyFraming::Chunked, Some((data, true, length))) = (framing, complete) {
        assert_eq!(decode_chunked(bytes), Some((data, length)));
    }
}

/// Decodes a body in segments, and returns its data, whether it has ended, and its encoded length. Returns `None` for a
/// malformed body.
fn decode(framing: ResponseBodyFraming, bytes: &[u8], piece: usize) -> Option<(Vec<u8>, bool, usize)> {
    let (mut decoder, mut input, mut data) = (BodyDecoder::for_response(framing), BytesMut::new(), Vec::new());
    let mut received = 0;
    for part in bytes.chunks(piece.max(1)) {
        input.extend_from_slice(part);
        received += part.len();
        while let Some(frame) = decoder.decode(&mut input).ok()? {
            if let Ok(bytes) = frame.into_data() {
                data.extend_from_slice(&bytes);
            }
        }
        if decoder.has_ended() {
            break;
        }
    }
    // Before its end, the decoder may buffer any part of the body.
    let length = if decoder.has_ended() { received - input.len() } else { 0 };
    Some((data, decoder.has_ended(), length))
}

/// Decodes a complete and well-formed chunked body (RFC 9112 §7.1), as a reference.
fn decode_chunked(mut bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
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
    // RFC 9112 §2.2: a line of the trailer section may end with LF only.
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

/// Takes a line that ends with CRLF from the input.
fn line<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let all = *bytes;
    let end = all.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = all.split_at(end + 1);
    *bytes = rest;
    line.strip_suffix(b"\r\n")
}
