//! The fuzz targets of the parsers. Each function takes any bytes and panics if an invariant is violated.

mod responses;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, HeaderMap, TE, UPGRADE};
use http::{Method, Request};

pub use self::responses::{response_body, response_head};
use crate::{
    BodyDecoder, BodyEncoder, HeadLimits, ReceivedHead, RequestBodyFraming, RequestHead, RequestParser,
    write_request_head,
};

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

/// The requests that a server reads from a connection: each target with its content, and whether an invalid message ended it.
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
        // What `http` cannot represent, such as a method of unusual length, is also rejected.
        Err(_) => {}
    }
}

/// Checks that a server parses a request that was forwarded by a client to the same request.
pub fn forwarded_request(bytes: &[u8]) {
    let Some(message) = parse_message(bytes, LIMITS) else { return };
    let Message { mut request, content, trailers, has_content, .. } = message;
    // A proxy removes them. `Upgrade` without `Connection` would be ignored.
    request.headers_mut().remove(CONNECTION);
    request.headers_mut().remove(UPGRADE);
    let options: usize = request.headers().get_all(TE).iter().map(|value| value.len() + "close, te".len()).sum();
    if options > crate::check::MAX_OPTIONS {
        return;
    }
    assert_round_trip(&request, has_content.then_some(&content), trailers.as_ref());
}

/// Asserts that a server parses a written request to the same request.
fn assert_round_trip(request: &Request<()>, content: Option<&Vec<u8>>, trailers: Option<&HeaderMap>) {
    let framings = match (content, trailers) {
        (None, _) => &[RequestBodyFraming::None][..],
        (Some(_), Some(_)) => &[RequestBodyFraming::Chunked],
        (Some(content), None) => &[RequestBodyFraming::Chunked, RequestBodyFraming::Length(content.len() as u64)],
    };
    for &framing in framings {
        let mut written = Vec::new();
        let keep_alive = write_request_head(&mut written, request, framing);
        if let (Some(mut encoder), Some(content)) = (BodyEncoder::for_request(framing), content) {
            for data in content.chunks(17) {
                assert!(encoder.begin_data(&mut written, data.len()).is_ok());
                written.extend_from_slice(data);
                written.extend_from_slice(encoder.end_data());
            }
            assert!(encoder.end(&mut written, trailers).is_ok());
        }
        let text = written.escape_ascii();
        let limits = HeadLimits { size: usize::MAX, target: usize::MAX, fields: LIMITS.fields + 2 };
        let parsed = parse_message(&written, limits).unwrap_or_else(|| panic!("rejected or incomplete: {text}"));
        assert_eq!(parsed.length, written.len(), "{text}");
        assert_eq!(parsed.request.method(), request.method(), "{text}");
        assert_eq!(target(&parsed.request), target(request), "{text}");
        assert_eq!(fields(&parsed.request), fields(request), "{text}");
        if let Some(names) = received_names(request) {
            assert_eq!(received_names(&parsed.request), Some(names), "{text}");
        }
        assert_eq!(parsed.keep_alive, keep_alive && *request.method() != Method::CONNECT, "{text}");
        assert_eq!(parsed.content, content.cloned().unwrap_or_default(), "{text}");
        let trailers = trailers.filter(|_| framing == RequestBodyFraming::Chunked);
        assert_eq!(parsed.trailers.as_ref(), trailers, "{text}");
    }
}

/// Returns the target of a request without its scheme, and its authority for CONNECT only.
fn target(request: &Request<()>) -> String {
    let uri = request.uri();
    match uri.path_and_query() {
        Some(target) => target.to_string(),
        None if *request.method() == Method::CONNECT => {
            uri.authority().map_or_else(|| "/".to_owned(), ToString::to_string)
        }
        None => "/".to_owned(),
    }
}

/// Returns the fields of a request, without those that depend on its framing and connection.
fn fields(request: &Request<()>) -> Vec<(String, Vec<u8>)> {
    let is_end_to_end = |name: &str| !["connection", "content-length", "transfer-encoding"].contains(&name);
    let fields = request.headers().iter().filter(|(name, _)| is_end_to_end(name.as_str()));
    let mut fields: Vec<_> =
        fields.map(|(name, value)| (name.to_string(), crate::syntax::trim_ows(value.as_bytes()).to_vec())).collect();
    // The order of fields with different names has no meaning (RFC 9110 §5.3). The sort is stable.
    fields.sort_by(|(name, _), (other, _)| name.cmp(other));
    fields
}

/// Returns the names of the fields in [`fields`] that have a value, in the received letter case.
fn received_names(request: &Request<()>) -> Option<Vec<&[u8]>> {
    let received = request.extensions().get::<ReceivedHead>()?;
    let is_end_to_end = |name: &str| !["connection", "content-length", "transfer-encoding"].contains(&name);
    let fields = request.headers().iter().filter(|(name, value)| is_end_to_end(name.as_str()) && !value.is_empty());
    let mut names: Vec<_> = fields
        .map(|(name, value)| {
            let received = received.name(name, value).unwrap_or_else(|| panic!("{name} is not in the head"));
            assert!(received.eq_ignore_ascii_case(name.as_str().as_bytes()), "{name} {}", received.escape_ascii());
            received
        })
        .collect();
    names.sort_by_key(|name| name.to_ascii_lowercase());
    Some(names)
}

/// A complete request with its content.
struct Message {
    request: Request<()>,
    has_content: bool,
    content: Vec<u8>,
    trailers: Option<HeaderMap>,
    keep_alive: bool,
    /// The length of the whole message in bytes.
    length: usize,
}

/// Parses a request with its content. Returns `None` if it is incomplete or rejected.
fn parse_message(bytes: &[u8], limits: HeadLimits) -> Option<Message> {
    let mut input = BytesMut::from(bytes);
    let mut head = RequestParser::new(limits).parse(&input.clone().freeze()).ok()??;
    head.request.extensions_mut().insert(head.received);
    let _ = input.split_to(head.length);
    let mut decoder = BodyDecoder::for_request(head.framing);
    let (mut content, mut trailers) = (Vec::new(), None);
    while let Some(frame) = decoder.decode(&mut input).ok()? {
        match frame.into_data() {
            Ok(data) => content.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    decoder.has_ended().then(|| Message {
        request: head.request,
        has_content: matches!(head.framing, RequestBodyFraming::Length(_) | RequestBodyFraming::Chunked),
        content,
        trailers,
        keep_alive: head.context.keep_alive,
        length: bytes.len() - input.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Uri;
    use http::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;
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

    #[test]
    fn response_head_fuzz_target_passes_on_the_mutated_corpus() {
        run(CRATE, "response_head", response_head);
    }

    #[test]
    fn response_body_fuzz_target_passes_on_the_mutated_corpus() {
        run(CRATE, "response_body", response_body);
    }

    #[test]
    fn forwarded_request_fuzz_target_passes_on_the_mutated_corpus() {
        run(CRATE, "forwarded_request", forwarded_request);
    }

    /// A field that `http` represents. A server rejects names that are disguised framing fields.
    fn field() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
        let name = "(te|expect|host|[a-z!#$%&'*+.^_`|~0-9-]{1,30})";
        (name, proptest::collection::vec(any::<u8>(), 0..40)).prop_filter_map("no field", |(name, value)| {
            let is_framing =
                crate::is_disguised_framing_field(name.as_bytes()) || name == "upgrade" || name == "connection";
            (!is_framing).then_some((HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(&value).ok()?))
        })
    }

    /// A target that `http` represents. A server percent-encodes bytes that are not ASCII.
    fn uri() -> impl Strategy<Value = Uri> {
        let target = r#"(/|\*|https?://[a-z0-9.-]{1,9}(:8[0-9]{1,3})?/?)([!-~]{0,40})"#;
        target.prop_filter_map("no URI", |target| Uri::try_from(target.split('#').next()?).ok())
    }

    proptest! {
        #[test]
        fn server_parses_any_written_request_to_the_same_request(
            method in "(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|[A-Za-z!#$%&'*+.^_`|~0-9-]{1,20})",
            uri in uri(),
            fields in proptest::collection::vec(field(), 0..20),
            content: Option<Vec<u8>>,
            trailers in proptest::option::of(proptest::collection::vec(field(), 1..5)),
        ) {
            let mut request = Request::new(());
            *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
            prop_assume!(*request.method() != Method::CONNECT);
            *request.uri_mut() = uri;
            for (name, value) in fields {
                request.headers_mut().append(name, value);
            }
            // Whitespace around a value is not a part of it (RFC 9110 §5.5).
            let trimmed = |(name, value): (HeaderName, HeaderValue)| {
                (name, HeaderValue::from_bytes(crate::syntax::trim_ows(value.as_bytes())).unwrap())
            };
            let trailers: Option<HeaderMap> = trailers.map(|fields| fields.into_iter().map(trimmed).collect());
            assert_round_trip(&request, content.as_ref().filter(|content| !content.is_empty()), trailers.as_ref());
        }
    }
}
