//! All that is stored under one key, and which of it a request may have.

use std::sync::Arc;

use bytes::BytesMut;
use http::HeaderMap;

use crate::clock::Timestamp;
use crate::fields::add_missing;
use crate::memory::{REFERENCE_COUNTS, block};
use crate::stored::StoredResponse;
use crate::vary::{Compared, Selecting};

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
        if let Some(whole) = completed(&variants, &response) {
            variants.retain(|variant| variant.stays_beside(&whole));
            variants.push(Arc::new(whole));
            return Self { variants };
        }
        // What takes the place of others is asked for as often as they were, as far as that still says something.
        if let Some(resource) = present {
            let replaced = resource.variants.iter().filter(|variant| !variant.stays_beside(&response));
            response.add_uses(replaced.map(|variant| variant.uses() / 2).max().unwrap_or(0));
        }
        if variants.len() >= MOST
            && let Some(least) = least_useful(&variants, response.freshness.response_time)
        {
            variants.remove(least);
        }
        variants.push(response);
        Self { variants }
    }

    /// Of responses that are known to stand beside each other.
    pub(crate) fn of(variants: Vec<Arc<StoredResponse>>) -> Self {
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
        let mut request = Compared::new(request);
        most_recent(whole.filter(|variant| variant.selecting.matches(&mut request)))
    }

    pub(crate) fn holds_part(&self, request: &HeaderMap) -> bool {
        let mut request = Compared::new(request);
        self.variants.iter().any(|variant| variant.part.is_some() && variant.selecting.matches(&mut request))
    }

    /// Whether a complete response is stored for the requests that `selecting` selects.
    pub(crate) fn holds_whole(&self, selecting: &Selecting) -> bool {
        self.variants.iter().any(|variant| variant.part.is_none() && variant.selecting == *selecting)
    }

    /// A stored part that holds all of the range that is asked for.
    pub(crate) fn select_part(&self, request: &HeaderMap) -> Option<Arc<StoredResponse>> {
        let parts = self.variants.iter().filter(|variant| variant.answers_in_part(request).is_some());
        let mut compared = Compared::new(request);
        most_recent(parts.filter(|variant| variant.selecting.matches(&mut compared)))
    }
}

/// The variant that has to make room for another: a stale one, else the one that the fewest requests got. So values that
/// one client makes up, each of which it asks for once, do not push out the variants of all others.
fn least_useful(variants: &[Arc<StoredResponse>], now: Timestamp) -> Option<usize> {
    let usefulness = |variant: &StoredResponse| (variant.moment(now).ttl > 0, variant.uses());
    // Of several the first, which is the oldest.
    (0..variants.len()).min_by_key(|&at| usefulness(&variants[at]))
}

/// What `newest` and the parts beside it are together, if that is all of it.
// RFC 9111 §3.4
fn completed(variants: &[Arc<StoredResponse>], newest: &Arc<StoredResponse>) -> Option<StoredResponse> {
    let whole = newest.part.as_ref().filter(|part| part.may_complete && newest.validators.is_strong())?;
    let fits = |part: &StoredResponse| {
        // Parts that were cut off may be anything behind what came.
        let is_sound = part.part.as_ref().is_some_and(|part_of| {
            part_of.complete_length() == whole.complete_length() && part_of.length() == part.body().len() as u64
        });
        is_sound && part.selecting == newest.selecting && part.validators.etag == newest.validators.etag
    };
    let mut parts: Vec<&Arc<StoredResponse>> = variants.iter().chain([newest]).filter(|part| fits(part)).collect();
    parts.sort_unstable_by_key(|part| part.part.as_ref().map_or(0, |part| part.first));
    let mut rest = Vec::with_capacity(parts.len());
    let mut length: u64 = 0;
    for part in &parts {
        let known = length.checked_sub(part.part.as_ref()?.first)?;
        if let Some(new) = part.body().get(usize::try_from(known).ok()?..) {
            rest.push(new);
            length += new.len() as u64;
        }
    }
    if length != whole.complete_length() {
        return None;
    }
    let mut body = BytesMut::with_capacity(usize::try_from(length).ok()?);
    rest.into_iter().for_each(|bytes| body.extend_from_slice(bytes));
    // What the newest says replaces what the others say, and what it leaves out stays (RFC 9110 §15.3.7 lets it).
    let mut headers = newest.headers().clone();
    parts.sort_unstable_by_key(|part| std::cmp::Reverse((part.freshness.date, part.freshness.response_time)));
    parts.iter().for_each(|part| add_missing(&mut headers, part.headers()));
    Some(newest.completed_by(body.freeze(), headers))
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
