//! All that is stored under one key, and which of it a request may have.

use std::sync::Arc;

use http::HeaderMap;

use crate::memory::{REFERENCE_COUNTS, block};
use crate::stored::StoredResponse;

/// All that is stored under one key: one response per selection of request fields.
#[derive(Debug)]
pub(crate) struct Resource {
    variants: Vec<Arc<StoredResponse>>,
}

impl Resource {
    pub(crate) fn with(present: Option<&Resource>, response: Arc<StoredResponse>) -> Self {
        // Enough for every honest use; a client that makes up request fields must not grow it.
        const MOST: usize = 32;
        let mut variants: Vec<_> = present
            .map(|resource| &*resource.variants)
            .unwrap_or_default()
            .iter()
            .filter(|variant| variant.stays_beside(&response))
            .cloned()
            .collect();
        if variants.len() >= MOST {
            variants.remove(0);
        }
        variants.push(response);
        Self { variants }
    }

    /// `None` if that was the only one.
    pub(crate) fn without(&self, response: &Arc<StoredResponse>) -> Option<Self> {
        let variants: Vec<_> =
            self.variants.iter().filter(|variant| !Arc::ptr_eq(variant, response)).cloned().collect();
        (!variants.is_empty()).then_some(Self { variants })
    }

    pub(crate) fn variants(&self) -> &[Arc<StoredResponse>] {
        &self.variants
    }

    /// RFC 9111 §4.1: of several that match, the most recent by `Date`.
    pub(crate) fn select(&self, request: &HeaderMap) -> Option<Arc<StoredResponse>> {
        let whole = self.variants.iter().filter(|variant| variant.part.is_none());
        most_recent(whole.filter(|variant| variant.selecting.matches(request)))
    }

    pub(crate) fn holds_part(&self, request: &HeaderMap) -> bool {
        self.variants.iter().any(|variant| variant.part.is_some() && variant.selecting.matches(request))
    }

    /// A stored part that holds all of the range that is asked for.
    pub(crate) fn select_part(&self, request: &HeaderMap) -> Option<Arc<StoredResponse>> {
        let parts = self.variants.iter().filter(|variant| variant.answers_in_part(request).is_some());
        most_recent(parts.filter(|variant| variant.selecting.matches(request)))
    }
}

fn most_recent<'a>(variants: impl Iterator<Item = &'a Arc<StoredResponse>>) -> Option<Arc<StoredResponse>> {
    variants.max_by_key(|variant| (variant.freshness.date, variant.freshness.response_time)).cloned()
}

/// What a resource takes in memory under its key, all told.
pub(crate) fn weight(key: &str, resource: &Resource) -> u32 {
    // moka's own bookkeeping: the slot and the bucket of the hash table, the entry and its counters, the key's
    // reference count, the nodes of its queues, the share of the frequency sketch.
    const ENTRY: usize = 384;
    let variants: usize = resource.variants.iter().map(|variant| variant.weight()).sum();
    let list = block(size_of::<Resource>() + REFERENCE_COUNTS) + block(size_of_val(&*resource.variants));
    u32::try_from(ENTRY + block(key.len()) + list + variants).unwrap_or(u32::MAX)
}
