//! The transfer of resources between memory and the second-level store.

use std::future::Future;
use std::sync::Arc;

use moka::ops::compute::Op;

use crate::store::CacheStore;
use crate::store::codec::{decode, encode};
use crate::store::resource::Resource;
use crate::tier::TierEntry;

impl CacheStore {
    /// Stores a resource in the second-level store, and replaces its previous version.
    pub(crate) fn store_in_tier(&self, key: &str, resource: &Resource) {
        let Some(tier) = self.tier() else { return };
        // A key with a fragment has a number of this process, see `CacheKey::with_variance`.
        if key.contains('#') || !resource.is_worth_storing_in_tier() {
            tier.remove(key);
            return;
        }
        let mut tags: Vec<u64> =
            resource.variants().iter().flat_map(|variant| variant.tags().hashes()).copied().collect();
        tags.sort_unstable();
        tags.dedup();
        tier.store(TierEntry::new(key, tags, encode(resource, self.tag_key())));
    }

    /// Removes a resource from the second-level store. Returns whether it was there.
    pub(crate) fn remove_from_tier(&self, key: &str) -> bool {
        self.tier().is_some_and(|tier| tier.remove(key))
    }

    /// Loads a resource from the second-level store into memory, if that store may contain it.
    pub(crate) fn load(&self, key: &str) -> Option<impl Future<Output = Option<Arc<Resource>>> + Send + 'static> {
        let tier = self.tier().filter(|tier| tier.contains(key))?;
        let (ticket, loading) = (self.ticket(key), tier.load(key));
        let (store, key) = (self.clone(), Box::<str>::from(key));
        Some(async move {
            let loaded = loading
                .await
                .and_then(|bytes| decode(bytes, store.tag_key()))
                .filter(|resource| store.are_tags_current(resource));
            let mut loaded = loaded.map(Arc::new);
            let mut is_present = false;
            store.resources().entry(key.clone()).and_compute_with(|present| {
                // A resource that was stored meanwhile is newer.
                if let Some(present) = present {
                    is_present = true;
                    loaded = Some(present.into_value());
                    return Op::Nop;
                }
                // RFC 9111 §4.4
                loaded = loaded.take().filter(|_| store.generations().is_valid(ticket));
                loaded.clone().map_or(Op::Nop, Op::Put)
            });
            match &loaded {
                Some(_) if !is_present => store.count_loaded(),
                Some(_) => {}
                None => {
                    store.remove_from_tier(&key);
                }
            }
            loaded
        })
    }

    fn are_tags_current(&self, resource: &Resource) -> bool {
        resource.variants().iter().all(|variant| self.generations().are_current(variant.tags()))
    }
}

impl Resource {
    /// Whether the resource remains usable for long enough to be stored in the second-level store.
    fn is_worth_storing_in_tier(&self) -> bool {
        const SECONDS: i64 = 10;
        self.variants().iter().any(|variant| {
            let freshness = &variant.freshness;
            !variant.validators.is_empty() || freshness.ttl(freshness.initial_age) >= SECONDS
        })
    }
}
