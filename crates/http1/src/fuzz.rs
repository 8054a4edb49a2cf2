//! The fuzz targets of the parsers. Each function takes any bytes and panics if an invariant is violated.

use bytes::{Bytes, BytesMut};

use crate::{BodyDecoder, HeadLimits, RequestBodyFraming, RequestHead, RequestParser};

const LIMITS: HeadLimits = HeadLimits { size: 2048, target: 256, fields: 24 };

/// Checks that read boundaries do not change the parsed requests, and that httparse finds the same framing.
pub fn requests(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let whole = read(bytes, bytes.len().max(1));
    let split = read(bytes, usize::from(*piece).max(1));
    assert_eq!(whole, split, "pieces of {piece} bytes change the parsed requests");
    if let Ok(Some(head)) = RequestParser::new(LIMITS).parse(&Bytes::copy_from_slice(bytes)) {
        compare_with_httparse(bytes, &head);
    }
}

fn compare_with_httparse(bytes: &[u8], head: &RequestHead) {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut other = httparse::Request::new(&mut fields);
    // httparse rejects targets that are not UTF-8.
    let Ok(httparse::Status::Complete(length)) = other.parse(bytes) else { return };
    assert_eq!(length, head.length);
    let values = |name: &str| {
        let fields = other.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| field.value).collect::<Vec<_>>()
    };
    match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([], []) => {}
        ([length], []) => match str::from_utf8(length).ok().and_then(|length| length.parse().ok()) {
            Some(0) => {}
            length => assert_eq!(length.map(RequestBodyFraming::Length), Some(head.framing)),
        },
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => {
            assert_eq!(head.framing, RequestBodyFraming::Chunked);
        }
        other => panic!("accepted the framing {:?} for the invalid framing fields {other:?}", head.framing),
    }
}

/// What a server reads from a connection: each target with its content, and whether an invalid message ended it.
type Read = (Vec<(String, Vec<u8>)>, bool);

/// Reads all requests from `bytes`, which arrive in pieces.
fn read(bytes: &[u8], piece: usize) -> Read {
    let mut requests: Vec<(String, Vec<u8>)> = Vec::new();
    let mut parser = RequestParser::new(LIMITS);
    let mut body = BodyDecoder::for_request(RequestBodyFraming::None);
    let mut input = BytesMut::new();
    let mut is_checking = false;
    for piece in bytes.chunks(piece) {
        input.extend_from_slice(piece);
        loop {
            if !body.has_ended() {
                match body.decode(&mut input) {
                    Ok(Some(frame)) => {
                        if let (Ok(data), Some((_, content))) = (frame.into_data(), requests.last_mut()) {
                            content.extend_from_slice(&data);
                        }
                        continue;
                    }
                    Ok(None) if body.has_ended() => continue,
                    Ok(None) => break,
                    Err(_) => return (requests, true),
                }
            }
            if input.is_empty() {
                break;
            }
            if is_checking {
                match parser.check(&input) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return (requests, true),
                }
            }
            match parser.parse(&input.clone().freeze()) {
                Ok(Some(head)) => {
                    is_checking = false;
                    let _ = input.split_to(head.length);
                    requests.push((head.request.uri().to_string(), Vec::new()));
                    body = BodyDecoder::for_request(head.framing);
                }
                Ok(None) => {
                    is_checking = true;
                    break;
                }
                Err(_) => return (requests, true),
            }
        }
    }
    (requests, false)
}

/// Checks that the parser accepts a head only if the strict checks do, with the same framing, and the reverse.
pub fn request_head(bytes: &[u8]) {
    let Some(end) = crate::check::head_end(bytes, 0) else { return };
    let checked = crate::check::check_head(&bytes[..end], &LIMITS);
    match RequestParser::new(LIMITS).parse(&Bytes::copy_from_slice(bytes)) {
        Ok(Some(head)) => {
            assert_eq!(head.length, end);
            assert_eq!(checked.map(|checked| checked.framing), Ok(head.framing));
            let headers = head.request.headers();
            assert!(!(headers.contains_key("content-length") && headers.contains_key("transfer-encoding")));
        }
        Ok(None) => panic!("the head is complete"),
        // What `http` can't represent, such as a method of unusual length, is also rejected.
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    const CRATE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn requests_fuzz_target_passes_on_the_mutated_corpus() {
        run(CRATE, "requests", requests);
    }

    #[test]
    fn request_head_fuzz_target_passes_on_the_mutated_corpus() {
        run(CRATE, "request_head", request_head);
    }
}
