//! The cache store: a moka cache that limits the total size of heads, bodies and keys.

pub(crate) mod codec;
#[cfg(feature = "disk")]
pub(crate) mod disk;
pub(crate) mod generations;
mod purge;
pub(crate) mod resource;
pub(crate) mod search_variances;
mod second_level;
pub(crate) mod stored_response;
mod update;
pub(crate) mod write_budget;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use moka::notification::RemovalCause;
use moka::ops::compute::Op;
use moka::sync::Cache;

use self::generations::{FetchTicket, Generations};
use self::resource::{Resource, weight};
use self::search_variances::SearchVariances;
use self::stored_response::StoredResponse;
use self::write_budget::{Reservation, WriteBudget};
use crate::coalesce::in_flight::InFlightFetches;
use crate::key::CacheKey;
use crate::policy::tags::TagKey;
use crate::tier::{Tier, TierStats};

/// A store for cached responses. Clones share its content.
///
/// Stored responses take at most the capacity, including heads, keys and bookkeeping. Bodies that are still being
/// written can take up to another quarter of it.
#[derive(Clone)]
pub struct CacheStore {
    inner: Arc<StoreInner>,
}

struct StoreInner {
    resources: Cache<Box<str>, Arc<Resource>>,
    generations: Generations,
    in_flight: Arc<InFlightFetches>,
    search_variances: SearchVariances,
    counters: Arc<Counters>,
    capacity: u64,
    write_budget: Arc<WriteBudget>,
    /// The number of bytes that were stored since moka last enforced its capacity.
    bytes_since_maintenance: AtomicU64,
    tier: OnceLock<Arc<dyn Tier>>,
    tag_key: OnceLock<TagKey>,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    coalesced: AtomicU64,
    loaded: AtomicU64,
    stored: AtomicU64,
    evictions: AtomicU64,
}

/// Counters and sizes of a [`CacheStore`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// The number of requests that were served from the store without the inner service.
    pub hits: u64,
    /// The number of cacheable requests that were not served from the store.
    pub misses: u64,
    /// The number of misses that were served with the response to a concurrent request (request coalescing).
    pub coalesced: u64,
    /// The number of resources that were loaded from the [second-level store](CacheStore::with_tier).
    pub loaded: u64,
    /// The number of stored responses, including those that replaced another response.
    pub stored: u64,
    /// The number of resources that were evicted, or not admitted because other resources are requested more often.
    pub evictions: u64,
    /// The number of resources in the store. A resource can have several variants.
    pub entries: u64,
    /// The total size of the stored resources in bytes.
    pub weighted_size: u64,
    /// The maximum of `weighted_size` in bytes.
    pub capacity: u64,
    /// The statistics of the second-level store. All are zero without one.
    pub tier: TierStats,
}

impl CacheStore {
    /// Creates a store that holds at most `capacity` bytes in memory. The most requested resources stay (TinyLFU).
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
        let inner = StoreInner {
            resources,
            generations: Generations::default(),
            in_flight: InFlightFetches::new(),
            search_variances: SearchVariances::new((capacity / 64).max(64 << 10)),
            counters,
            capacity,
            write_budget: WriteBudget::new((capacity / 4).max(1 << 20)),
            bytes_since_maintenance: AtomicU64::new(0),
            tier: OnceLock::new(),
            tag_key: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Adds a second-level store, such as a disk, that is consulted on a memory miss.
    ///
    /// Responses that are worth it are stored in both. A store has one second-level store: for this store and its clones, only the first
    /// call counts.
    #[must_use]
    pub fn with_tier(self, tier: impl Tier) -> Self {
        let secret = tier.secret();
        if self.inner.tier.set(Arc::new(tier)).is_ok()
            && let Some(secret) = secret
        {
            let _ = self.inner.tag_key.set(TagKey::new(secret));
        }
        self
    }

    /// Waits until all stored responses have reached the second-level store. Blocks the thread; call it at shutdown.
    pub fn flush(&self) {
        if let Some(tier) = self.tier() {
            tier.flush();
        }
    }

    /// Returns the counters and sizes of the store, for metrics.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let StoreInner { resources, counters, capacity, tier, .. } = &*self.inner;
        resources.run_pending_tasks();
        CacheStats {
            hits: counters.hits.load(Ordering::Relaxed),
            misses: counters.misses.load(Ordering::Relaxed),
            coalesced: counters.coalesced.load(Ordering::Relaxed),
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
        self.inner.tier.get()
    }

    /// Returns the secret key for hashing cache tags.
    pub(crate) fn tag_key(&self) -> TagKey {
        *self.inner.tag_key.get_or_init(TagKey::random)
    }

    pub(crate) fn resources(&self) -> &Cache<Box<str>, Arc<Resource>> {
        &self.inner.resources
    }

    pub(crate) fn generations(&self) -> &Generations {
        &self.inner.generations
    }

    /// Returns the resource under `key`, without variants whose cache tags were invalidated.
    pub(crate) fn lookup(&self, key: &str) -> Option<Arc<Resource>> {
        let resource = self.inner.resources.get(key)?;
        let is_current = |response: &Arc<StoredResponse>| self.inner.generations.are_current(response.tags());
        if resource.variants().iter().all(is_current) {
            return Some(resource);
        }
        // RFC 9875 §3
        let outdated = resource.variants().iter().filter(|response| !is_current(response));
        outdated.for_each(|response| self.remove_variant(key, response));
        self.inner.resources.get(key).filter(|resource| resource.variants().iter().all(is_current))
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.inner.resources.contains_key(key)
    }

    pub(crate) fn count_loaded(&self) {
        self.inner.counters.loaded.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_hit(&self, stored: &StoredResponse) {
        stored.add_hits(1);
        self.inner.counters.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_miss(&self) {
        self.inner.counters.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_coalesced(&self) {
        self.inner.counters.coalesced.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(&self) -> &Arc<InFlightFetches> {
        &self.inner.in_flight
    }

    /// Returns a fetch ticket with the current values of the generation counters.
    pub(crate) fn ticket(&self, key: &str) -> FetchTicket {
        self.inner.generations.ticket(key)
    }

    /// Stores a response, unless the resource was invalidated after the fetch started. Returns whether it is stored.
    pub(crate) fn put(&self, key: Box<str>, ticket: FetchTicket, response: Arc<StoredResponse>) -> bool {
        let generations = &self.inner.generations;
        let recheck = key.clone();
        let weight = response.weight() as u64;
        let mut stored = None;
        self.inner.resources.entry(key).and_compute_with(|present| {
            if !generations.is_valid(ticket) {
                return Op::Nop;
            }
            let present = present.map(moka::Entry::into_value);
            let resource = Arc::new(Resource::with_variant(present.as_deref(), response));
            stored = Some(Arc::clone(&resource));
            Op::Put(resource)
        });
        let is_stored = stored.is_some();
        if let Some(resource) = stored {
            self.inner.counters.stored.fetch_add(1, Ordering::Relaxed);
            self.enforce_capacity(weight);
            self.store_in_tier(&recheck, &resource);
        }
        // An invalidation between the check and the insertion had nothing to remove yet.
        if !generations.is_valid(ticket) {
            self.inner.resources.invalidate(&recheck);
            self.remove_from_tier(&recheck);
            return false;
        }
        is_stored
    }

    /// Stores an incomplete response, unless a complete response for the same request fields is stored.
    pub(crate) fn put_part(&self, key: Box<str>, ticket: FetchTicket, part: StoredResponse) {
        if self.lookup(&key).is_none_or(|resource| !resource.has_whole(&part.selecting_fields)) {
            self.put(key, ticket, Arc::new(part));
        }
    }

    /// Runs moka's eviction once enough bytes have been stored since its last run.
    ///
    /// By itself moka does so after some hundred insertions of any size, which is far too late for large bodies.
    fn enforce_capacity(&self, stored: u64) {
        let StoreInner { resources, bytes_since_maintenance, capacity, .. } = &*self.inner;
        if bytes_since_maintenance.fetch_add(stored, Ordering::Relaxed) + stored > capacity / 64 {
            bytes_since_maintenance.store(0, Ordering::Relaxed);
            resources.run_pending_tasks();
        }
    }

    /// Removes a variant from the store, if it is still stored.
    pub(crate) fn remove_variant(&self, key: &str, response: &Arc<StoredResponse>) {
        let mut remaining = None;
        self.inner.resources.entry(key.into()).and_compute_with(|present| {
            let Some(resource) = present.map(moka::Entry::into_value) else {
                return Op::Nop;
            };
            remaining = resource.without(response).map(Arc::new);
            remaining.clone().map_or(Op::Remove, Op::Put)
        });
        match remaining {
            Some(resource) => self.store_in_tier(key, &resource),
            None => {
                self.remove_from_tier(key);
            }
        }
    }

    /// Removes a resource, and prevents in-flight fetches from storing it. Returns whether it was stored.
    // RFC 9111 §4.4
    pub(crate) fn invalidate(&self, key: &CacheKey) -> bool {
        self.inner.generations.advance(key.as_str());
        let remove = |key: &CacheKey| {
            let was_in_tier = self.remove_from_tier(key.as_str());
            self.inner.resources.remove(key.as_str()).is_some() || was_in_tier
        };
        // A response that is shared by equivalent queries becomes outdated, too.
        let was_shared = self.inner.search_variances.equivalent_key(key).is_some_and(|shared| remove(&shared));
        remove(key) || was_shared
    }

    pub(crate) fn search_variances(&self) -> &SearchVariances {
        &self.inner.search_variances
    }

    /// Invalidates all responses with a cache tag, without searching for them.
    pub(crate) fn invalidate_tag(&self, tag: u64) {
        self.inner.generations.advance_tag(tag);
    }

    /// Reserves memory for a body that is being received, if the budget has room.
    pub(crate) fn reserve(&self, bytes: u64) -> Option<Reservation> {
        Reservation::new(&self.inner.write_budget, bytes)
    }

    /// Whether a body of this size fits into the store and into the memory budget for writes.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        (self.tier().is_some() || bytes <= self.inner.capacity) && self.reserve(bytes).is_some()
    }
}

impl fmt::Debug for CacheStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheStore").field("capacity", &self.inner.capacity).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::UNIX_EPOCH;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode, header};

    use super::*;
    use crate::policy::storability::{StorageRequest, StorageTerms};
    use crate::purge::Purge;
    use crate::set_cookie::SetCookiePolicy;

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
        let (origin, path, set_cookie) = ("http://a.example", "/", SetCookiePolicy::Strip);
        let tag_key = TagKey::new([0; 16]);
        let request = StorageRequest {
            origin,
            path,
            tag_generation: 0,
            tag_key,
            headers: &request,
            is_authenticated: false,
            request_time: now,
            set_cookie,
            heuristic_freshness: false,
        };
        let terms = StorageTerms::for_response(request, StatusCode::OK, &headers, now).unwrap();
        StoredResponse::new(StatusCode::OK, &headers, terms).with_body(Bytes::from_static(body)).into()
    }

    pub(crate) fn put(store: &CacheStore, key: &str, body: &'static [u8]) {
        store.put(key.into(), store.ticket(key), response("", &[], body));
    }

    #[test]
    fn replaces_only_the_variant_with_the_same_request_fields() {
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
    fn limits_the_number_of_variants_per_resource() {
        let store = CacheStore::in_memory(1 << 20);
        for n in 0..100 {
            store.put("k".into(), store.ticket("k"), response("foo", &[("foo", &n.to_string())], b""));
        }
        assert_eq!(store.lookup("k").unwrap().variants().len(), 32);
    }

    #[test]
    fn does_not_store_a_response_that_was_invalidated_during_the_fetch() {
        // RFC 9111 §4.4
        let store = CacheStore::in_memory(1 << 20);
        let key = CacheKey::from_uri(&http::Uri::from_static("http://a.example/k")).unwrap();
        let invalidations: [fn(&CacheStore, &CacheKey) -> bool; 2] =
            [|store, key| store.invalidate(key), |store, _| store.purge(&Purge::All) > 0];
        for invalidate in invalidations {
            let ticket = store.ticket(key.as_str());
            invalidate(&store, &key);
            store.put(key.as_str().into(), ticket, response("", &[], b"old"));
            assert!(store.lookup(key.as_str()).is_none());
            put(&store, key.as_str(), b"new");
            assert!(store.lookup(key.as_str()).is_some());
        }
    }

    #[test]
    fn removes_a_single_variant_of_a_resource() {
        let store = CacheStore::in_memory(1 << 20);
        store.put("k".into(), store.ticket("k"), response("foo", &[("foo", "1")], b"one"));
        store.put("k".into(), store.ticket("k"), response("foo", &[("foo", "2")], b"two"));
        let resource = store.lookup("k").unwrap();
        store.remove_variant("k", &resource.variants()[0]);
        assert_eq!(store.lookup("k").unwrap().variants().len(), 1);
        store.remove_variant("k", &resource.variants()[1]);
        assert!(store.lookup("k").is_none());
    }

    #[test]
    fn store_stays_within_its_capacity() {
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
    fn evicting_a_large_body_frees_its_memory_immediately() {
        static BODY: [u8; 100 << 10] = [0; 100 << 10];
        let store = CacheStore::in_memory(1 << 20);
        let mut put = Vec::new();
        for n in 0..100 {
            let key = format!("http://a.example/{n}");
            let response = response("", &[], &BODY);
            put.push(Arc::downgrade(&response));
            store.put(key.as_str().into(), store.ticket(&key), response);
            let alive = put.iter().filter(|response| response.strong_count() > 0).count();
            assert!(alive <= 11, "{alive} after {n}");
        }
    }
}
