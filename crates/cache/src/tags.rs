//! What responses have in common, so that they can be dropped together: cache groups (RFC 9875), and the
//! `Surrogate-Key` that content management systems send.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use sfv::{BareItem, List, ListEntry, Parser};

use crate::memory::block;

/// The tags of a response, by their hashes, and when it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tags {
    hashes: Box<[u64]>,
    /// In invalidations, of which each has a number.
    asked: u64,
}

impl Tags {
    pub(crate) fn of(headers: &HeaderMap, origin: &str, asked: u64, key: TagKey) -> Self {
        let mut hashes = Vec::new();
        for group in groups(headers, &CACHE_GROUPS) {
            // RFC 9875 §2.2: a group is one of an origin; but whoever purges by hand may name it alone.
            hashes.extend([key.hash(&group), key.hash_of_group(origin, &group)]);
        }
        for line in headers.get_all(SURROGATE_KEY) {
            let words = line.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            hashes.extend(words.map(|word| key.hash(&String::from_utf8_lossy(word))));
        }
        Self { hashes: hashes.into(), asked }
    }

    /// Of what [`hashes`](Self::hashes) and [`asked`](Self::asked) have told.
    pub(crate) fn of_hashes(hashes: Box<[u64]>, asked: u64) -> Self {
        Self { hashes, asked }
    }

    pub(crate) fn has(&self, tag: u64) -> bool {
        self.hashes.contains(&tag)
    }

    pub(crate) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked
    }

    pub(crate) fn weight(&self) -> usize {
        block(size_of_val(&*self.hashes))
    }
}

/// The groups that the answer to an unsafe request invalidates.
// RFC 9875 §3
pub(crate) fn invalidated(headers: &HeaderMap, origin: &str, key: TagKey) -> Vec<u64> {
    groups(headers, &CACHE_GROUP_INVALIDATION).iter().map(|group| key.hash_of_group(origin, group)).collect()
}

/// A secret that is hashed before each tag: applications make tags of what clients send, and no client must be able to
/// choose one that stands for another.
#[derive(Clone, Copy)]
pub(crate) struct TagKey([u8; 16]);

impl TagKey {
    /// A secret that lasts longer than this process.
    pub(crate) const fn new(secret: [u8; 16]) -> Self {
        Self(secret)
    }

    /// A secret of the operating system's random numbers.
    pub(crate) fn random() -> Self {
        let random = || u128::from(RandomState::new().hash_one(()));
        Self((random() << 64 | random()).to_be_bytes())
    }

    pub(crate) fn hash(self, tag: &str) -> u64 {
        self.hash_of(tag)
    }

    fn hash_of_group(self, origin: &str, group: &str) -> u64 {
        self.hash_of((origin, group))
    }

    fn hash_of(self, value: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.0);
        value.hash(&mut hasher);
        hasher.finish()
    }
}

const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// A list of strings. What can't be parsed is as if it were not there, RFC 9651 §4.2.
fn groups(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    if !headers.contains_key(name) {
        return Vec::new();
    }
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    let Ok(list) = Parser::new(&lines.join(&b", "[..])).parse::<List>() else {
        return Vec::new();
    };
    let strings = list.into_iter().map(|member| match member {
        ListEntry::Item(item) => match item.bare_item {
            BareItem::String(group) => Some(String::from(group)),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    });
    strings.collect::<Option<_>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(fields: &[(&'static str, &'static str)]) -> Tags {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Tags::of(&headers, "http://a.example", 0, KEY)
    }

    const KEY: TagKey = TagKey([7; 16]);

    #[test]
    fn hashes_of_tags_depend_on_the_key() {
        let other = TagKey::random();
        assert_eq!(KEY.hash("a"), TagKey::new([7; 16]).hash("a"));
        assert!(KEY.hash("a") != other.hash("a") && other.hash("a") != TagKey::random().hash("a"));
    }

    #[test]
    fn groups_are_a_list_of_strings() {
        // RFC 9875 §2
        for (lines, has, has_not) in [
            (&["\"a\", \"b c\";x=1"][..], &["a", "b c"][..], &["b", "A"][..]),
            (&["\"a\"", "\"b\""], &["a", "b"], &[]),
            (&["a"], &[], &["a"]),
            (&["\"a\", 1"], &[], &["a"]),
            (&["\"a\", (\"b\")"], &[], &["a"]),
            (&["\"a"], &[], &["a"]),
            (&[""], &[], &[""]),
        ] {
            let fields: Vec<_> = lines.iter().map(|line| ("cache-groups", *line)).collect();
            let tags = tags(&fields);
            for group in has {
                assert!(
                    tags.has(KEY.hash(group)) && tags.has(KEY.hash_of_group("http://a.example", group)),
                    "{lines:?}"
                );
                assert!(!tags.has(KEY.hash_of_group("http://b.example", group)), "{lines:?}");
            }
            assert!(!has_not.iter().any(|group| tags.has(KEY.hash(group))), "{lines:?}");
        }
    }

    #[test]
    fn surrogate_keys_are_words() {
        let tags = tags(&[("surrogate-key", "post-1  post-2\tx"), ("surrogate-key", "y"), ("cache-groups", "\"g\"")]);
        assert!(["post-1", "post-2", "x", "y", "g"].iter().all(|tag| tags.has(KEY.hash(tag))));
        assert!(!tags.has(KEY.hash("")));
    }
}
