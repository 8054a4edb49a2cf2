//! The store: moka underneath, bounded by what heads, bodies and keys weigh.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use moka::notification::RemovalCause;
use moka::ops::compute::Op;
use moka::sync::Cache;

use crate::flights::Flights;
use crate::generations::{Generations, Ticket};
use crate::key::Key;
use crate::reservation::{Budget, Reservation};
use crate::resource::{Resource, weight};
use crate::searches::Searches;
use crate::stored::StoredResponse;
use crate::tags::TagKey;
use crate::tier::{Tier, TierStats};

/// Stored responses, shared by everything that clones this.
///
/// Memory: complete responses take at most the capacity, heads, keys and bookkeeping included. Bodies
/// that are being written while their client reads them may take another quarter of it.
#[derive(Clone)]
pub struct CacheStore {
    shared: Arc<Shared>,
}

struct Shared {
    resources: Cache<Box<str>, Arc<Resource>>,
    generations: Generations,
    flights: Arc<Flights>,
    searches: Searches,
    counters: Arc<Counters>,
    capacity: u64,
    unfinished: Arc<Budget>,
    /// What was stored since moka last saw to its bound.
    unsettled: AtomicU64,
    tier: OnceLock<Arc<dyn Tier>>,
    tag_key: OnceLock<TagKey>,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    collapsed: AtomicU64,
    loaded: AtomicU64,
    stored: AtomicU64,
    evictions: AtomicU64,
}

/// What a [`CacheStore`] has done so far and holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Requests answered from the store without asking the inner service.
    pub hits: u64,
    /// Requests that could have been, and were not.
    pub misses: u64,
    /// Of those, requests that were answered by what another one brought.
    pub collapsed: u64,
    /// Resources that came back from the [tier](CacheStore::behind) behind memory.
    pub loaded: u64,
    /// Responses stored, those that replaced another included.
    pub stored: u64,
    /// Resources dropped to make room, or refused admission for others that are asked for more often.
    pub evictions: u64,
    /// Resources in the store; each may have several variants.
    pub entries: u64,
    /// Bytes that the resources weigh.
    pub weighted_size: u64,
    /// Bytes that they may weigh.
    pub capacity: u64,
    /// What the tier behind memory holds; nothing without one.
    pub tier: TierStats,
}

impl CacheStore {
    /// Keeps at most `capacity` bytes in memory. What is asked for most stays (TinyLFU).
    #[must_use]
    pub fn in_memory(capacity: u64) -> Self {
        let counters = Arc::new(Counters::default());
        let listener = Arc::clone(&counters);
        let resources = Cache::<Box<str>, Arc<Resource>>::builder()
            .name("rproxy-cache")
            .max_capacity(capacity)
            .weigher(|key, resource| weight(key, resource))
            .eviction_listener(move |_, _, cause: RemovalCause| {
                if cause.was_evicted() {
                    listener.evictions.fetch_add(1, Ordering::Relaxed);
                }
            })
            .build();
        let shared = Shared {
            resources,
            generations: Generations::default(),
            flights: Flights::new(),
            searches: Searches::new((capacity / 64).max(64 << 10)),
            counters,
            capacity,
            unfinished: Budget::new((capacity / 4).max(1 << 20)),
            unsettled: AtomicU64::new(0),
            tier: OnceLock::new(),
            tag_key: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Puts a tier behind the memory: all that may last is kept there, too, and looked for where memory has nothing. The first
    /// one that is given to a store or its clones is the one.
    #[must_use]
    pub fn behind(self, tier: impl Tier) -> Self {
        let secret = tier.secret();
        if self.shared.tier.set(Arc::new(tier)).is_ok()
            && let Some(secret) = secret
        {
            let _ = self.shared.tag_key.set(TagKey::new(secret));
        }
        self
    }

    /// Waits until all that was stored has arrived in the tier behind the memory. Blocks; to be called at the end.
    pub fn flush(&self) {
        if let Some(tier) = self.tier() {
            tier.flush();
        }
    }

    /// Counters and sizes, for metrics.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let Shared { resources, counters, capacity, tier, .. } = &*self.shared;
        resources.run_pending_tasks();
        CacheStats {
            hits: counters.hits.load(Ordering::Relaxed),
            misses: counters.misses.load(Ordering::Relaxed),
            collapsed: counters.collapsed.load(Ordering::Relaxed),
            loaded: counters.loaded.load(Ordering::Relaxed),
            stored: counters.stored.load(Ordering::Relaxed),
            evictions: counters.evictions.load(Ordering::Relaxed),
            entries: resources.entry_count(),
            weighted_size: resources.weighted_size(),
            capacity: *capacity,
            tier: tier.get().map(|tier| tier.stats()).unwrap_or_default(),
        }
    }

    pub(crate) fn tier(&self) -> Option<&Arc<dyn Tier>> {
        self.shared.tier.get()
    }

    /// What tags are hashed with.
    pub(crate) fn tag_key(&self) -> TagKey {
        *self.shared.tag_key.get_or_init(TagKey::random)
    }

    pub(crate) fn resources(&self) -> &Cache<Box<str>, Arc<Resource>> {
        &self.shared.resources
    }

    pub(crate) fn generations(&self) -> &Generations {
        &self.shared.generations
    }

    pub(crate) fn lookup(&self, key: &str) -> Option<Arc<Resource>> {
        let resource = self.shared.resources.get(key)?;
        let current = |response: &Arc<StoredResponse>| self.shared.generations.are_current(response.tags());
        if resource.variants().iter().all(current) {
            return Some(resource);
        }
        // A group of it was invalidated, RFC 9875 §3: the rest is what is left.
        resource
            .variants()
            .iter()
            .filter(|response| !current(response))
            .for_each(|response| self.forget(key, response));
        self.shared.resources.get(key).filter(|resource| resource.variants().iter().all(current))
    }

    pub(crate) fn holds(&self, key: &str) -> bool {
        self.shared.resources.contains_key(key)
    }

    pub(crate) fn count_loaded(&self) {
        self.shared.counters.loaded.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_hit(&self, stored: &StoredResponse) {
        stored.add_uses(1);
        self.shared.counters.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_miss(&self) {
        self.shared.counters.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_collapsed(&self) {
        self.shared.counters.collapsed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn flights(&self) -> &Arc<Flights> {
        &self.shared.flights
    }

    /// To be taken before the origin is asked.
    pub(crate) fn ticket(&self, key: &str) -> Ticket {
        self.shared.generations.ticket(key)
    }

    /// Stores `response`, unless the resource was invalidated after `ticket` was taken: then it may
    /// be what the origin said before the change. Returns whether it is stored.
    pub(crate) fn put(&self, key: Box<str>, ticket: Ticket, response: Arc<StoredResponse>) -> bool {
        let generations = &self.shared.generations;
        let recheck = key.clone();
        let weight = response.weight() as u64;
        let mut stored = None;
        self.shared.resources.entry(key).and_compute_with(|present| {
            if !generations.still_holds(ticket) {
                return Op::Nop;
            }
            let present = present.map(moka::Entry::into_value);
            let resource = Arc::new(Resource::with(present.as_deref(), response));
            stored = Some(Arc::clone(&resource));
            Op::Put(resource)
        });
        let is_stored = stored.is_some();
        if let Some(resource) = stored {
            self.shared.counters.stored.fetch_add(1, Ordering::Relaxed);
            self.settle(weight);
            self.keep_behind(&recheck, &resource);
        }
        // An invalidation between the check and the insertion found nothing to remove.
        if !generations.still_holds(ticket) {
            self.shared.resources.invalidate(&recheck);
            self.remove_behind(&recheck);
            return false;
        }
        is_stored
    }

    /// Stores an incomplete response, unless a complete one would make room for it: that may still be of use when the origin
    /// fails.
    pub(crate) fn put_part(&self, key: Box<str>, ticket: Ticket, part: StoredResponse) {
        if self.lookup(&key).is_none_or(|resource| !resource.holds_whole(&part.selecting)) {
            self.put(key, ticket, Arc::new(part));
        }
    }

    /// moka sees to its bound after some hundred insertions, whatever they weigh: of large bodies that would be far too
    /// late.
    fn settle(&self, stored: u64) {
        let Shared { resources, unsettled, capacity, .. } = &*self.shared;
        if unsettled.fetch_add(stored, Ordering::Relaxed) + stored > capacity / 64 {
            unsettled.store(0, Ordering::Relaxed);
            resources.run_pending_tasks();
        }
    }

    /// Drops one variant, if it is still there.
    pub(crate) fn forget(&self, key: &str, response: &Arc<StoredResponse>) {
        let mut left = None;
        self.shared.resources.entry(key.into()).and_compute_with(|present| {
            let Some(resource) = present.map(moka::Entry::into_value) else {
                return Op::Nop;
            };
            left = resource.without(response).map(Arc::new);
            left.clone().map_or(Op::Remove, Op::Put)
        });
        match left {
            Some(rest) => self.keep_behind(key, &rest),
            None => {
                self.remove_behind(key);
            }
        }
    }

    /// RFC 9111 §4.4
    pub(crate) fn invalidate(&self, key: &Key) -> bool {
        self.shared.generations.advance(key.as_str());
        let removed = |key: &Key| {
            let behind = self.remove_behind(key.as_str());
            self.shared.resources.remove(key.as_str()).is_some() || behind
        };
        // What means the same changes with it.
        let same = self.shared.searches.of(key).is_some_and(|same| removed(&same));
        removed(key) || same
    }

    pub(crate) fn searches(&self) -> &Searches {
        &self.shared.searches
    }

    /// All that has the tag is out of date, and no longer found; where it lies takes no search.
    pub(crate) fn invalidate_tag(&self, tag: u64) {
        self.shared.generations.advance_tag(tag);
    }

    /// Whether a body of so many bytes may be written now, and stored then.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        (self.tier().is_some() || bytes <= self.shared.capacity) && self.reserve(bytes).is_some()
    }

    /// Room for a body that is being written; `None` if too many are.
    pub(crate) fn reserve(&self, bytes: u64) -> Option<Reservation> {
        Reservation::new(&self.shared.unfinished, bytes)
    }
}

impl fmt::Debug for CacheStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheStore").field("capacity", &self.shared.capacity).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::UNIX_EPOCH;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode, header};

    use super::*;
    use crate::purge::Purge;
    use crate::set_cookie::SetCookie;
    use crate::storing::{Request, Terms};

    fn response(vary: &str, request: &[(&str, &str)], body: &'static [u8]) -> Arc<StoredResponse> {
        let request: HeaderMap = request
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        let headers = HeaderMap::from_iter([
            (header::CACHE_CONTROL, HeaderValue::from_static("max-age=60")),
            (header::VARY, HeaderValue::from_str(vary).unwrap()),
        ]);
        let now = UNIX_EPOCH.into();
        let (origin, path, set_cookie) = ("http://a.example", "/", SetCookie::Strip);
        let tag_key = TagKey::new([0; 16]);
        let request = Request {
            origin,
            path,
            tagged: 0,
            tag_key,
            headers: &request,
            request_time: now,
            set_cookie,
            heuristic: false,
        };
        let terms = Terms::for_response(request, StatusCode::OK, &headers, now).unwrap();
        StoredResponse::new(StatusCode::OK, &headers, terms).with_body(Bytes::from_static(body)).into()
    }

    pub(crate) fn put(store: &CacheStore, key: &str, body: &'static [u8]) {
        store.put(key.into(), store.ticket(key), response("", &[], body));
    }

    #[test]
    fn a_variant_replaces_its_like_and_no_other() {
        let store = CacheStore::in_memory(1 << 20);
        for (foo, body) in [("1", &b"one"[..]), ("2", b"two"), ("1", b"uno")] {
            store.put("k".into(), store.ticket("k"), response("foo", &[("foo", foo)], body));
        }
        let resource = store.lookup("k").unwrap();
        assert_eq!(resource.variants().len(), 2);
        let foo = |value| HeaderMap::from_iter([("foo".parse().unwrap(), HeaderValue::from_static(value))]);
        assert_eq!(resource.select(&foo("1")).unwrap().body(), "uno");
        assert_eq!(resource.select(&foo("2")).unwrap().body(), "two");
        assert!(resource.select(&foo("3")).is_none());
    }

    #[test]
    fn variants_are_bounded() {
        let store = CacheStore::in_memory(1 << 20);
        for n in 0..100 {
            store.put("k".into(), store.ticket("k"), response("foo", &[("foo", &n.to_string())], b""));
        }
        assert_eq!(store.lookup("k").unwrap().variants().len(), 32);
    }

    #[test]
    fn what_was_invalidated_on_its_way_is_not_stored() {
        // RFC 9111 §4.4
        let store = CacheStore::in_memory(1 << 20);
        let key = Key::from_uri(&http::Uri::from_static("http://a.example/k")).unwrap();
        let ways: [fn(&CacheStore, &Key) -> bool; 2] =
            [|store, key| store.invalidate(key), |store, _| store.purge(&Purge::All) > 0];
        for invalidate in ways {
            let ticket = store.ticket(key.as_str());
            invalidate(&store, &key);
            store.put(key.as_str().into(), ticket, response("", &[], b"old"));
            assert!(store.lookup(key.as_str()).is_none());
            put(&store, key.as_str(), b"new");
            assert!(store.lookup(key.as_str()).is_some());
        }
    }

    #[test]
    fn one_variant_can_be_forgotten() {
        let store = CacheStore::in_memory(1 << 20);
        store.put("k".into(), store.ticket("k"), response("foo", &[("foo", "1")], b"one"));
        store.put("k".into(), store.ticket("k"), response("foo", &[("foo", "2")], b"two"));
        let resource = store.lookup("k").unwrap();
        store.forget("k", &resource.variants()[0]);
        assert_eq!(store.lookup("k").unwrap().variants().len(), 1);
        store.forget("k", &resource.variants()[1]);
        assert!(store.lookup("k").is_none());
    }

    #[test]
    fn the_capacity_holds() {
        let store = CacheStore::in_memory(64 << 10);
        for n in 0..1000 {
            put(&store, &format!("http://a.example/{n}"), &[0; 1000]);
        }
        let stats = store.stats();
        assert!(stats.weighted_size <= 64 << 10, "{stats:?}");
        assert!(stats.entries > 20 && stats.evictions >= 900, "{stats:?}");
        assert_eq!(stats.stored, 1000);
    }

    #[test]
    fn large_bodies_are_let_go_of_at_once() {
        static BODY: [u8; 100 << 10] = [0; 100 << 10];
        let store = CacheStore::in_memory(1 << 20);
        let mut put = Vec::new();
        for n in 0..100 {
            let key = format!("http://a.example/{n}");
            let response = response("", &[], &BODY);
            put.push(Arc::downgrade(&response));
            store.put(key.as_str().into(), store.ticket(&key), response);
            let held = put.iter().filter(|response| response.strong_count() > 0).count();
            assert!(held <= 11, "{held} after {n}");
        }
    }
}
