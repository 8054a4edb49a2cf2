//! The interface of second-level stores.

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
    /// Returns whether an entry is stored. Called on each memory miss; `true` for a missing entry is slow, but not wrong.
    fn contains(&self, key: &str) -> bool;

    /// Loads the content of an entry. The future returns `None` if the entry is missing or corrupt.
    fn load(&self, key: &str) -> LoadFuture;

    /// Stores an entry in place of the previous entry with its key. The tier can evict it at any time.
    fn store(&self, entry: TierEntry);

    /// Removes an entry. Returns whether there was one.
    ///
    /// After this call, an entry from an earlier [`store`](Self::store) is not loaded, even if it was not written yet.
    fn remove(&self, key: &str) -> bool;

    /// Removes all entries that are selected by key and tags. Returns their number.
    fn remove_if(&self, is_selected: &mut dyn FnMut(&str, &[u64]) -> bool) -> u64;

    /// Returns a secret that is stored with the entries. Called once.
    ///
    /// Entries can only be used with the secret that they were stored with. Without a secret, only the process that stored them can use
    /// them.
    fn secret(&self) -> Option<[u8; 16]> {
        None
    }

    /// Returns the current statistics.
    fn stats(&self) -> TierStats;

    /// Waits until all entries are written. Blocks the thread; called at shutdown.
    fn flush(&self) {}
}

/// The future of [`Tier::load`].
pub type LoadFuture = Pin<Box<dyn Future<Output = Option<Bytes>> + Send>>;

/// An entry for a [`Tier`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TierEntry {
    /// The cache key.
    pub key: Box<str>,
    /// The tags by which the entry can be selected for removal.
    pub tags: Box<[u64]>,
    /// The content in pieces. Response bodies are shared with memory and not copied.
    pub content: Vec<Bytes>,
}

impl TierEntry {
    /// Creates an entry whose content has one or several pieces.
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

/// Statistics of a [`Tier`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierStats {
    /// The number of stored entries.
    pub entries: u64,
    /// The size of the stored entries in bytes.
    pub bytes: u64,
    /// The number of entries that were dropped, because of an error or too many pending writes.
    pub dropped: u64,
}

impl TierStats {
    /// Creates statistics with these values.
    #[must_use]
    pub fn new(entries: u64, bytes: u64, dropped: u64) -> Self {
        Self { entries, bytes, dropped }
    }
}
