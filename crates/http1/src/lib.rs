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
//! # Errors
//!
//! [`RequestParser`] returns a [`RejectedHead`](rproxy_core::RejectedHead), from which a server derives the status.
//! [`BodyDecoder`] returns [`InvalidBody`], after which the connection can't be used any more. No input causes a panic.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod body;
mod check;
mod chunked;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod limits;
mod request;
mod response;
mod syntax;

pub use self::{
    body::{BodyDecoder, InvalidBody},
    limits::HeadLimits,
    request::{RequestBodyFraming, RequestHead, RequestParser, ResponseContext},
    response::{
        ResponseBodyFraming, put_chunk_size, put_field, put_last_chunk, write_response_head, write_switching_protocols,
    },
    syntax::{has_token, is_disguised_framing_field},
};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
