//! Which queries mean the same: what responses have said of it, path by path.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use moka::sync::Cache;

use crate::key::Key;
use crate::memory::block;
use crate::no_vary_search::SearchVariance;

/// The last word of each path.
///
/// A response is stored under a key made of what it says itself, so that a path that is forgotten here, or changes its mind,
/// costs hits and never makes a wrong one. What was stored before is then out of reach for good: invalidations reach only what
/// requests do.
pub(crate) struct Searches {
    paths: OnceLock<Cache<Box<str>, Arc<Word>>>,
    capacity: u64,
    eras: AtomicU64,
}

struct Word {
    variance: SearchVariance,
    /// Since when the path says so, in changes of mind.
    era: u64,
}

impl Searches {
    /// Remembers paths in `capacity` bytes.
    pub(crate) fn new(capacity: u64) -> Self {
        Self { paths: OnceLock::new(), capacity, eras: AtomicU64::new(0) }
    }

    /// The key for a response to `key` that says so.
    pub(crate) fn learn(&self, key: &Key, variance: SearchVariance) -> Key {
        let path = key.without_query();
        let paths = self.paths.get_or_init(|| self.paths());
        let word = paths.get(path).filter(|word| word.variance == variance).unwrap_or_else(|| {
            let word = Arc::new(Word { variance, era: self.eras.fetch_add(1, Ordering::Relaxed) });
            paths.insert(path.into(), Arc::clone(&word));
            word
        });
        key.under(&word.variance, word.era)
    }

    /// The key under which all is stored that means the same as `key`, if its path has said so.
    pub(crate) fn of(&self, key: &Key) -> Option<Key> {
        let word = self.paths.get()?.get(key.without_query())?;
        Some(key.under(&word.variance, word.era))
    }

    fn paths(&self) -> Cache<Box<str>, Arc<Word>> {
        // moka's own, as for resources.
        const ENTRY: usize = 384;
        Cache::<Box<str>, Arc<Word>>::builder()
            .name("rproxy-cache searches")
            .max_capacity(self.capacity)
            .weigher(|path, word| u32::try_from(ENTRY + block(path.len()) + word.variance.weight()).unwrap_or(u32::MAX))
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
        SearchVariance::of(&HeaderMap::from_iter([(name, HeaderValue::from_static(line))])).unwrap()
    }

    fn key(uri: &'static str) -> Key {
        Key::from_uri(&Uri::from_static(uri)).unwrap()
    }

    #[test]
    fn what_a_path_says_holds_for_its_queries_alone() {
        let searches = Searches::new(1 << 20);
        assert_eq!(searches.of(&key("http://a.example/p?a=1")), None);
        let place = searches.learn(&key("http://a.example/p?a=1"), variance("params=(\"a\")"));
        for same in ["http://a.example/p?a=2", "http://a.example/p"] {
            assert_eq!(searches.of(&key(same)).as_ref(), Some(&place), "{same}");
        }
        for other in ["http://a.example/p?b=1", "http://a.example/q?a=1", "https://a.example/p?a=1"] {
            assert_ne!(searches.of(&key(other)).as_ref(), Some(&place), "{other}");
        }
        assert_eq!((place.path(), place.origin()), ("/p", "http://a.example"));
    }

    #[test]
    fn nothing_of_before_a_change_of_mind_is_found_again() {
        let searches = Searches::new(1 << 20);
        let key = key("http://a.example/p?a=1");
        let places: Vec<_> =
            ["params", "key-order", "params"].map(|line| searches.learn(&key, variance(line))).into_iter().collect();
        assert!(places[0] != places[1] && places[0] != places[2]);
        assert_eq!(searches.learn(&key, variance("params")), places[2]);
    }
}
