//! Cache tags, by which related responses are purged together: `Cache-Groups` (RFC 9875) and `Surrogate-Key`.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use sfv::{BareItem, List, ListEntry, Parser};

use crate::memory_size::allocation;

/// The hashes of a response's cache tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tags {
    hashes: Box<[u64]>,
    /// The number of cache-tag invalidations before the response was fetched.
    generation: u64,
}

impl Tags {
    pub(crate) fn from_headers(headers: &HeaderMap, origin: &str, generation: u64, key: TagKey) -> Self {
        let mut hashes = Vec::new();
        for group in groups(headers, &CACHE_GROUPS) {
            // RFC 9875 §2.2: a group belongs to an origin. A purge by an operator applies to the group of every origin.
            hashes.extend([key.hash(&group), key.hash_of_group(origin, &group)]);
        }
        for line in headers.get_all(SURROGATE_KEY) {
            let words = line.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            hashes.extend(words.map(|word| key.hash(&String::from_utf8_lossy(word))));
        }
        Self { hashes: hashes.into(), generation }
    }

    /// Creates cache tags from [`hashes`](Self::hashes) and [`generation`](Self::generation).
    pub(crate) fn from_hashes(hashes: Box<[u64]>, generation: u64) -> Self {
        Self { hashes, generation }
    }

    pub(crate) fn contains(&self, tag: u64) -> bool {
        self.hashes.contains(&tag)
    }

    pub(crate) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn weight(&self) -> usize {
        allocation(size_of_val(&*self.hashes))
    }
}

/// Returns the hashes of the cache groups that a response to an unsafe request invalidates.
// RFC 9875 §3
pub(crate) fn invalidated_groups(headers: &HeaderMap, origin: &str, key: TagKey) -> Vec<u64> {
    groups(headers, &CACHE_GROUP_INVALIDATION).iter().map(|group| key.hash_of_group(origin, group)).collect()
}

/// A secret key for hashing cache tags.
///
/// Applications build tags from the input of clients. Without a secret, a client could choose a tag with the hash of
/// another one.
#[derive(Clone, Copy)]
pub(crate) struct TagKey([u8; 16]);

impl TagKey {
    /// Creates a tag key from a secret, such as one that persists across restarts.
    pub(crate) const fn new(secret: [u8; 16]) -> Self {
        Self(secret)
    }

    /// Creates a random tag key.
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

/// Parses a structured-field list of strings. RFC 9651 §4.2: a field that cannot be parsed is ignored.
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
        Tags::from_headers(&headers, "http://a.example", 0, KEY)
    }

    const KEY: TagKey = TagKey([7; 16]);

    #[test]
    fn hashes_of_cache_tags_depend_on_the_tag_key() {
        let other = TagKey::random();
        assert_eq!(KEY.hash("a"), TagKey::new([7; 16]).hash("a"));
        assert!(KEY.hash("a") != other.hash("a") && other.hash("a") != TagKey::random().hash("a"));
    }

    #[test]
    fn parses_cache_groups_as_a_structured_list_of_strings() {
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
                    tags.contains(KEY.hash(group)) && tags.contains(KEY.hash_of_group("http://a.example", group)),
                    "{lines:?}"
                );
                assert!(!tags.contains(KEY.hash_of_group("http://b.example", group)), "{lines:?}");
            }
            assert!(!has_not.iter().any(|group| tags.contains(KEY.hash(group))), "{lines:?}");
        }
    }

    #[test]
    fn parses_surrogate_keys_as_words_separated_by_whitespace() {
        let tags = tags(&[("surrogate-key", "post-1  post-2\tx"), ("surrogate-key", "y"), ("cache-groups", "\"g\"")]);
        assert!(["post-1", "post-2", "x", "y", "g"].iter().all(|tag| tags.contains(KEY.hash(tag))));
        assert!(!tags.contains(KEY.hash("")));
    }
}
