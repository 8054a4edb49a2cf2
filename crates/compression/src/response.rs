//! Decides whether to compress a response, and sets the header fields of the compressed variant.

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, TRAILER, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::coding::Coding;
use crate::entity_tag::{self, StrongTag, Variant};
use crate::media_type;
use crate::request::RequestContext;

/// Returns whether a response with this status contains a complete representation.
pub(crate) fn has_whole_content(status: StatusCode) -> bool {
    const OTHERS: [StatusCode; 4] =
        [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT, StatusCode::NOT_MODIFIED];
    !status.is_informational() && !OTHERS.contains(&status)
}

/// The properties of a response header section that determine whether to compress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// Whether the content is compressible, and its header fields allow compression.
    pub(crate) is_compressible: bool,
    /// Whether the `ETag` could be mistaken for the entity tag of a compressed variant.
    pub(crate) has_ambiguous_tag: bool,
}

impl Facts {
    /// Determines the compression properties of a response from its header section. Content that `is_small` is not
    /// compressed, and only the entity tag of such a response is read.
    pub(crate) fn of(headers: &HeaderMap, min_size: u64, is_small: bool) -> Self {
        if is_small {
            let has_ambiguous_tag = headers.get(ETAG).is_some_and(entity_tag::has_suffix);
            return Self { is_compressible: false, has_ambiguous_tag };
        }
        let (mut has_compressible_type, mut is_protected, mut has_ambiguous_tag) = (false, false, false);
        // One pass over the present fields is faster than a lookup of each possible one.
        for (name, value) in headers {
            match *name {
                CONTENT_TYPE => has_compressible_type = media_type::is_compressible(value.as_bytes()),
                CONTENT_LENGTH => is_protected |= is_below(value, min_size),
                CONTENT_ENCODING | CONTENT_RANGE => is_protected = true,
                CACHE_CONTROL => is_protected |= forbids_transformation(value.as_bytes()),
                ETAG => has_ambiguous_tag = entity_tag::has_suffix(value),
                // RFC 9421: a signature can cover the fields that a compressed variant must change.
                ref name if *name == SIGNATURE_INPUT => is_protected = true,
                _ => {}
            }
        }
        Self { is_compressible: has_compressible_type && !is_protected, has_ambiguous_tag }
    }
}

static SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

fn is_below(content_length: &HeaderValue, min_size: u64) -> bool {
    let length = content_length.as_bytes().iter().try_fold(0_u64, |length, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        length.checked_mul(10)?.checked_add(u64::from(digit))
    });
    length.is_some_and(|length| length < min_size)
}

/// Returns whether `Cache-Control` contains `no-transform` (RFC 9111 §5.2.2.6).
fn forbids_transformation(cache_control: &[u8]) -> bool {
    let mut directives = cache_control.split(|&byte| byte == b',');
    directives.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

/// Adds `Accept-Encoding` to `Vary`, since other clients may get another variant (RFC 9110 §12.5.5).
pub(crate) fn vary(headers: &mut HeaderMap) {
    let covers_encoding = |member: &[u8]| matches!(member, b"*") || member.eq_ignore_ascii_case(b"accept-encoding");
    let mut lines = headers.get_all(VARY).iter();
    if !lines.any(|line| line.as_bytes().split(|&byte| byte == b',').any(|member| covers_encoding(member.trim_ascii())))
    {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Sets the `ETag` and `Vary` of a response without content (304 or 412) to those of a 200 response.
///
/// Returns whether that is a compressed variant. RFC 9110 §15.4.5 requires the `ETag` and `Vary` of the 200, but such a
/// response rarely has a `Content-Type`. A tag in the request then shows that the resource is compressible.
pub(crate) fn describe_without_content(
    status: StatusCode,
    headers: &mut HeaderMap,
    request: &RequestContext,
    facts: Facts,
) -> bool {
    let is_coded = match status {
        StatusCode::NOT_MODIFIED => {
            let is_compressible = facts.is_compressible;
            if is_compressible || request.named.is_any() {
                vary(headers);
            }
            request.named.include(headers.get(ETAG)) || is_compressible && !request.has_tags
        }
        StatusCode::PRECONDITION_FAILED if request.named.is_any() => {
            vary(headers);
            true
        }
        _ => false,
    };
    match request.coding.filter(|_| is_coded) {
        Some(coding) => {
            if status == StatusCode::NOT_MODIFIED {
                remove_outdated(headers);
            }
            set_tag(headers, Variant::Coded(coding));
            true
        }
        None => false,
    }
}

/// Replaces the header fields of a representation with those of its compressed variant.
pub(crate) fn describe_coded(headers: &mut HeaderMap, coding: Coding) {
    headers.insert(CONTENT_ENCODING, coding.header_value());
    remove_outdated(headers);
    set_tag(headers, Variant::Coded(coding));
}

/// Replaces a strong `ETag` with the entity tag of a variant. A weak one stays: it does not promise the same bytes.
pub(crate) fn set_tag(headers: &mut HeaderMap, variant: Variant) {
    let tag = headers.get(ETAG).and_then(|etag| StrongTag::parse(etag.as_bytes())?.of_variant(variant));
    if let Some(tag) = tag {
        headers.insert(ETAG, tag);
    }
}

/// Removes the header fields that describe the uncompressed content.
fn remove_outdated(headers: &mut HeaderMap) {
    headers.remove(CONTENT_LENGTH);
    // Ranges of the compressed variant cannot be requested: each request would compress it again.
    headers.remove(ACCEPT_RANGES);
    remove_digests(headers);
    if headers.contains_key(TRAILER) {
        remove_announced_digests(headers);
    }
}

/// Removes the digests of the uncompressed content from a header or trailer section.
pub(crate) fn remove_digests(fields: &mut HeaderMap) {
    for name in &DIGESTS {
        fields.remove(name);
    }
}

/// Digest fields, whose values are not valid for compressed content.
///
/// RFC 9530 §2 and §3, RFC 3230 §4.3.2, RFC 1864.
static DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Removes digest fields from `Trailer`, which announces the trailer fields (RFC 9110 §6.6.2).
fn remove_announced_digests(headers: &mut HeaderMap) {
    let is_digest = |member: &[u8]| DIGESTS.iter().any(|name| member.eq_ignore_ascii_case(name.as_str().as_bytes()));
    let lines = headers.get_all(TRAILER).iter();
    let members = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    let (digests, others): (Vec<&[u8]>, Vec<&[u8]>) = members.partition(|member| is_digest(member));
    if digests.is_empty() {
        return;
    }
    match HeaderValue::from_bytes(&others.join(&b", "[..])) {
        Ok(others) if !others.is_empty() => headers.insert(TRAILER, others),
        _ => headers.remove(TRAILER),
    };
}
