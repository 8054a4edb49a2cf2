//! The state of a disk store that its handles and its writer thread share.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::index::Index;

/// The state of a disk store.
pub(super) struct DiskState {
    pub(super) folder: PathBuf,
    pub(super) secret: [u8; 16],
    pub(super) index: Mutex<Index>,
    /// The total size of pending writes in bytes.
    pub(super) queued: AtomicU64,
    pub(super) dropped: AtomicU64,
    /// A semaphore that limits concurrent reads.
    pub(super) readers: Arc<Semaphore>,
}

impl DiskState {
    /// Locks the index and ignores poisoning, because the index stays valid if a thread panics.
    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
