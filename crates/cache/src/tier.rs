//! What may stand behind the memory of a [`CacheStore`](crate::CacheStore): larger, slower, and there after a restart.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

/// Keeps entries by key, for a [`CacheStore`](crate::CacheStore) that has no room for them in memory: on disk, as `Disk`
/// (feature `disk`) does, or wherever else bytes can be put.
///
/// The store decides what is kept, for how long it may be used and when it is dropped; a tier keeps what it is given, as it
/// was given, until it is told otherwise or runs out of room. Whatever goes wrong with it costs a hit and nothing else: so
/// nothing here returns an error.
///
/// All that does not return a future is called while a client waits, and must not block on more than memory.
pub trait Tier: Debug + Send + Sync + 'static {
    /// Whether there is an entry: asked at every miss in memory. `true` for one that is gone is not wrong, only slow.
    fn holds(&self, key: &str) -> bool;

    /// The entry, as it was stored. `None`: it is gone, or is not what it was.
    fn load(&self, key: &str) -> Load;

    /// Keeps an entry, in place of any other with its key. It may be dropped at any time, so also at once.
    fn store(&self, entry: TierEntry);

    /// Drops an entry. What was given to [`store`](Self::store) before is not found afterwards, even if it has not arrived
    /// where it is to be kept. Whether there was one.
    fn remove(&self, key: &str) -> bool;

    /// Drops all entries that are chosen by key and tags, and tells how many.
    fn remove_if(&self, chosen: &mut dyn FnMut(&str, &[u64]) -> bool) -> u64;

    /// A secret that is kept with the entries, and that nobody else knows. Entries are found again only with the secret that they
    /// were stored with; without one, only by the process that stored them. Asked once.
    fn secret(&self) -> Option<[u8; 16]> {
        None
    }

    /// What it holds now.
    fn stats(&self) -> TierStats;

    /// Waits until all that was stored has arrived where it is to be kept. Blocks; to be called at the end.
    fn flush(&self) {}
}

/// The future of [`Tier::load`].
pub type Load = Pin<Box<dyn Future<Output = Option<Bytes>> + Send>>;

/// What a [`Tier`] is to keep.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TierEntry {
    /// Under which key.
    pub key: Box<str>,
    /// By what it can be chosen for removal, apart from the key.
    pub tags: Box<[u64]>,
    /// What it is, in pieces: bodies are shared with the memory and not copied.
    pub content: Vec<Bytes>,
}

impl TierEntry {
    /// An entry in one piece or several.
    pub fn new(key: impl Into<Box<str>>, tags: impl Into<Box<[u64]>>, content: Vec<Bytes>) -> Self {
        Self { key: key.into(), tags: tags.into(), content }
    }

    /// The bytes of the content.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.content.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Whether there is no content.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a [`Tier`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierStats {
    /// Entries.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Entries that were not kept because too many others were on their way, or because of an error.
    pub dropped: u64,
}

impl TierStats {
    /// These numbers.
    #[must_use]
    pub fn new(entries: u64, bytes: u64, dropped: u64) -> Self {
        Self { entries, bytes, dropped }
    }
}
