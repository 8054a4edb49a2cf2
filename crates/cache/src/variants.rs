//! Stored variants that a request may be validated with although it selects none of them: RFC 9111 §4.3.1.

use std::cmp::Reverse;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use crate::credentials::is_credential;
use crate::hooks::IsForOneRequest;
use crate::resource::Resource;
use crate::stored::StoredResponse;
use crate::validation::{is_conditional, same_weakly};
use crate::vary::Codings;

/// Returns the stored variants whose entity-tags the forwarded request may name, the most used first.
pub(crate) fn to_validate(
    resource: &Resource,
    request: &HeaderMap,
    is_for_one: Option<IsForOneRequest>,
) -> Vec<Arc<StoredResponse>> {
    // Bounds the length of the field that is forwarded.
    const MOST: usize = 16;
    if is_conditional(request) || request.contains_key(header::RANGE) || request.contains_key(header::IF_RANGE) {
        return Vec::new();
    }
    let codings = Codings::of(request);
    let variants = resource.variants();
    let mut chosen: Vec<&Arc<StoredResponse>> = Vec::new();
    for variant in variants {
        let is_usable = tag(variant).is_some()
            && is_for_everybody(variant)
            && variant.may_answer(request, is_for_one)
            && is_acceptable(variant, codings.as_ref())
            // Some origins give all codings or languages of a resource one tag, which then names none of them.
            && variants.iter().all(|other| !has_same_tag(variant, other) || is_same_representation(variant, other));
        if is_usable && !chosen.iter().any(|other| has_same_tag(variant, other)) {
            chosen.push(variant);
        }
    }
    chosen.sort_by_key(|variant| Reverse((variant.uses(), variant.freshness.response_time)));
    chosen.into_iter().take(MOST).cloned().collect()
}

/// Returns the `If-None-Match` that names `variants`.
pub(crate) fn condition(variants: &[Arc<StoredResponse>]) -> Option<HeaderValue> {
    let tags: Vec<&[u8]> = variants.iter().filter_map(|variant| tag(variant)).collect();
    if tags.is_empty() { None } else { HeaderValue::from_bytes(&tags.join(&b", "[..])).ok() }
}

/// Returns the variant that a 304 with these header fields selects. `None`: it does not say which.
// RFC 9111 §4.3.4
pub(crate) fn selected_by<'a>(
    not_modified: &HeaderMap,
    variants: &'a [Arc<StoredResponse>],
) -> Option<&'a Arc<StoredResponse>> {
    match (not_modified.get(header::ETAG), variants) {
        (None, [only]) => Some(only),
        (None, _) => None,
        // Weakly, as in `Validators::are_confirmed_by`: the tags that were sent differ also in what a weak comparison looks at.
        (Some(named), _) => variants
            .iter()
            .find(|variant| tag(variant).is_some_and(|tag| same_weakly(tag, named.as_bytes().trim_ascii()))),
    }
}

/// Whether `response` is a 304 that does not say which variant it selects.
pub(crate) fn is_ambiguous<B>(response: &Response<B>, variants: &[Arc<StoredResponse>]) -> bool {
    response.status() == StatusCode::NOT_MODIFIED && selected_by(response.headers(), variants).is_none()
}

/// The strong entity-tag of a complete response, if it can be a member of a list.
fn tag(variant: &StoredResponse) -> Option<&[u8]> {
    let is_representation = variant.part.is_none() && variant.status == StatusCode::OK;
    variant.validators.strong_tag().filter(|_| is_representation).map(HeaderValue::as_bytes)
}

/// Whether a variant was neither requested with credentials nor varies by them.
fn is_for_everybody(variant: &StoredResponse) -> bool {
    !variant.is_personal && !variant.selecting.selectors().any(|(name, _)| is_credential(name))
}

/// Whether the client accepts the content coding of a variant, and the origin can be expected to mean it by the tag.
fn is_acceptable(variant: &StoredResponse, codings: Option<&Codings>) -> bool {
    let mut lines = variant.headers().get_all(header::CONTENT_ENCODING).iter().peekable();
    if lines.peek().is_some() {
        let members = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
        let mut members = members.filter(|member| !member.is_empty());
        return codings.is_some_and(|codings| members.all(|coding| codings.accept(coding)));
    }
    // Between here and the origin a server may compress what the origin sends without a coding: the tag is then one of
    // another representation than this client would get.
    let accepted = codings.map(|codings| &*codings.text);
    let mut selectors = variant.selecting.selectors();
    let is_for_others = selectors.any(|(name, value)| *name == header::ACCEPT_ENCODING && value != accepted);
    !is_for_others && codings.is_none_or(|codings| codings.accept(b"identity"))
}

fn has_same_tag(one: &StoredResponse, other: &StoredResponse) -> bool {
    match (&one.validators.etag, &other.validators.etag) {
        (Some(one), Some(other)) => same_weakly(one.as_bytes(), other.as_bytes()),
        _ => false,
    }
}

/// Whether two responses with the same tag do not contradict each other.
fn is_same_representation(one: &StoredResponse, other: &StoredResponse) -> bool {
    const DESCRIPTIONS: [header::HeaderName; 3] =
        [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE];
    let same = |name: &header::HeaderName| one.headers().get_all(name).iter().eq(other.headers().get_all(name));
    other.part.is_some() || one.body().len() == other.body().len() && DESCRIPTIONS.iter().all(same)
}
