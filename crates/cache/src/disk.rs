//! Stored responses on a disk: one file each, in a folder that is nobody else's.
//!
//! A thread of its own writes and deletes; readings are done where tokio does what blocks. What is where is known from
//! memory, so that a miss costs a look into a map. Nothing is ever changed: a file is written under another name, and renamed
//! when it is whole. So what is found after a crash is whole, or is seen to be not by its checksum.

mod access;
mod file;
mod index;
mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use self::index::Index;
use self::writer::{Job, Writer};
use crate::tier::{Load, Tier, TierEntry, TierStats};

/// A [`Tier`] in a folder.
///
/// ```no_run
/// use rproxy_cache::{CacheLayer, CacheStore, Disk};
///
/// let disk = Disk::open("/var/cache/example", 10 << 30)?;
/// let layer = CacheLayer::new(CacheStore::in_memory(64 << 20).behind(disk));
/// # let _ = layer;
/// # Ok::<(), rproxy_cache::DiskError>(())
/// ```
///
/// What was there before a restart is found again, a moment after the start: the folder is read in the background, and as
/// soon as another process that has it open has ended.
///
/// Takes about 200 bytes of memory for each file, and up to 16 MiB for what is on its way to the disk. The least recently used
/// files make room for new ones.
#[derive(Clone)]
pub struct Disk {
    shared: Arc<Shared>,
}

/// A folder that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("can't store responses in {}", folder.display())]
pub struct DiskError {
    folder: PathBuf,
    #[source]
    error: io::Error,
}

struct Shared {
    folder: PathBuf,
    secret: [u8; 16],
    index: Mutex<Index>,
    /// Bytes on their way to the disk.
    queued: AtomicU64,
    dropped: AtomicU64,
    /// As many as may be read at once.
    readers: Arc<Semaphore>,
}

/// The writer ends with the last of these.
struct Jobs(Mutex<Sender<Job>>);

impl Disk {
    /// Keeps up to `capacity` bytes in `folder`, which is made if it is not there. Files have the mode 0600 and folders 0700,
    /// also those that were there before: `folder` must be for this cache alone.
    ///
    /// # Errors
    ///
    /// If it can't be made, or not be written into.
    pub fn open(folder: impl AsRef<Path>, capacity: u64) -> Result<Self, DiskError> {
        let folder = folder.as_ref();
        let failed = |error| DiskError { folder: folder.to_owned(), error };
        access::create_folder(folder).map_err(failed)?;
        access::restrict_folder(folder);
        let lock = access::open_lock(&folder.join("lock")).map_err(failed)?;
        let secret = access::secret(&folder.join("key")).map_err(failed)?;
        let (jobs, received) = channel();
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            secret,
            index: Mutex::new(Index::new(capacity, Jobs(Mutex::new(jobs)))),
            queued: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            readers: Arc::new(Semaphore::new(MOST_READERS)),
        });
        let writer = Writer::new(Arc::downgrade(&shared), folder, lock);
        std::thread::Builder::new()
            .name("rproxy-cache disk".to_owned())
            .spawn(move || writer.run(&received))
            .map_err(failed)?;
        Ok(Self { shared })
    }
}

impl Tier for Disk {
    fn holds(&self, key: &str) -> bool {
        self.shared.index().file(key).is_some()
    }

    fn load(&self, key: &str) -> Load {
        let Some(name) = self.shared.index().used(key) else {
            return Box::pin(std::future::ready(None));
        };
        let (shared, key) = (Arc::clone(&self.shared), Box::<str>::from(key));
        Box::pin(async move {
            let permit = Arc::clone(&shared.readers).acquire_owned().await.ok()?;
            let path = shared.folder.join(&*name);
            let read = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                file::read(&path)
            });
            match read.await {
                Ok(Ok(entry)) if entry.key == key => entry.content.into_iter().next(),
                // It may have made room for another by now; or it is not what was written.
                _ => {
                    shared.index().forget(&key, &name);
                    None
                }
            }
        })
    }

    fn store(&self, entry: TierEntry) {
        let length = entry.len();
        let is_full = self.shared.queued.fetch_add(length, Ordering::Relaxed) + length > MOST_QUEUED;
        let mut index = self.shared.index();
        // What it was before is out of date even if there is no room for what it is now.
        index.remove(&entry.key);
        if is_full || !index.is_open() || length > index.capacity() / 8 {
            self.shared.queued.fetch_sub(length, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        index.await_file(entry);
    }

    fn remove(&self, key: &str) -> bool {
        self.shared.index().remove(key)
    }

    fn remove_if(&self, chosen: &mut dyn FnMut(&str, &[u64]) -> bool) -> u64 {
        self.shared.index().remove_if(chosen)
    }

    fn secret(&self) -> Option<[u8; 16]> {
        Some(self.shared.secret)
    }

    fn stats(&self) -> TierStats {
        let (entries, bytes) = self.shared.index().size();
        TierStats::new(entries, bytes, self.shared.dropped.load(Ordering::Relaxed))
    }

    fn flush(&self) {
        let (done, written) = std::sync::mpsc::sync_channel(1);
        self.shared.index().send(Job::Flush(done));
        // An error: the writer has ended, or never began, and there is nothing to wait for.
        let _ = written.recv_timeout(FLUSHED_WITHIN);
    }
}

impl Shared {
    // A panic elsewhere leaves nothing half done here.
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jobs {
    fn send(&self, job: Job) {
        // Without a writer nothing is written: then nothing is found, either.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).send(job);
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("folder", &self.shared.folder).finish_non_exhaustive()
    }
}

/// A disk takes what is queued in a moment, or is no good.
const FLUSHED_WITHIN: Duration = Duration::from_secs(5);
const MOST_QUEUED: u64 = 16 << 20;
/// Each may take as much memory as the largest file.
const MOST_READERS: usize = 16;

#[cfg(test)]
mod tests;
