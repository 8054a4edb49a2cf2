//! The way between memory and the tier behind it.

use std::future::Future;
use std::sync::Arc;

use moka::ops::compute::Op;

use crate::entry::{decode, encode};
use crate::resource::Resource;
use crate::store::CacheStore;
use crate::tier::TierEntry;

impl CacheStore {
    /// Keeps a resource in the tier behind memory, too, in place of what it was before.
    pub(crate) fn keep_behind(&self, key: &str, resource: &Resource) {
        let Some(tier) = self.tier() else { return };
        // A key with a fragment means something in this process alone.
        if key.contains('#') || !resource.is_lasting() {
            tier.remove(key);
            return;
        }
        let mut tags: Vec<u64> =
            resource.variants().iter().flat_map(|variant| variant.tags().hashes()).copied().collect();
        tags.sort_unstable();
        tags.dedup();
        tier.store(TierEntry::new(key, tags, encode(resource, self.tag_key())));
    }

    pub(crate) fn remove_behind(&self, key: &str) -> bool {
        self.tier().is_some_and(|tier| tier.remove(key))
    }

    /// What the tier behind memory has under `key`, which comes back into memory. `None`: it says that it has nothing.
    pub(crate) fn load(&self, key: &str) -> Option<impl Future<Output = Option<Arc<Resource>>> + Send + 'static> {
        let tier = self.tier().filter(|tier| tier.holds(key))?;
        let (ticket, loading) = (self.ticket(key), tier.load(key));
        let (store, key) = (self.clone(), Box::<str>::from(key));
        Some(async move {
            let loaded = loading
                .await
                .and_then(|bytes| decode(bytes, store.tag_key()))
                .filter(|resource| store.is_current(resource));
            let mut loaded = loaded.map(Arc::new);
            let mut is_present = false;
            store.resources().entry(key.clone()).and_compute_with(|present| {
                // Whoever stores knows better than what was kept.
                if let Some(present) = present {
                    is_present = true;
                    loaded = Some(present.into_value());
                    return Op::Nop;
                }
                // RFC 9111 §4.4
                loaded = loaded.take().filter(|_| store.generations().still_holds(ticket));
                loaded.clone().map_or(Op::Nop, Op::Put)
            });
            match &loaded {
                Some(_) if !is_present => store.count_loaded(),
                Some(_) => {}
                None => {
                    store.remove_behind(&key);
                }
            }
            loaded
        })
    }

    fn is_current(&self, resource: &Resource) -> bool {
        resource.variants().iter().all(|variant| self.generations().are_current(variant.tags()))
    }
}

impl Resource {
    /// Whether it is worth a place that takes time to get to.
    fn is_lasting(&self) -> bool {
        const SECONDS: i64 = 10;
        self.variants().iter().any(|variant| {
            let freshness = &variant.freshness;
            !variant.validators.is_empty() || freshness.ttl(freshness.initial_age) >= SECONDS
        })
    }
}
