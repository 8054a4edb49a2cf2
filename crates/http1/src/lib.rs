//! HTTP/1.1 (RFC 9112) without I/O: heads, framing and bodies of messages, for servers and clients.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use rproxy_http1::{HeadLimits, RequestBodyFraming, RequestParser};
//!
//! let bytes = Bytes::from_static(b"POST /form HTTP/1.1\r\nHost: example.org\r\nContent-Length: 3\r\n\r\na=b");
//! let Ok(Some(head)) = RequestParser::new(HeadLimits::default()).parse(&bytes) else {
//!     panic!("a valid head")
//! };
//! assert_eq!(head.request.uri().path(), "/form");
//! assert_eq!(head.framing, RequestBodyFraming::Length(3));
//! assert_eq!(&bytes[head.length..], b"a=b");
//! ```
//!
//! # Requests that a server accepts
//!
//! | Part | Accepted | Rejected |
//! |---|---|---|
//! | Line ends | CRLF | bare CR or LF, NUL (RFC 9112 §2.2) |
//! | Before the request line | one empty line, which is removed (§2.2) | anything else |
//! | Request line | single spaces, HTTP/1.0 and HTTP/1.1 (§3) | other versions, HTTP/0.9, TLS records |
//! | Target | what [`http::Uri`] represents; other visible bytes and non-ASCII bytes are percent-encoded | fragments, whitespace, control characters (§3.2) |
//! | Target in absolute-form of OPTIONS without a path | becomes `*` (§3.2.4) | |
//! | Fields | tokens as names, no whitespace before the colon (§5.1) | line folding (§5.2), control characters in values |
//! | `Content-Length` | one field with digits | repetitions, lists, signs, and together with `Transfer-Encoding` (§6.3) |
//! | `Transfer-Encoding` | `chunked` alone, once | other codings, with 501 (§6.1); lists that end otherwise; in HTTP/1.0 |
//! | Names such as `Content_Length` | | because CGI gives them the same variable as the framing field |
//! | `Upgrade` | if `Connection` nominates it, in HTTP/1.1 (RFC 9110 §7.8); removed otherwise | |
//! | `Connection`, `TE` | up to 2 KiB together | longer |
//! | Chunked coding | up to 16 KiB of extensions and trailers | whitespace around sizes, bare line ends, more than 15 digits (RFC 9112 §7.1) |
//!
//! # Responses that a client accepts
//!
//! Clients of a proxy should get what a lenient browser would show, so a client is more lenient than a server where only one
//! interpretation of a response exists. A response that could have another end for another parser is rejected, or its
//! connection is not reused.
//!
//! | Part | Accepted | Rejected |
//! |---|---|---|
//! | Line ends of the head and of trailers | CRLF, bare LF (RFC 9112 §2.2) | bare CR, NUL |
//! | Status line | HTTP/1.0 and HTTP/1.1, with or without a reason (§4) | other versions, status codes below 100, HTTP/0.9 |
//! | Size | 64 KiB and 128 fields | larger |
//! | Fields | whitespace before the colon, which is removed (§5.1) | line folding (§5.2), names that are no tokens |
//! | `Content-Length` | digits; equal values in a list or in repeated fields, which become one (RFC 9110 §8.6) | different values, signs |
//! | `Transfer-Encoding` | `chunked` alone, once; an unregistered coding alone is ignored, and the body ends with the connection (RFC 9112 §6.3) | registered codings, lists; in HTTP/1.0 (§6.1) |
//! | `Transfer-Encoding` with `Content-Length` | `chunked`; `Content-Length` is removed, and the connection closed (§6.3) | |
//! | Responses to HEAD, 204, 304 | no body; framing fields in a 204 close the connection (RFC 9110 §8.6) | |
//! | Responses to CONNECT with 2xx | no body, and no reuse of the connection (RFC 9112 §6.3) | |
//! | Interim responses | without framing fields | content (§6.1) |
//! | No framing fields | the body ends with the connection (§6.3) | |
//! | `Connection` | `close` and `keep-alive`, which are removed (§9.3); other options stay | |
//! | Chunked coding | spaces after a size, 16 digits, 1 KiB per chunk line (§7.1) | bare line ends, control characters in extensions |
//! | Trailers | 16 KiB and 32 fields (§7.1.2) | larger, malformed fields |
//!
//! # Messages that are written
//!
//! Each written head has one framing, from the body and not from the fields of the message. A request has its target in
//! origin-form, and `Connection: close` if its method gives content no meaning (RFC 9110 §9.3). A server parses it to the
//! same request: method, path, query, content, and all fields except those about framing and the connection.
//!
//! # Letter case of field names
//!
//! `http` has field names in lower case, and RFC 9110 §5.1 makes them case-insensitive. For recipients that recognise only one
//! spelling, the parsers return the [`ReceivedHead`], and the writers look for it in the extensions of a message.
//!
//! | Field | Written name |
//! |---|---|
//! | Received, and written with the same value | as received, also if repeated with different spellings |
//! | `Content-Length` | as received, even if the value differs |
//! | Added, renamed, or written with another value | lower case |
//! | Without a value, or in a trailer section | lower case |
//! | `Transfer-Encoding`, and `Connection` and `Date` that the writer adds | lower case |
//!
//! The extension holds the bytes that the field values refer to, without a list of names. A name is looked up before the
//! value of its field, and is written only if it differs from the name in `http` in nothing but letter case.
//!
//! # Errors
//!
//! [`RequestParser`] returns a [`RejectedHead`](rproxy_core::RejectedHead), from which a server derives the status.
//! [`parse_response_head`] returns [`InvalidResponseHead`], and [`BodyDecoder`] returns [`InvalidBody`], after which the connection cannot be used any more. No input causes a panic.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod body;
mod check;
mod chunked;
mod encoder;
mod fields;
mod framing;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod limits;
mod received_head;
mod request;
mod request_writer;
mod response;
mod response_parser;
mod syntax;

pub use self::{
    body::BodyDecoder,
    chunked::{InvalidBody, MAX_RESPONSE_TRAILER_FIELDS, MAX_TRAILER_SIZE},
    encoder::{BodyEncoder, WrongLength, put_chunk_size, put_last_chunk},
    fields::put_field,
    framing::RequestBodyFraming,
    limits::HeadLimits,
    received_head::{FieldWriter, ReceivedHead},
    request::{RequestHead, RequestParser, ResponseContext},
    request_writer::write_request_head,
    response::{ResponseBodyFraming, write_response_head, write_switching_protocols},
    response_parser::{
        InvalidResponseHead, MAX_RESPONSE_FIELDS, MAX_RESPONSE_HEAD_SIZE, ResponseHead, content_length, is_bodiless,
        is_status_line_prefix, parse_response_head,
    },
    syntax::{has_token, is_disguised_framing_field},
};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
