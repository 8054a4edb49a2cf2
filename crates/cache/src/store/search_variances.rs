//! The equivalence of queries under `No-Vary-Search`, for each path.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use moka::sync::Cache;

use crate::key::CacheKey;
use crate::memory_size::allocation;
use crate::policy::no_vary_search::SearchVariance;

/// The most recent `No-Vary-Search` value of each path.
///
/// A response is stored under a key that its own field determines. So an evicted or changed variance costs hits, but never selects a
/// wrong response. Responses of an earlier variance cannot be reached any longer, because invalidations do not reach them either.
pub(crate) struct SearchVariances {
    paths: OnceLock<Cache<Box<str>, Arc<PathVariance>>>,
    capacity: u64,
    epochs: AtomicU64,
}

struct PathVariance {
    variance: SearchVariance,
    /// A number that distinguishes this `No-Vary-Search` value from earlier values of all paths.
    epoch: u64,
}

impl SearchVariances {
    /// Creates a table that occupies at most `capacity` bytes.
    pub(crate) fn new(capacity: u64) -> Self {
        Self { paths: OnceLock::new(), capacity, epochs: AtomicU64::new(0) }
    }

    /// Records the `No-Vary-Search` value of a path. Returns the common key of all queries that are equivalent to
    /// `key`.
    pub(crate) fn record(&self, key: &CacheKey, variance: SearchVariance) -> CacheKey {
        let path = key.without_query();
        let paths = self.paths.get_or_init(|| self.paths());
        let known = paths.get(path).filter(|known| known.variance == variance).unwrap_or_else(|| {
            let epoch = self.epochs.fetch_add(1, Ordering::Relaxed);
            let recorded = Arc::new(PathVariance { variance, epoch });
            paths.insert(path.into(), Arc::clone(&recorded));
            recorded
        });
        key.with_variance(&known.variance, known.epoch)
    }

    /// Returns the cache key shared by all queries that are equivalent to `key`, if its path has `No-Vary-Search`.
    pub(crate) fn equivalent_key(&self, key: &CacheKey) -> Option<CacheKey> {
        let known = self.paths.get()?.get(key.without_query())?;
        Some(key.with_variance(&known.variance, known.epoch))
    }

    fn paths(&self) -> Cache<Box<str>, Arc<PathVariance>> {
        // The overhead of moka per entry, as for resources.
        const ENTRY: usize = 384;
        Cache::<Box<str>, Arc<PathVariance>>::builder()
            .name("rproxy-cache search variances")
            .max_capacity(self.capacity)
            .weigher(|path, known| {
                u32::try_from(ENTRY + allocation(path.len()) + known.variance.weight()).unwrap_or(u32::MAX)
            })
            .build()
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;
    use http::{HeaderMap, HeaderValue, Uri};

    use super::*;

    fn variance(line: &'static str) -> SearchVariance {
        let name = HeaderName::from_static("no-vary-search");
        SearchVariance::from_headers(&HeaderMap::from_iter([(name, HeaderValue::from_static(line))])).unwrap()
    }

    fn key(uri: &'static str) -> CacheKey {
        CacheKey::from_uri(&Uri::from_static(uri)).unwrap()
    }

    #[test]
    fn no_vary_search_applies_to_all_queries_of_the_same_path() {
        let search_variances = SearchVariances::new(1 << 20);
        assert_eq!(search_variances.equivalent_key(&key("http://a.example/p?a=1")), None);
        let place = search_variances.record(&key("http://a.example/p?a=1"), variance("params=(\"a\")"));
        for same in ["http://a.example/p?a=2", "http://a.example/p"] {
            assert_eq!(search_variances.equivalent_key(&key(same)).as_ref(), Some(&place), "{same}");
        }
        for other in ["http://a.example/p?b=1", "http://a.example/q?a=1", "https://a.example/p?a=1"] {
            assert_ne!(search_variances.equivalent_key(&key(other)).as_ref(), Some(&place), "{other}");
        }
        assert_eq!((place.path(), place.origin()), ("/p", "http://a.example"));
    }

    #[test]
    fn changing_no_vary_search_changes_the_cache_keys() {
        let search_variances = SearchVariances::new(1 << 20);
        let key = key("http://a.example/p?a=1");
        let places: Vec<_> = ["params", "key-order", "params"]
            .map(|line| search_variances.record(&key, variance(line)))
            .into_iter()
            .collect();
        assert!(places[0] != places[1] && places[0] != places[2]);
        assert_eq!(search_variances.record(&key, variance("params")), places[2]);
    }
}
