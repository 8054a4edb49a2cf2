//! Selects the content coding for a request, and restores the inner service's entity tags in the conditions.

use http::header::{ACCEPT_ENCODING, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use crate::coding::{Coding, Preferences};
use crate::config::Config;
use crate::entity_tag::{self, StrongTag, Variant};
use crate::private::Credentials;

/// Properties of a request that determine whether and how its response is compressed.
#[derive(Debug)]
pub(crate) struct RequestContext {
    /// The content coding that the client prefers, or `None` for no compression.
    pub(crate) coding: Option<Coding>,
    pub(crate) is_head: bool,
    /// The credentials of the request, if they matter.
    pub(crate) credentials: Credentials,
    /// Whether `If-None-Match` lists entity tags, as opposed to `*`.
    pub(crate) has_tags: bool,
    pub(crate) named: NamedVariants,
}

impl RequestContext {
    /// Selects the content coding, and replaces entity tags of variants in conditions with the inner service's tags.
    pub(crate) fn prepare<B>(request: &mut Request<B>, config: Config) -> Self {
        let mut preferences = Preferences::default();
        let (mut accepts, mut is_conditional, mut has_tags, mut has_variants) = (false, false, false, false);
        // One pass over the names is faster than a lookup of each field, since most requests have at most one of them.
        for name in request.headers().keys() {
            accepts |= *name == ACCEPT_ENCODING;
            is_conditional |= matches!(*name, IF_NONE_MATCH | IF_MATCH | IF_RANGE);
        }
        if accepts {
            request.headers().get_all(ACCEPT_ENCODING).iter().for_each(|line| preferences.read(line.as_bytes()));
        }
        if is_conditional {
            let lines = |name: &HeaderName| request.headers().get_all(name).iter();
            has_tags = lines(&IF_NONE_MATCH).any(|line| line != "*");
            has_variants = [IF_NONE_MATCH, IF_MATCH, IF_RANGE]
                .into_iter()
                .any(|name| lines(&name).any(|line| names_variant(&name, line)));
        }
        let coding = preferences.preferred(config.codings);
        let mut named = NamedVariants::default();
        if has_variants {
            let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
            named = restore_conditions(request.headers_mut(), coding, is_read);
        }
        let credentials = if config.compresses_private { Credentials::None } else { Credentials::of(request) };
        Self { coding, is_head: *request.method() == Method::HEAD, credentials, has_tags, named }
    }
}

/// The compressed variants whose entity tags occur in the conditions of a request.
#[derive(Debug, Default)]
pub(crate) struct NamedVariants {
    /// Whether a condition names a compressed variant, which shows that the resource is compressible.
    is_any: bool,
    /// The inner service's entity tags of the listed variants that have the client's preferred coding.
    preferred: Vec<Vec<u8>>,
}

impl NamedVariants {
    /// Records a compressed variant whose entity tag occurs in a condition. Returns whether the request can select it.
    fn note(&mut self, own: StrongTag<'_>, variant: Variant, preferred: Option<Coding>) -> bool {
        let Variant::Coded(coding) = variant else { return true };
        self.is_any = true;
        if preferred == Some(coding) {
            self.preferred.push(own.to_bytes());
        }
        preferred == Some(coding)
    }

    pub(crate) fn is_any(&self) -> bool {
        self.is_any
    }

    /// Returns whether a 304 with the entity tag `etag` means that the client has the selected variant.
    ///
    /// A 304 without `ETag` is about the entity tag that the request named.
    pub(crate) fn include(&self, etag: Option<&HeaderValue>) -> bool {
        match etag {
            Some(etag) => self.preferred.iter().any(|tag| tag == etag.as_bytes()),
            None => !self.preferred.is_empty(),
        }
    }
}

/// Returns whether a field contains the entity tag of a variant; in `If-None-Match`, also a weak one.
fn names_variant(name: &HeaderName, list: &HeaderValue) -> bool {
    let mut members = entity_tag::members(list.as_bytes());
    members.any(|member| split(member).is_some() || *name == IF_NONE_MATCH && split_weak(member).is_some())
}

fn split(member: &[u8]) -> Option<(StrongTag<'_>, Variant)> {
    StrongTag::parse(member)?.split()
}

/// Splits the weak form of a variant's entity tag, such as `W/"v1-br"`. A proxy that changes content can weaken the tag.
fn split_weak(member: &[u8]) -> Option<(StrongTag<'_>, Variant)> {
    split(member.strip_prefix(b"W/").filter(|tag| tag.starts_with(b"\""))?)
}

/// Replaces entity tags of variants in the conditions of a request with the inner service's entity tags. Returns the
/// variants that the conditions named.
fn restore_conditions(headers: &mut HeaderMap, coding: Option<Coding>, is_read: bool) -> NamedVariants {
    let mut named = NamedVariants::default();
    let names_coded = |name| {
        let members = headers.get_all(name).iter().flat_map(|list| entity_tag::members(list.as_bytes()));
        members.filter_map(split).any(|(_, variant)| variant != Variant::Identity)
    };
    // The client has a part of a compressed variant, and the inner service can only send ranges of the uncompressed one.
    // RFC 9110 §14.2: a server may ignore Range, and must if the condition of If-Range is false.
    if names_coded(IF_RANGE) || names_coded(IF_MATCH) {
        headers.remove(RANGE);
        headers.remove(IF_RANGE);
    }
    restore(headers, IF_RANGE, |member| split(member).map(|(own, _)| vec![own.to_bytes()]));
    restore(headers, IF_MATCH, |member| {
        split(member).map(|(own, variant)| {
            named.note(own, variant, coding);
            vec![own.to_bytes()]
        })
    });
    let is_unconditional = restore(headers, IF_NONE_MATCH, |member| {
        // RFC 9110 §13.1.2: for GET and HEAD, a tag matches if it is that of the selected representation. A 304 for a
        // variant in another coding would let a cache serve that one. For other methods, all variants exist alike.
        let mut own_tag = |(own, variant): (StrongTag<'_>, Variant)| {
            (named.note(own, variant, coding) || !is_read).then(|| own.to_bytes())
        };
        if let Some(parts) = split(member) {
            return Some(own_tag(parts).into_iter().collect());
        }
        // RFC 9110 §8.8.3.2: the comparison is weak. The tag can also be the inner service's own, whose weak tags never
        // get a suffix from this layer, so it is forwarded as well.
        let own = own_tag(split_weak(member)?)?;
        Some(vec![member.to_vec(), own])
    });
    if is_unconditional {
        // RFC 9110 §13.1.3: it does not apply to requests with If-None-Match, such as this one.
        headers.remove(IF_MODIFIED_SINCE);
    }
    named
}

/// Replaces each entity tag in one field by those that `replace` returns, or keeps the tag if that is `None`.
///
/// Returns whether no entity tag is left. The field is then removed.
fn restore(headers: &mut HeaderMap, name: HeaderName, mut replace: impl FnMut(&[u8]) -> Option<Vec<Vec<u8>>>) -> bool {
    if !headers.get_all(&name).iter().any(|list| names_variant(&name, list)) {
        return false;
    }
    // Each line stays a line, so that an unbalanced quote in one does not change the meaning of the next.
    let lines: Vec<HeaderValue> = headers.get_all(&name).iter().cloned().collect();
    headers.remove(&name);
    for line in lines {
        let mut is_changed = false;
        let mut restored = Vec::new();
        for member in entity_tag::members(line.as_bytes()) {
            let replaced = replace(member);
            is_changed |= replaced.is_some();
            restored.extend(replaced.unwrap_or_else(|| vec![member.to_vec()]));
        }
        if !is_changed {
            headers.append(&name, line);
        } else if let Some(list) =
            HeaderValue::from_bytes(&restored.join(&b", "[..])).ok().filter(|list| !list.is_empty())
        {
            headers.append(&name, list);
        }
    }
    !headers.contains_key(&name)
}
