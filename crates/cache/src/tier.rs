//! The interface that a second-level store implements.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

/// A second-level store for a [`CacheStore`](crate::CacheStore): larger and slower than memory, and possibly persistent.
///
/// The feature `disk` has an implementation, `DiskTier`. The [`CacheStore`](crate::CacheStore) decides which entries are stored, how long
/// they can be used, and when they are removed. A tier returns entries unchanged until they are removed or evicted. A failure
/// of a tier only costs hits, so no method returns an error.
///
/// The methods that return no future are called while a client waits. They must not block, except for locks in memory.
pub trait Tier: Debug + Send + Sync + 'static {
    /// Returns whether the store contains an entry for `key`. Called on each memory miss; `true` for a missing entry is
    /// slow, but not wrong.
    fn contains(&self, key: &str) -> bool;

    /// Loads the content of the entry for `key`. The future returns `None` if the entry is missing or corrupt.
    fn load(&self, key: &str) -> LoadFuture;

    /// Stores an entry, and replaces the previous entry with the same key. The tier can evict it at any time.
    fn store(&self, entry: TierEntry);

    /// Removes the entry for `key`. Returns whether there was one.
    ///
    /// After this call, an entry from an earlier [`store`](Self::store) is not loaded, even if it was not written yet.
    fn remove(&self, key: &str) -> bool;

    /// Removes all entries for whose cache key and cache tags `is_selected` returns `true`. Returns their number.
    fn remove_if(&self, is_selected: &mut dyn FnMut(&str, &[u64]) -> bool) -> u64;

    /// Returns the persistent secret with which entries are stored, or `None` if the tier has none. Called once.
    ///
    /// Entries can only be used with the secret that they were stored with. Without a secret, only the process that stored them can use
    /// them.
    fn secret(&self) -> Option<[u8; 16]> {
        None
    }

    /// Returns the current statistics of the tier.
    fn stats(&self) -> TierStats;

    /// Waits until all pending entries are written. Blocks the thread; called at shutdown.
    fn flush(&self) {}
}

/// The future that [`Tier::load`] returns.
pub type LoadFuture = Pin<Box<dyn Future<Output = Option<Bytes>> + Send>>;

/// An entry to store in a [`Tier`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TierEntry {
    /// The cache key of the entry.
    pub key: Box<str>,
    /// The hashes of the cache tags by which the entry can be selected for removal.
    pub tags: Box<[u64]>,
    /// The content of the entry, as a list of byte segments. Response bodies are shared with memory and not copied.
    pub content: Vec<Bytes>,
}

impl TierEntry {
    /// Creates an entry from its key, its tags and the segments of its content.
    pub fn new(key: impl Into<Box<str>>, tags: impl Into<Box<[u64]>>, content: Vec<Bytes>) -> Self {
        Self { key: key.into(), tags: tags.into(), content }
    }

    /// Returns the size of the content in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.content.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Returns whether the content is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Statistics of a second-level store ([`Tier`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierStats {
    /// The number of stored entries.
    pub entries: u64,
    /// The total size of the stored entries in bytes.
    pub bytes: u64,
    /// The number of entries that were dropped because of an error or because too many writes were pending.
    pub dropped: u64,
}

impl TierStats {
    /// Creates statistics from the number of entries, their size in bytes and the number of dropped entries.
    #[must_use]
    pub fn new(entries: u64, bytes: u64, dropped: u64) -> Self {
        Self { entries, bytes, dropped }
    }
}
