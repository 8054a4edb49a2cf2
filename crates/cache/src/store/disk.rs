//! A second-level store on disk, with one file per entry in a dedicated directory.
//!
//! A background thread writes and deletes files, and tokio's blocking threads read them. An index in memory lists the files, so that
//! a miss needs no access to the disk. Files are never changed: a file is written under a temporary name, and renamed when it is
//! complete. After a crash, a file is either complete or recognised as corrupt by its length and checksum.

mod access;
mod file;
mod index;
mod jobs;
mod state;
mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;

use self::index::Index;
use self::jobs::{Job, JobQueue};
use self::state::DiskState;
use self::writer::Writer;
use crate::tier::{LoadFuture, Tier, TierEntry, TierStats};

/// A second-level store in a directory on disk.
///
/// ```no_run
/// use rproxy_cache::{CacheLayer, CacheStore, DiskTier};
///
/// let disk = DiskTier::open("/var/cache/example", 10 << 30)?;
/// let layer = CacheLayer::new(CacheStore::in_memory(64 << 20).with_tier(disk));
/// # let _ = layer;
/// # Ok::<(), rproxy_cache::DiskError>(())
/// ```
///
/// Entries survive a restart. They are available shortly after the start: a background thread indexes the folder, as soon as no other
/// process uses it.
///
/// The index takes about 200 bytes of memory per file, and pending writes take up to 16 MiB. The least recently used files are evicted.
#[derive(Clone)]
pub struct DiskTier {
    inner: Arc<DiskState>,
}

/// The error for a directory that cannot be used for the disk store.
#[derive(Debug, thiserror::Error)]
#[error("cannot store responses in {}", folder.display())]
pub struct DiskError {
    folder: PathBuf,
    #[source]
    error: io::Error,
}

impl DiskTier {
    /// Opens a store of at most `capacity` bytes in `folder`, which is created if it does not exist.
    ///
    /// `folder` must be used for this cache only: all files in it get mode 0600, and all folders 0700.
    ///
    /// # Errors
    ///
    /// If the folder cannot be created or written to.
    pub fn open(folder: impl AsRef<Path>, capacity: u64) -> Result<Self, DiskError> {
        let folder = folder.as_ref();
        let failed = |error| DiskError { folder: folder.to_owned(), error };
        access::create_folder(folder).map_err(failed)?;
        access::restrict_folder(folder);
        let lock = access::open_lock(&folder.join("lock")).map_err(failed)?;
        let secret = access::secret(&folder.join("key")).map_err(failed)?;
        let (jobs, received) = channel();
        let inner = Arc::new(DiskState {
            folder: folder.to_owned(),
            secret,
            index: Mutex::new(Index::new(capacity, JobQueue::new(jobs))),
            queued: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            readers: Arc::new(Semaphore::new(MAX_READERS)),
        });
        let writer = Writer::new(Arc::downgrade(&inner), folder, lock);
        std::thread::Builder::new()
            .name("rproxy-cache disk".to_owned())
            .spawn(move || writer.run(&received))
            .map_err(failed)?;
        Ok(Self { inner })
    }
}

impl Tier for DiskTier {
    fn contains(&self, key: &str) -> bool {
        self.inner.index().file(key).is_some()
    }

    fn load(&self, key: &str) -> LoadFuture {
        let Some(name) = self.inner.index().touch(key) else {
            return Box::pin(std::future::ready(None));
        };
        let (inner, key) = (Arc::clone(&self.inner), Box::<str>::from(key));
        Box::pin(async move {
            let permit = Arc::clone(&inner.readers).acquire_owned().await.ok()?;
            let path = inner.folder.join(&*name);
            let read = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                file::read(&path)
            });
            match read.await {
                Ok(Ok(entry)) if entry.key == key => entry.content.into_iter().next(),
                // The file was evicted in the meantime, or is corrupt.
                _ => {
                    inner.index().remove_file(&key, &name);
                    None
                }
            }
        })
    }

    fn store(&self, entry: TierEntry) {
        let length = entry.len();
        let is_full = self.inner.queued.fetch_add(length, Ordering::Relaxed) + length > MAX_QUEUED;
        let mut index = self.inner.index();
        // The previous entry is outdated, even if there is no room for the new one.
        index.remove(&entry.key);
        if is_full || !index.is_open() || length > index.capacity() / 8 {
            self.inner.queued.fetch_sub(length, Ordering::Relaxed);
            self.inner.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        index.insert_pending(entry);
    }

    fn remove(&self, key: &str) -> bool {
        self.inner.index().remove(key)
    }

    fn remove_if(&self, is_selected: &mut dyn FnMut(&str, &[u64]) -> bool) -> u64 {
        self.inner.index().remove_if(is_selected)
    }

    fn secret(&self) -> Option<[u8; 16]> {
        Some(self.inner.secret)
    }

    fn stats(&self) -> TierStats {
        let (entries, bytes) = self.inner.index().size();
        TierStats::new(entries, bytes, self.inner.dropped.load(Ordering::Relaxed))
    }

    fn flush(&self) {
        let (done, flushed) = std::sync::mpsc::sync_channel(1);
        self.inner.index().send(Job::Flush(done));
        // An error means that the writer has ended, so that no write is pending.
        let _ = flushed.recv_timeout(FLUSH_TIMEOUT);
    }
}

impl fmt::Debug for DiskTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskTier").field("folder", &self.inner.folder).finish_non_exhaustive()
    }
}

/// The maximum time to wait until all pending entries are written. A working disk needs much less.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum total size of pending writes in bytes.
const MAX_QUEUED: u64 = 16 << 20;
/// The maximum number of concurrent reads from disk. Each can take the memory of the largest file.
const MAX_READERS: usize = 16;

#[cfg(test)]
mod tests;
