//! The binary encoding of resources for second-level stores.
//!
//! It is private to this crate: an entry of another version, or with another secret for tags, is not decoded.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

use bytes::{Buf, BufMut, Bytes};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::clock::Timestamp;
use crate::policy::freshness::{Basis, Freshness, StaleUse};
use crate::policy::range::StoredRange;
use crate::policy::storability::StorageTerms;
use crate::policy::tags::{TagKey, Tags};
use crate::policy::vary::SelectingFields;
use crate::store::resource::Resource;
use crate::store::stored_response::StoredResponse;

/// Encodes a resource as a list of buffers. The bodies are shared and not copied.
pub(crate) fn encode(resource: &Resource, key: TagKey) -> Vec<Bytes> {
    let variants = resource.variants();
    let mut pieces = Vec::with_capacity(2 * variants.len() + 1);
    let mut out = Vec::with_capacity(1024);
    out.put_slice(VERSION);
    out.put_u64(tag_key_check(key));
    out.put_u64(process_id());
    out.put_u16(variants.len() as u16);
    for variant in variants {
        put_variant(&mut out, variant);
        out.put_u64(variant.body().len() as u64);
        pieces.push(Bytes::from(std::mem::take(&mut out)));
        pieces.push(variant.body().clone());
    }
    pieces
}

/// Decodes a resource, or returns `None` if the entry is invalid.
pub(crate) fn decode(bytes: Bytes, key: TagKey) -> Option<Resource> {
    let mut input = Input(bytes);
    if &*input.take(VERSION.len())? != VERSION || input.u64()? != tag_key_check(key) {
        return None;
    }
    // Each process counts the invalidations of tags from zero.
    let is_same_process = input.u64()? == process_id();
    let count = input.u16()?;
    let variants: Option<Vec<_>> = (0..count).map(|_| variant(&mut input, is_same_process).map(Arc::new)).collect();
    let variants = variants.filter(|variants| !variants.is_empty() && input.0.is_empty())?;
    Some(Resource::from_variants(variants))
}

const VERSION: &[u8] = b"rproxy-cache 4\n";

/// Returns a hash by which entries with a different tag key or hash function are recognised.
fn tag_key_check(key: TagKey) -> u64 {
    key.hash("which hash is it?")
}

/// Returns a random number that identifies the current process.
fn process_id() -> u64 {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    *PROCESS.get_or_init(|| RandomState::new().hash_one(()))
}

fn put_variant(out: &mut Vec<u8>, variant: &StoredResponse) {
    out.put_u16(variant.status.as_u16());
    out.put_u8(u8::from(variant.is_marked_stale()) | u8::from(variant.has_request_credentials) << 1);
    put_section(out, variant.headers());
    out.put_u8(u8::from(variant.trailers().is_some()));
    if let Some(trailers) = variant.trailers() {
        put_section(out, trailers);
    }
    put_optional(out, variant.other_cache_status().map(HeaderValue::as_bytes));
    let selecting_fields = variant.selecting_fields.fields();
    out.put_u32(selecting_fields.len() as u32);
    for (name, value) in selecting_fields {
        put_bytes(out, name.as_str().as_bytes());
        put_optional(out, value);
    }
    put_freshness(out, &variant.freshness);
    match &variant.part {
        None => out.put_u8(0),
        Some(part) => {
            out.put_u8(1);
            let (first, last, complete_length, is_whole_storable, range_field) = part.fields();
            [first, last, complete_length].into_iter().for_each(|position| out.put_u64(position));
            out.put_u8(u8::from(is_whole_storable));
            put_bytes(out, range_field);
        }
    }
    out.put_u64(variant.tags().generation());
    out.put_u32(variant.tags().hashes().len() as u32);
    variant.tags().hashes().iter().for_each(|hash| out.put_u64(*hash));
}

fn put_section(out: &mut Vec<u8>, fields: &HeaderMap) {
    out.put_u32(fields.len() as u32);
    for (name, value) in fields {
        put_bytes(out, name.as_str().as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

fn put_freshness(out: &mut Vec<u8>, freshness: &Freshness) {
    let Freshness {
        freshness_lifetime,
        basis,
        initial_age,
        response_time,
        date,
        no_cache,
        immutable,
        is_permitted,
        stale_use,
        stale_while_revalidate,
        stale_if_error,
    } = freshness;
    out.put_u64(*freshness_lifetime);
    out.put_u8(BASES.iter().position(|known| known == basis).unwrap_or_default() as u8);
    [*initial_age, response_time.milliseconds(), *date].into_iter().for_each(|time| out.put_u64(time));
    out.put_u8(u8::from(*no_cache) | u8::from(*immutable) << 1 | u8::from(*is_permitted) << 2);
    out.put_u8(STALE_USES.iter().position(|known| known == stale_use).unwrap_or_default() as u8);
    [*stale_while_revalidate, *stale_if_error].into_iter().for_each(|time| out.put_u64(time));
}

const BASES: [Basis; 5] = [Basis::Missing, Basis::SMaxage, Basis::MaxAge, Basis::Expires, Basis::Heuristic];
const STALE_USES: [StaleUse; 3] = [StaleUse::Forbidden, StaleUse::OnlyInWindow, StaleUse::Allowed];

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.put_u8(u8::from(bytes.is_some()));
    put_bytes(out, bytes.unwrap_or_default());
}

fn variant(input: &mut Input, is_same_process: bool) -> Option<StoredResponse> {
    let status = StatusCode::from_u16(input.u16()?).ok()?;
    let flags = input.u8()?;
    let (is_marked_stale, has_request_credentials) = (flags & 1 != 0, flags & 2 != 0);
    let headers = section(input)?;
    let trailers = if input.bool()? { Some(section(input)?) } else { None };
    let other_cache_status = match input.optional()? {
        Some(value) => Some(HeaderValue::from_maybe_shared(value).ok()?),
        None => None,
    };
    let mut selecting_fields = Vec::new();
    for _ in 0..input.count()? {
        let name = HeaderName::from_bytes(&input.bytes()?).ok()?;
        selecting_fields.push((name, input.optional()?.map(|value| value.to_vec().into())));
    }
    let freshness = freshness(input)?;
    let part = if input.bool()? {
        let (first, last, complete_length) = (input.u64()?, input.u64()?, input.u64()?);
        let (is_whole_storable, range_field) = (input.bool()?, input.bytes()?.to_vec().into());
        Some(StoredRange::from_fields(first, last, complete_length, is_whole_storable, range_field)?)
    } else {
        None
    };
    let generation = input.u64()?;
    let hashes: Option<Box<[u64]>> = (0..input.count()?).map(|_| input.u64()).collect();
    let tags = Tags::from_hashes(hashes?, if is_same_process { generation } else { 0 });
    let length = usize::try_from(input.u64()?).ok()?;
    let body = input.take(length)?;
    let selecting_fields = SelectingFields::from_fields(selecting_fields);
    let excluded_fields = Vec::new();
    let terms = StorageTerms { freshness, selecting_fields, excluded_fields, part, tags, has_request_credentials };
    let content = (body, trailers);
    Some(StoredResponse::restored(status, headers, other_cache_status, terms, content, is_marked_stale))
}

fn section(input: &mut Input) -> Option<HeaderMap> {
    let count = input.count()?;
    let mut fields = HeaderMap::with_capacity(count);
    for _ in 0..count {
        let name = HeaderName::from_bytes(&input.bytes()?).ok()?;
        fields.append(name, HeaderValue::from_maybe_shared(input.bytes()?).ok()?);
    }
    Some(fields)
}

fn freshness(input: &mut Input) -> Option<Freshness> {
    let freshness_lifetime = input.u64()?;
    let basis = *BASES.get(usize::from(input.u8()?))?;
    let initial_age = input.u64()?;
    let response_time = Timestamp::from_milliseconds(input.u64()?);
    let date = input.u64()?;
    let flags = input.u8()?;
    let stale_use = *STALE_USES.get(usize::from(input.u8()?))?;
    Some(Freshness {
        freshness_lifetime,
        basis,
        initial_age,
        response_time,
        date,
        no_cache: flags & 1 != 0,
        immutable: flags & 2 != 0,
        is_permitted: flags & 4 != 0,
        stale_use,
        stale_while_revalidate: input.u64()?,
        stale_if_error: input.u64()?,
    })
}

/// The encoded bytes that have not been decoded yet. Each method returns `None` if too few are left.
struct Input(Bytes);

impl Input {
    fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    fn u8(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    fn bool(&mut self) -> Option<bool> {
        Some(self.u8()? != 0)
    }

    fn u16(&mut self) -> Option<u16> {
        self.0.try_get_u16().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.0.try_get_u64().ok()
    }

    /// Decodes the number of items in a list. Each takes at least one byte, which limits the allocation for a corrupt
    /// entry.
    fn count(&mut self) -> Option<usize> {
        let count = self.0.try_get_u32().ok()? as usize;
        (count <= self.0.len()).then_some(count)
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let length = self.count()?;
        self.take(length)
    }

    fn optional(&mut self) -> Option<Option<Bytes>> {
        let is_present = self.bool()?;
        self.bytes().map(|bytes| is_present.then_some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::cache_status::Member;
    use crate::policy::storability::StorageRequest;
    use crate::set_cookie::SetCookiePolicy;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn stored(
        status: u16,
        request: &[(&'static str, &'static str)],
        fields: &[(&'static str, &'static str)],
        body: &'static str,
    ) -> Arc<StoredResponse> {
        let (request, headers) = (map(request), map(fields));
        let status = StatusCode::from_u16(status).unwrap();
        let terms = StorageTerms::for_response(exchange(&request), status, &headers, now()).unwrap();
        StoredResponse::new(status, &headers, terms).with_body(Bytes::from_static(body.as_bytes())).into()
    }

    fn now() -> Timestamp {
        Timestamp::from(UNIX_EPOCH + Duration::from_secs(1_700_000_000))
    }

    fn exchange(headers: &HeaderMap) -> StorageRequest<'_> {
        StorageRequest {
            origin: "http://a.example",
            path: "/",
            tag_generation: 7,
            tag_key: KEY,
            headers,
            is_authenticated: false,
            request_time: now(),
            set_cookie: SetCookiePolicy::Strip,
            heuristic_freshness: false,
        }
    }

    fn resource() -> Resource {
        let fresh = ("cache-control", "max-age=60, stale-while-revalidate=9, stale-if-error=8, immutable");
        let tags = [("cache-groups", "\"a\", \"b\""), ("surrogate-key", "c")];
        let whole =
            [fresh, ("vary", "foo, bar"), ("etag", "\"v1\""), ("age", "5"), ("x", "1"), ("x", "2"), tags[0], tags[1]];
        let part = [
            ("expires", "Wed, 15 Nov 2023 22:13:20 GMT"),
            ("content-range", "bytes 2-4/9"),
            ("cache-status", "Near; hit"),
        ];
        let validated =
            [("cache-control", "no-cache"), ("last-modified", "Tue, 14 Nov 2023 22:13:20 GMT"), ("vary", "baz")];
        Resource::from_variants(vec![
            stored(200, &[("foo", "1")], &whole, "whole"),
            stored(206, &[("range", "bytes=2-4")], &part, "abc"),
            stored(404, &[("baz", "")], &validated, ""),
            trailed(),
        ])
    }

    fn trailed() -> Arc<StoredResponse> {
        let fields = [("cache-control", "max-age=60"), ("vary", "trailed")];
        let (request, headers) = (HeaderMap::new(), map(&fields));
        let terms = StorageTerms::for_response(exchange(&request), StatusCode::OK, &headers, now()).unwrap();
        let response = StoredResponse::new(StatusCode::OK, &headers, terms);
        response.set_content(Bytes::from_static(b"trailed"), Some(Box::new(map(&[("x-sum", "1"), ("x-sum", "2")]))));
        Arc::new(response)
    }

    const KEY: TagKey = TagKey::new([7; 16]);

    fn encoded() -> Bytes {
        encode(&resource(), KEY).concat().into()
    }

    #[test]
    fn encoded_resources_decode_to_the_same_resource() {
        let (before, after) = (resource(), decode(encoded(), KEY).unwrap());
        assert_eq!(before.variants().len(), after.variants().len());
        for (before, after) in before.variants().iter().zip(after.variants()) {
            let head = |response: &StoredResponse| (response.status, response.response_headers(9, Member::hit()));
            assert_eq!(head(before), head(after));
            assert_eq!((before.body(), &before.freshness), (after.body(), &after.freshness));
            assert_eq!(before.trailers(), after.trailers());
            assert_eq!((&before.selecting_fields, &before.validators), (&after.selecting_fields, &after.validators));
            assert_eq!((&before.part, before.tags()), (&after.part, after.tags()));
            assert_eq!(before.is_marked_stale(), after.is_marked_stale());
        }
    }

    #[test]
    fn encoding_preserves_the_soft_purge_mark() {
        let resource = resource();
        resource.variants()[0].mark_stale();
        let after = decode(encode(&resource, KEY).concat().into(), KEY).unwrap();
        assert_eq!(
            after.variants().iter().map(|variant| variant.is_marked_stale()).collect::<Vec<_>>(),
            [true, false, false, false]
        );
    }

    #[test]
    fn rejects_truncated_cache_entries_and_trailing_bytes() {
        let bytes = encoded();
        for end in 0..bytes.len() {
            assert!(decode(bytes.slice(..end), KEY).is_none(), "{end}");
        }
        assert!(decode([&bytes[..], b"x"].concat().into(), KEY).is_none());
    }

    #[test]
    fn rejects_a_cache_entry_with_a_different_tag_key() {
        assert!(decode(encoded(), TagKey::new([8; 16])).is_none());
    }

    #[test]
    fn rejects_a_cache_entry_with_a_different_format_version() {
        let mut bytes = encoded().to_vec();
        bytes[VERSION.len() - 2] += 1;
        assert!(decode(bytes.into(), KEY).is_none());
    }

    proptest! {
        #[test]
        fn decoding_a_cache_entry_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = encoded().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode(bytes.into(), KEY);
            let _ = decode([VERSION, &tag_key_check(KEY).to_be_bytes(), &noise].concat().into(), KEY);
        }
    }
}
