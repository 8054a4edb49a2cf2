//! Functions for the fuzz targets: each checks invariants for arbitrary input bytes.

use http::header::{ACCEPT_ENCODING, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderName, HeaderValue, Method, Request};

use crate::coding::Coding;
use crate::config::Config;
use crate::entity_tag::{self, StrongTag, Variant};
use crate::request::RequestContext;

/// Checks that conditional requests reach the inner service with the inner service's entity tags.
///
/// The lines are `Accept-Encoding`, then values of the conditions.
///
/// - No tag of the result is longer than the one it comes from, and other methods than GET and HEAD lose none. Only a weak
///   tag in `If-None-Match` becomes two.
/// - A tag and a variant map to a tag that maps back to both.
pub fn conditions(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let codings = lines.next();
    let values: Vec<HeaderValue> = lines.collect();
    for method in [Method::GET, Method::PUT] {
        let mut request = Request::new(());
        *request.method_mut() = method.clone();
        let headers = request.headers_mut();
        codings.iter().for_each(|codings| drop(headers.insert(ACCEPT_ENCODING, codings.clone())));
        for name in [IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE] {
            for value in &values {
                headers.append(&name, value.clone());
            }
        }
        let before = request.headers().clone();
        let context = RequestContext::prepare(&mut request, Config::DEFAULT);
        assert!(codings.is_some() || context.coding.is_none());
        let count = |headers: &http::HeaderMap, name: &HeaderName| {
            let lists = headers.get_all(name).iter().map(HeaderValue::as_bytes);
            lists.flat_map(entity_tag::members).map(|tag| (1, tag.len())).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
        };
        for name in [IF_MATCH, IF_NONE_MATCH] {
            let ((tags, length), (all, longest)) = (count(request.headers(), &name), count(&before, &name));
            if name == IF_MATCH {
                assert!(length <= longest && tags == all);
                continue;
            }
            let lists = before.get_all(&name).iter().flat_map(|list| entity_tag::members(list.as_bytes()));
            let weak: Vec<&[u8]> = lists.filter(|tag| tag.starts_with(b"W/")).collect();
            assert!(tags <= all + weak.len() && length <= longest + weak.concat().len());
            assert!(tags >= all || method == Method::GET);
        }
    }
    for tag in values.iter().filter_map(|value| StrongTag::parse(value.as_bytes())) {
        let variants = Coding::ALL.map(Variant::Coded);
        for variant in variants.into_iter().chain([Variant::Identity]) {
            let sent = tag.of_variant(variant);
            let sent = sent.as_ref().map_or(Some(tag), |sent| StrongTag::parse(sent.as_bytes()));
            let restored = sent.map(|sent| sent.split().unwrap_or((sent, Variant::Identity)));
            assert_eq!(restored, Some((tag, variant)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    #[test]
    fn entity_tags_in_conditions_map_back_to_the_inner_service_for_mutated_seeds() {
        run(env!("CARGO_MANIFEST_DIR"), "conditions", conditions);
    }
}
