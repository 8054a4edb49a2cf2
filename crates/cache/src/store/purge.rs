//! Purge and soft purge of stored responses.

use std::collections::HashSet;
use std::sync::Arc;

use crate::key::CacheKey;
use crate::purge::Purge;
use crate::store::CacheStore;
use crate::store::resource::Resource;
use crate::store::stored_response::StoredResponse;

impl CacheStore {
    /// Removes the resources selected by `purge`, both from memory and from the second-level store. Returns their
    /// number.
    ///
    /// In-flight fetches of these resources are not stored.
    pub fn purge(&self, purge: &Purge) -> u64 {
        if let Some(keys) = purge.keys() {
            return keys.iter().filter(|key| self.invalidate(key)).count() as u64;
        }
        if let Purge::Tag(tag) = purge {
            return self.purge_tag(self.tag_key().hash(tag));
        }
        self.purge_where(|key| purge.matches(key))
    }

    /// Removes the resources for whose URL `is_selected` returns `true`, like [`CacheStore::purge`]. Returns their
    /// number.
    ///
    /// The URL is absolute and normalised. A `#` begins what the cache appends to it, such as for equivalent queries.
    pub fn purge_where(&self, is_selected: impl Fn(&str) -> bool) -> u64 {
        self.generations().advance_all();
        let selected: HashSet<Box<str>> =
            self.resources().iter().map(|(key, _)| (*key).clone()).filter(|key| is_selected(key)).collect();
        let removed = selected.iter().filter(|key| self.resources().remove(&***key).is_some()).count() as u64;
        removed + self.remove_from_tier_if(|key, _| is_selected(key), &selected)
    }

    /// Removes the selected entries from the second-level store. Returns the number of those that are not in `counted`.
    fn remove_from_tier_if(&self, is_selected: impl Fn(&str, &[u64]) -> bool, counted: &HashSet<Box<str>>) -> u64 {
        let Some(tier) = self.tier() else { return 0 };
        let mut uncounted = 0;
        tier.remove_if(&mut |key, tags| {
            let is_selected = is_selected(key, tags);
            uncounted += u64::from(is_selected && !counted.contains(key));
            is_selected
        });
        uncounted
    }

    fn purge_tag(&self, tag: u64) -> u64 {
        self.invalidate_tag(tag);
        let has_tag = |response: &&Arc<StoredResponse>| response.tags().contains(tag);
        let resources = self.resources().iter();
        let selected: Vec<_> =
            resources.filter(|(_, resource)| resource.variants().iter().any(|v| has_tag(&v))).collect();
        for (key, resource) in &selected {
            resource.variants().iter().filter(has_tag).for_each(|response| self.remove_variant(key, response));
        }
        let counted = selected.iter().map(|(key, _)| (**key).clone()).collect();
        selected.len() as u64 + self.remove_from_tier_if(|_, tags| tags.contains(&tag), &counted)
    }

    /// Marks the resources selected by `purge` as stale (soft purge). Returns their number.
    ///
    /// A stale response is validated before it is used again. Meanwhile, `stale-while-revalidate` can allow its use, and it can be
    /// served if the origin fails. In-flight fetches of these resources are not stored. Resources that are only in the [second-level
    /// store](CacheStore::with_tier) are removed.
    pub fn soft_purge(&self, purge: &Purge) -> u64 {
        let keys = purge.keys();
        let tag = match purge {
            Purge::Tag(tag) => Some(self.tag_key().hash(tag)),
            _ => None,
        };
        // An in-flight fetch may return the old state.
        match &keys {
            Some(keys) => keys.iter().for_each(|key| self.generations().advance(key.as_str())),
            None => self.generations().advance_all(),
        }
        // The second-level store cannot mark resources as stale.
        match &keys {
            Some(keys) => keys.iter().for_each(|key| {
                self.remove_from_tier(key.as_str());
            }),
            None => {
                let is_selected = |key: &str, tags: &[u64]| match tag {
                    Some(tag) => tags.contains(&tag),
                    None => purge.matches(key),
                };
                self.remove_from_tier_if(is_selected, &HashSet::new());
            }
        }
        let mark = |resource: &Resource| {
            let has_tag = |response: &&Arc<StoredResponse>| tag.is_none_or(|tag| response.tags().contains(tag));
            let marked = resource.variants().iter().filter(has_tag).filter(|response| response.mark_stale());
            marked.count() > 0
        };
        match keys {
            Some(keys) => {
                let mark_key = |key: &CacheKey| self.lookup(key.as_str()).is_some_and(|resource| mark(&resource));
                let mark_shared =
                    |key: &CacheKey| self.search_variances().equivalent_key(key).is_some_and(|key| mark_key(&key));
                keys.iter().filter(|key| mark_shared(key) | mark_key(key)).count() as u64
            }
            None => {
                let selected = self.resources().iter().filter(|(key, _)| tag.is_some() || purge.matches(key));
                selected.filter(|(_, resource)| mark(resource)).count() as u64
            }
        }
    }

    /// Soft-purges the resources for whose URL `is_selected` returns `true`, like [`CacheStore::soft_purge`]. Returns
    /// their number.
    ///
    /// See [`CacheStore::purge_where`] for the URL.
    pub fn soft_purge_where(&self, is_selected: impl Fn(&str) -> bool) -> u64 {
        self.generations().advance_all();
        self.remove_from_tier_if(|key, _| is_selected(key), &HashSet::new());
        let selected = self.resources().iter().filter(|(key, _)| is_selected(key));
        let mark =
            |resource: &Resource| resource.variants().iter().filter(|response| response.mark_stale()).count() > 0;
        selected.filter(|(_, resource)| mark(resource)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::put;

    #[test]
    fn purges_resources_whose_url_matches_a_predicate() {
        let store = CacheStore::in_memory(1 << 20);
        for key in ["http://a.example/x", "https://a.example/y", "http://b.example/x"] {
            put(&store, key, b"x");
        }
        let is_selected = |url: &str| url.contains("//a.example/");
        assert_eq!(store.soft_purge_where(is_selected), 2);
        assert_eq!(store.soft_purge_where(is_selected), 0, "they are stale already");
        assert_eq!(store.stats().entries, 3);
        assert_eq!(store.purge_where(is_selected), 2);
        assert_eq!(store.purge(&Purge::All), 1);
    }

    #[test]
    fn purges_resources_by_url_and_by_url_prefix() {
        let store = CacheStore::in_memory(1 << 20);
        let fill = || {
            for key in ["http://a.example/x", "https://a.example/x", "http://a.example/xyz", "http://b.example/x"] {
                put(&store, key, b"x");
            }
        };
        for (purge, expected) in [
            ("http://a.example/x", 1),
            ("//a.example/x", 2),
            ("/x", 3),
            ("http://a.example/x*", 2),
            ("/x*", 4),
            ("//A.example/*", 3),
            ("*", 4),
            ("http://c.example/*", 0),
        ] {
            fill();
            assert_eq!(store.purge(&purge.parse().unwrap()), expected, "{purge}");
        }
    }
}
