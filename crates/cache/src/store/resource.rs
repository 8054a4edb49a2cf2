//! The responses that are stored under one cache key.

use std::cmp::Reverse;
use std::sync::Arc;

use bytes::BytesMut;
use http::HeaderMap;

use crate::clock::Timestamp;
use crate::memory_size::{REFERENCE_COUNTS, allocation};
use crate::policy::stored_fields::add_missing;
use crate::policy::vary::{RequestFields, SelectingFields};
use crate::store::stored_response::StoredResponse;

/// The variants and partial responses that are stored under one cache key.
#[derive(Debug)]
pub(crate) struct Resource {
    variants: Vec<Arc<StoredResponse>>,
}

impl Resource {
    /// Returns a resource that contains `response` instead of the variants that it replaces.
    pub(crate) fn with_variant(present: Option<&Resource>, response: Arc<StoredResponse>) -> Self {
        // A client that invents values of request fields must not grow the resource.
        const MAX: usize = 32;
        let mut variants: Vec<_> = present
            .map(|resource| &*resource.variants)
            .unwrap_or_default()
            .iter()
            .filter(|variant| variant.coexists_with(&response))
            .cloned()
            .collect();
        if let Some(whole) = join_parts(&variants, &response) {
            variants.retain(|variant| variant.coexists_with(&whole));
            variants.push(Arc::new(whole));
            return Self { variants };
        }
        // A response starts with half of the hits of the variant that it replaces, as an estimate.
        if let Some(resource) = present {
            let replaced = resource.variants.iter().filter(|variant| !variant.coexists_with(&response));
            response.add_hits(replaced.map(|variant| variant.hits() / 2).max().unwrap_or(0));
        }
        if variants.len() >= MAX
            && let Some(index) = eviction_candidate(&variants, response.freshness.response_time)
        {
            variants.remove(index);
        }
        variants.push(response);
        Self { variants }
    }

    /// Creates a resource from variants that can coexist.
    pub(crate) fn from_variants(variants: Vec<Arc<StoredResponse>>) -> Self {
        Self { variants }
    }

    /// Returns the resource without one variant, or `None` if no variant remains.
    pub(crate) fn without(&self, response: &Arc<StoredResponse>) -> Option<Self> {
        let variants: Vec<_> =
            self.variants.iter().filter(|variant| !Arc::ptr_eq(variant, response)).cloned().collect();
        (!variants.is_empty()).then_some(Self { variants })
    }

    pub(crate) fn variants(&self) -> &[Arc<StoredResponse>] {
        &self.variants
    }

    /// Returns the complete stored response that matches a request. Of several, it is the most recent one.
    // RFC 9111 §4.1
    pub(crate) fn select(&self, request: &HeaderMap) -> Option<Arc<StoredResponse>> {
        let whole = self.variants.iter().filter(|variant| variant.part.is_none());
        let mut request = RequestFields::new(request);
        most_recent(whole.filter(|variant| variant.selecting_fields.matches(&mut request)))
    }

    /// Whether a partial response that matches a request is stored.
    pub(crate) fn has_part(&self, request: &HeaderMap) -> bool {
        let mut request = RequestFields::new(request);
        let is_selected =
            |variant: &Arc<StoredResponse>| variant.part.is_some() && variant.selecting_fields.matches(&mut request);
        self.variants.iter().any(is_selected)
    }

    /// Whether a complete response with these selecting fields is stored.
    pub(crate) fn has_whole(&self, selecting_fields: &SelectingFields) -> bool {
        let is_whole = |variant: &Arc<StoredResponse>| variant.part.is_none();
        self.variants.iter().any(|variant| is_whole(variant) && variant.selecting_fields == *selecting_fields)
    }

    /// Returns the stored part that contains the requested range.
    pub(crate) fn select_part(&self, request: &HeaderMap) -> Option<Arc<StoredResponse>> {
        let parts = self.variants.iter().filter(|variant| variant.slice_for(request).is_some());
        let mut request_fields = RequestFields::new(request);
        most_recent(parts.filter(|variant| variant.selecting_fields.matches(&mut request_fields)))
    }
}

/// Returns the index of the variant to evict: a stale variant, or else the one with the fewest hits.
///
/// So the variants of a client that invents values, and requests each of them once, do not evict those of other clients.
fn eviction_candidate(variants: &[Arc<StoredResponse>], now: Timestamp) -> Option<usize> {
    let usefulness = |variant: &StoredResponse| (variant.freshness_now(now).ttl > 0, variant.hits());
    // Of several, the first is the oldest.
    (0..variants.len()).min_by_key(|&index| usefulness(&variants[index]))
}

/// Combines `newest` and the parts of the same representation, if they form the complete response.
// RFC 9111 §3.4
fn join_parts(variants: &[Arc<StoredResponse>], newest: &Arc<StoredResponse>) -> Option<StoredResponse> {
    let newest_part = newest.part.as_ref().filter(|part| part.is_whole_storable && newest.validators.is_strong())?;
    let can_join = |part: &StoredResponse| {
        // A part that is shorter than its range is not used.
        let is_consistent = part.part.as_ref().is_some_and(|range| {
            range.complete_length() == newest_part.complete_length() && range.length() == part.body().len() as u64
        });
        is_consistent
            && part.selecting_fields == newest.selecting_fields
            && part.validators.etag == newest.validators.etag
    };
    let first = |part: &StoredResponse| part.part.as_ref().map_or(0, |range| range.range().0);
    let mut parts: Vec<_> = variants.iter().chain([newest]).filter(|part| can_join(part)).collect();
    parts.sort_unstable_by_key(|part| first(part));
    let mut pieces = Vec::with_capacity(parts.len());
    let mut length: u64 = 0;
    for part in &parts {
        // A gap ends the search; an overlap is skipped.
        let overlap = length.checked_sub(first(part))?;
        if let Some(piece) = part.body().get(usize::try_from(overlap).ok()?..) {
            pieces.push(piece);
            length += piece.len() as u64;
        }
    }
    if length != newest_part.complete_length() {
        return None;
    }
    let mut body = BytesMut::with_capacity(usize::try_from(length).ok()?);
    pieces.into_iter().for_each(|piece| body.extend_from_slice(piece));
    // Fields of the newest part take precedence. It can omit fields of the others (RFC 9110 §15.3.7).
    let mut headers = newest.headers().clone();
    parts.sort_unstable_by_key(|part| Reverse((part.freshness.date, part.freshness.response_time)));
    parts.iter().for_each(|part| add_missing(&mut headers, part.headers()));
    Some(newest.completed_with(body.freeze(), headers))
}

fn most_recent<'a>(variants: impl Iterator<Item = &'a Arc<StoredResponse>>) -> Option<Arc<StoredResponse>> {
    variants.max_by_key(|variant| (variant.freshness.date, variant.freshness.response_time)).cloned()
}

/// Returns the memory that a resource and its key occupy.
pub(crate) fn weight(key: &str, resource: &Resource) -> u32 {
    // The overhead of moka: the slot and bucket of the hash table, the entry with its counters, the reference count of the key, the
    // nodes of the queues, and a share of the frequency sketch.
    const ENTRY: usize = 384;
    let variants: usize = resource.variants.iter().map(|variant| variant.weight()).sum();
    let list = allocation(size_of::<Resource>() + REFERENCE_COUNTS) + allocation(size_of_val(&*resource.variants));
    u32::try_from(ENTRY + allocation(key.len()) + list + variants).unwrap_or(u32::MAX)
}
