//! Validation with the entity tags of other variants (RFC 9111 §4.3.1).
//!
//! A request that selects no stored variant is forwarded with the entity tags of stored variants. A 304 then selects one of them.

use std::cmp::Reverse;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use rproxy_core::credentials::is_credential;

use crate::hooks::RequestSpecificCheck;
use crate::policy::validators::{is_conditional, weakly_equal};
use crate::policy::vary::Codings;
use crate::store::resource::Resource;
use crate::store::stored_response::StoredResponse;

/// Returns the stored variants whose entity tags the forwarded request can contain, most used first.
pub(crate) fn candidates(
    resource: &Resource,
    request: &HeaderMap,
    request_specific: Option<RequestSpecificCheck>,
) -> Vec<Arc<StoredResponse>> {
    // Limits the length of the forwarded field.
    const MAX: usize = 16;
    if is_conditional(request) || request.contains_key(header::RANGE) || request.contains_key(header::IF_RANGE) {
        return Vec::new();
    }
    let codings = Codings::from_headers(request);
    let variants = resource.variants();
    let mut candidates: Vec<&Arc<StoredResponse>> = Vec::new();
    for variant in variants {
        let is_usable = strong_tag(variant).is_some()
            && is_independent_of_credentials(variant)
            && variant.may_serve(request, request_specific)
            && is_acceptable(variant, codings.as_ref())
            // Some origins use one tag for all codings or languages. Such a tag is ambiguous.
            && variants.iter().all(|other| !has_same_tag(variant, other) || is_same_representation(variant, other));
        if is_usable && !candidates.iter().any(|other| has_same_tag(variant, other)) {
            candidates.push(variant);
        }
    }
    candidates.sort_by_key(|variant| Reverse((variant.hits(), variant.freshness.response_time)));
    candidates.into_iter().take(MAX).cloned().collect()
}

/// Returns an `If-None-Match` field value with the entity tags of `variants`.
pub(crate) fn if_none_match(variants: &[Arc<StoredResponse>]) -> Option<HeaderValue> {
    let tags: Vec<&[u8]> = variants.iter().filter_map(|variant| strong_tag(variant)).collect();
    if tags.is_empty() { None } else { HeaderValue::from_bytes(&tags.join(&b", "[..])).ok() }
}

/// Returns the variant that a 304 response selects, if it is unambiguous.
// RFC 9111 §4.3.4
pub(crate) fn selected_variant<'a>(
    not_modified: &HeaderMap,
    variants: &'a [Arc<StoredResponse>],
) -> Option<&'a Arc<StoredResponse>> {
    match (not_modified.get(header::ETAG), variants) {
        (None, [only]) => Some(only),
        (None, _) => None,
        // By weak comparison, as in `Validators::are_confirmed_by`. The tags that were sent differ by weak comparison, too.
        (Some(named), _) => variants
            .iter()
            .find(|variant| strong_tag(variant).is_some_and(|tag| weakly_equal(tag, named.as_bytes().trim_ascii()))),
    }
}

/// Whether a 304 response selects none of the variants.
pub(crate) fn is_ambiguous<B>(response: &Response<B>, variants: &[Arc<StoredResponse>]) -> bool {
    response.status() == StatusCode::NOT_MODIFIED && selected_variant(response.headers(), variants).is_none()
}

/// Returns the strong entity tag of a complete 200 response, if it is valid in `If-None-Match`.
fn strong_tag(variant: &StoredResponse) -> Option<&[u8]> {
    let is_representation = variant.part.is_none() && variant.status == StatusCode::OK;
    variant.validators.strong_tag().filter(|_| is_representation).map(HeaderValue::as_bytes)
}

/// Whether a variant is independent of credentials: neither requested with them nor varying by them.
fn is_independent_of_credentials(variant: &StoredResponse) -> bool {
    !variant.has_request_credentials && !variant.selecting_fields.fields().any(|(name, _)| is_credential(name))
}

/// Whether the client accepts a variant's content coding, and the variant's entity tag is from the origin.
fn is_acceptable(variant: &StoredResponse, codings: Option<&Codings>) -> bool {
    let mut values = variant.headers().get_all(header::CONTENT_ENCODING).iter().peekable();
    if values.peek().is_some() {
        let members = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
        let mut members = members.filter(|member| !member.is_empty());
        return codings.is_some_and(|codings| members.all(|coding| codings.accept(coding)));
    }
    // An intermediary may compress what the origin sends without a coding. It would confirm the tag of the uncompressed
    // representation to a client that gets the compressed one.
    let accepted = codings.map(|codings| &*codings.text);
    let mut fields = variant.selecting_fields.fields();
    let is_compressed_for_others = fields.any(|(name, value)| *name == header::ACCEPT_ENCODING && value != accepted);
    !is_compressed_for_others && codings.is_none_or(|codings| codings.accept(b"identity"))
}

fn has_same_tag(one: &StoredResponse, other: &StoredResponse) -> bool {
    match (&one.validators.etag, &other.validators.etag) {
        (Some(one), Some(other)) => weakly_equal(one.as_bytes(), other.as_bytes()),
        _ => false,
    }
}

/// Whether two responses with the same entity tag can be the same representation.
fn is_same_representation(one: &StoredResponse, other: &StoredResponse) -> bool {
    const DESCRIPTIONS: [header::HeaderName; 3] =
        [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE];
    let is_same = |name: &header::HeaderName| one.headers().get_all(name).iter().eq(other.headers().get_all(name));
    other.part.is_some() || one.body().len() == other.body().len() && DESCRIPTIONS.iter().all(is_same)
}
