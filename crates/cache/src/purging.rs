//! Dropping on demand what is stored, or making it stale.

use std::collections::HashSet;
use std::sync::Arc;

use crate::key::Key;
use crate::purge::Purge;
use crate::resource::Resource;
use crate::store::CacheStore;
use crate::stored::StoredResponse;

impl CacheStore {
    /// Drops what `purge` names, and whatever is on its way into the store now. Returns how many
    /// resources were dropped.
    pub fn purge(&self, purge: &Purge) -> u64 {
        if let Some(keys) = purge.keys() {
            return keys.iter().filter(|key| self.invalidate(key)).count() as u64;
        }
        if let Purge::Tag(tag) = purge {
            return self.purge_tag(self.tag_key().hash(tag));
        }
        self.generations().advance_all();
        let doomed: HashSet<Box<str>> =
            self.resources().iter().map(|(key, _)| (*key).clone()).filter(|key| purge.covers(key)).collect();
        let removed = doomed.iter().filter(|key| self.resources().remove(&***key).is_some()).count() as u64;
        removed + self.remove_behind_if(|key, _| purge.covers(key), &doomed)
    }

    /// Removes from the tier behind memory what is `chosen`, and tells how many of that were not `counted` yet.
    fn remove_behind_if(&self, chosen: impl Fn(&str, &[u64]) -> bool, counted: &HashSet<Box<str>>) -> u64 {
        let Some(tier) = self.tier() else { return 0 };
        let mut more = 0;
        tier.remove_if(&mut |key, tags| {
            let is_chosen = chosen(key, tags);
            more += u64::from(is_chosen && !counted.contains(key));
            is_chosen
        });
        more
    }

    fn purge_tag(&self, tag: u64) -> u64 {
        self.invalidate_tag(tag);
        let tagged = |response: &&Arc<StoredResponse>| response.tags().has(tag);
        let resources = self.resources().iter();
        let doomed: Vec<_> = resources.filter(|(_, resource)| resource.variants().iter().any(|v| tagged(&v))).collect();
        for (key, resource) in &doomed {
            resource.variants().iter().filter(tagged).for_each(|response| self.forget(key, response));
        }
        let counted = doomed.iter().map(|(key, _)| (**key).clone()).collect();
        doomed.len() as u64 + self.remove_behind_if(|_, tags| tags.contains(&tag), &counted)
    }

    /// Makes stale what `purge` names, and keeps what is on its way out of the store. It is validated before it is used
    /// again, unless `stale-while-revalidate` lets it be used meanwhile; and it may stand in for an origin that is down.
    /// Returns how many resources became stale. What is only in a [tier](CacheStore::behind) behind memory is dropped.
    pub fn soft_purge(&self, purge: &Purge) -> u64 {
        let keys = purge.keys();
        let tag = match purge {
            Purge::Tag(tag) => Some(self.tag_key().hash(tag)),
            _ => None,
        };
        // What is on its way into the store is not known to be any newer.
        match &keys {
            Some(keys) => keys.iter().for_each(|key| self.generations().advance(key.as_str())),
            None => self.generations().advance_all(),
        }
        // It would come back as it was.
        match &keys {
            Some(keys) => keys.iter().for_each(|key| {
                self.remove_behind(key.as_str());
            }),
            None => {
                let named = |key: &str, tags: &[u64]| match tag {
                    Some(tag) => tags.contains(&tag),
                    None => purge.covers(key),
                };
                self.remove_behind_if(named, &HashSet::new());
            }
        }
        let expire = |resource: &Resource| {
            let named = resource.variants().iter().filter(|response| tag.is_none_or(|tag| response.tags().has(tag)));
            named.filter(|response| response.expire()).count() > 0
        };
        match keys {
            Some(keys) => {
                let expired = |key: &Key| self.lookup(key.as_str()).is_some_and(|resource| expire(&resource));
                let same = |key: &Key| self.searches().of(key).is_some_and(|same| expired(&same));
                keys.iter().filter(|key| same(key) | expired(key)).count() as u64
            }
            None => {
                let named = self.resources().iter().filter(|(key, _)| tag.is_some() || purge.covers(key));
                named.filter(|(_, resource)| expire(resource)).count() as u64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::put;

    #[test]
    fn purging_by_url_prefix_and_all() {
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
