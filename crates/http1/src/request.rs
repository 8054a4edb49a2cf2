//! The parser of request heads.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version};
use rproxy_core::{RejectedHead, field_name};

use crate::HeadLimits;
use crate::check::{self, MAX_OPTIONS, is_chunked};
use crate::framing::RequestBodyFraming;
use crate::received_head::ReceivedHead;
use crate::syntax::{content_length, has_token, is_disguised_framing_field};

/// A request head, with the framing of its body and of the response.
#[derive(Debug)]
#[non_exhaustive]
pub struct RequestHead {
    /// The request without its content.
    ///
    /// `Connection: keep-alive` and an `Upgrade` field that is ignored are removed. All other fields are as received.
    pub request: Request<()>,
    /// The framing of the request body.
    pub framing: RequestBodyFraming,
    /// The properties that determine the framing of the response and the reuse of the connection.
    pub context: ResponseContext,
    /// Whether the client waits for `100 Continue` before it sends the content (RFC 9110 §10.1.1).
    pub expects_continue: bool,
    /// The length of the head in bytes. The content follows.
    pub length: usize,
    /// The letter case of the field names, as an extension for the request.
    pub received: ReceivedHead,
}

/// The properties of a request that determine the framing of its response and the reuse of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseContext {
    /// Whether the method is HEAD, whose response has no content.
    pub is_head: bool,
    /// Whether the connection may be reused after the response (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// Whether the client accepts trailers (RFC 9110 §6.5.1).
    pub takes_trailers: bool,
    /// Whether the request has version HTTP/1.0, which lacks the chunked coding (RFC 9112 §7.1).
    pub is_http10: bool,
}

/// A parser for the request heads of one connection.
///
/// It remembers how much of an incomplete head it has checked, so that a head that arrives byte by byte costs no more than
/// one that arrives at once.
#[derive(Clone, Debug)]
pub struct RequestParser {
    limits: HeadLimits,
    /// The length of the part of the current incomplete head that has been checked.
    checked: usize,
}

impl RequestParser {
    /// Creates a parser with these limits.
    #[must_use]
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, checked: 0 }
    }

    /// Parses the request head at the start of `bytes`, without copying it. Returns `None` if it is incomplete.
    ///
    /// # Errors
    ///
    /// The reason to reject the head. An incomplete head is rejected as soon as it cannot become a valid one.
    pub fn parse(&mut self, bytes: &Bytes) -> Result<Option<RequestHead>, RejectedHead> {
        if self.checked == 0
            && let Some(head) = parse(bytes, &self.limits)
        {
            return Ok(Some(head));
        }
        let Some(end) = self.check(bytes)? else { return Ok(None) };
        if let Some(head) = parse(bytes, &self.limits) {
            return Ok(Some(head));
        }
        // Finds the reason to reject the head, or the parts to normalise.
        let checked = check::check_head(&bytes[..end], &self.limits)?;
        let normal = check::normalise(&bytes[..end], checked.needs_encoding);
        // The limits apply to the encoded target.
        check::check_head(&normal, &self.limits)?;
        let head = parse(&Bytes::from(normal), &self.limits).ok_or(RejectedHead::Malformed)?;
        if head.framing != checked.framing {
            return Err(RejectedHead::Framing);
        }
        Ok(Some(RequestHead { length: end, ..head }))
    }

    /// Checks an incomplete head after more of it was received. Returns its length once it is complete.
    ///
    /// `bytes` starts with the bytes of the last call of this method or of [`parse`](Self::parse), which is next called when
    /// the head is complete.
    ///
    /// # Errors
    ///
    /// The reason to reject the head, which cannot become a valid one.
    pub fn check(&mut self, bytes: &[u8]) -> Result<Option<usize>, RejectedHead> {
        // The last three bytes may be the start of the end.
        if let Some(end) = check::head_end(bytes, self.checked.saturating_sub(3)) {
            self.checked = 0;
            return Ok(Some(end));
        }
        match check::check_incomplete(&self.limits, bytes, self.checked.saturating_sub(3)) {
            Some(rejected) => Err(rejected),
            None => {
                self.checked = bytes.len();
                Ok(None)
            }
        }
    }
}

/// Parses the head at the start of `bytes`, if it is complete and valid without changes.
fn parse(bytes: &Bytes, limits: &HeadLimits) -> Option<RequestHead> {
    let mut few = [const { MaybeUninit::uninit() }; FEW_FIELDS];
    let mut many;
    let fields = match limits.fields <= FEW_FIELDS {
        true => &mut few[..],
        false => {
            many = vec![MaybeUninit::uninit(); limits.fields];
            &mut many[..]
        }
    };
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(bytes, fields) {
        Ok(httparse::Status::Complete(length)) => length,
        _ => return None,
    };
    let (method, target) = (parsed.method?, parsed.path?);
    // httparse skips empty lines before a request, and accepts a bare LF as line end (RFC 9112 §2.2).
    let starts_with_method = bytes.starts_with(method.as_bytes());
    let is_within_limits =
        length <= limits.size && target.len() <= limits.target && parsed.headers.len() <= limits.fields;
    // A fragment is invalid (RFC 9112 §3.2.1), but the URI parser would silently drop it.
    let is_target = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !starts_with_method
        || !is_within_limits
        || !target.bytes().all(is_target)
        || !all_lines_end_in_crlf(&bytes[..length])
    {
        return None;
    }
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    let mut uri = Uri::from_maybe_shared(bytes.slice_ref(target.as_bytes())).ok()?;
    if method == Method::OPTIONS {
        uri = asterisk(uri, target);
    }
    let is_http10 = parsed.version == Some(0);
    let is_head = method == Method::HEAD;
    // RFC 9110 §9.3.6: after a CONNECT, the bytes are not HTTP. This server opens no such tunnel.
    let keep_alive = !is_http10 && method != Method::CONNECT;
    let mut context = ResponseContext { is_head, keep_alive, takes_trailers: false, is_http10 };
    let (mut closes, mut has_upgrade, mut upgrades, mut expects_continue) = (false, false, false, false);
    let (mut content_length_value, mut has_coding) = (None, false);
    let mut headers = HeaderMap::with_capacity(parsed.headers.len() + EXTRA_CAPACITY);
    let mut options = 0;
    for field in &*parsed.headers {
        let name = field_name(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).ok()?;
        match name {
            CONTENT_LENGTH => {
                if content_length_value.is_some() {
                    return None;
                }
                content_length_value = Some(content_length(field.value)?);
            }
            TRANSFER_ENCODING => {
                if has_coding || is_http10 || is_chunked(field.value) != Ok(true) {
                    return None;
                }
                has_coding = true;
            }
            EXPECT => expects_continue = !is_http10 && field.value.eq_ignore_ascii_case(b"100-continue"),
            UPGRADE => has_upgrade = true,
            CONNECTION => {
                options += field.value.len();
                closes |= has_token(field.value, b"close");
                context.keep_alive |= is_http10 && has_token(field.value, b"keep-alive");
                upgrades |= has_token(field.value, b"upgrade");
                // Redundant, and not meant for the backend.
                if field.value.eq_ignore_ascii_case(b"keep-alive") {
                    continue;
                }
            }
            TE => {
                options += field.value.len();
                context.takes_trailers |= has_token(field.value, b"trailers");
            }
            _ if is_disguised_framing_field(field.name.as_bytes()) => return None,
            _ => {}
        }
        headers.try_append(name, value).ok()?;
    }
    if options > MAX_OPTIONS {
        return None;
    }
    // RFC 9110 §7.8: Upgrade is ignored if Connection does not nominate it, and in HTTP/1.0.
    let is_upgrade = has_upgrade && upgrades && !is_http10;
    if has_upgrade && !is_upgrade {
        headers.remove(UPGRADE);
    }
    let framing = match (has_coding, content_length_value) {
        (true, Some(_)) => return None,
        (true, None) => RequestBodyFraming::Chunked,
        (false, Some(length @ 1..)) => RequestBodyFraming::Length(length),
        (false, _) if is_upgrade => RequestBodyFraming::Upgrade,
        (false, _) => RequestBodyFraming::None,
    };
    context.keep_alive &= !closes;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = if is_http10 { Version::HTTP_10 } else { Version::HTTP_11 };
    *request.headers_mut() = headers;
    let received = ReceivedHead::new(bytes.slice(..length));
    Some(RequestHead { request, framing, context, expects_continue, length, received })
}

/// Converts the target of an OPTIONS request in absolute-form without path and query to `*` (RFC 9112 §3.2.4).
///
/// The URI parser has replaced the empty path by `/`.
fn asterisk(uri: Uri, target: &str) -> Uri {
    let has_path = |rest: &str| rest.contains(['/', '?']);
    // A path can contain `://` as well.
    if uri.scheme().is_none() || target.split_once("://").is_none_or(|(_, rest)| has_path(rest)) {
        return uri;
    }
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    Uri::from_parts(parts).unwrap_or_else(|_| Uri::from_static("*"))
}

/// Returns whether every line of a head ends in CRLF. Has no early exit, so that the compiler can vectorise it.
fn all_lines_end_in_crlf(head: &[u8]) -> bool {
    let pairs = head.iter().zip(&head[1.min(head.len())..]);
    head.first() != Some(&b'\n') && pairs.fold(true, |all, (&one, &next)| all & (next != b'\n' || one == b'\r'))
}

/// The number of fields for which parsing allocates nothing.
const FEW_FIELDS: usize = 128;

/// The spare capacity of a header map for fields that a proxy adds, so that the map does not grow.
const EXTRA_CAPACITY: usize = 9;

#[cfg(test)]
mod tests;
