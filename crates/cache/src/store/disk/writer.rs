//! The thread that writes and deletes the files of the disk store.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::SystemTime;

use super::jobs::Job;
use super::state::DiskState;
use super::{access, file};
use crate::tier::TierEntry;

/// The state of the disk store's writer thread.
pub(super) struct Writer {
    /// The shared state of the store, or `None` after the last [`DiskTier`](super::DiskTier) is dropped. The writer
    /// then finishes its queue.
    inner: Weak<DiskState>,
    folder: PathBuf,
    /// The lock on the cache directory, held until the writer thread ends.
    lock: File,
    /// The number in the name of the next file.
    next_number: u64,
}

impl Writer {
    pub(super) fn new(inner: Weak<DiskState>, folder: &Path, lock: File) -> Self {
        Self { inner, folder: folder.to_owned(), lock, next_number: 0 }
    }

    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        // The old process of a zero-downtime upgrade may hold the lock until it ends.
        if self.lock.lock().is_err() || self.index_files().is_err() {
            return;
        }
        if let Some(inner) = self.inner.upgrade() {
            inner.index().open();
        }
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Write { number, entry } => self.write(number, &entry),
                Job::Delete(name) => drop(fs::remove_file(self.folder.join(&*name))),
                Job::Flush(done) => drop(done.send(())),
            }
        }
    }

    /// Indexes the files of earlier processes, from the oldest to the newest.
    fn index_files(&mut self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for subfolder in fs::read_dir(&self.folder)? {
            let subfolder = subfolder?;
            if !subfolder.file_type()?.is_dir() {
                continue;
            }
            access::restrict_folder(&subfolder.path());
            for file in fs::read_dir(subfolder.path())? {
                let file = file?;
                let (path, modified) = (file.path(), file.metadata()?.modified()?);
                match number_in(&path) {
                    Some(number) => {
                        access::restrict_file(&path);
                        self.next_number = self.next_number.max(number + 1);
                        files.push((modified, number, path));
                    }
                    // A temporary file.
                    None => drop(fs::remove_file(path)),
                }
            }
        }
        files.sort_unstable();
        for (_, number, path) in files {
            let Some(inner) = self.inner.upgrade() else { return Ok(()) };
            match file::read_head(&path) {
                Ok((head, length)) => inner.index().insert_existing(&head.key, head.tags, name(number).into(), length),
                Err(_) => fs::remove_file(path)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, number: u64, entry: &TierEntry) {
        let name = name(self.next_number);
        self.next_number += 1;
        let path = self.folder.join(&name);
        let written = file::write(&path, entry);
        let Some(inner) = self.inner.upgrade() else { return };
        inner.queued.fetch_sub(entry.len(), Ordering::Relaxed);
        match written {
            Ok(length) => {
                if !inner.index().set_written(&entry.key, number, name.into(), length) {
                    // The entry was removed in the meantime.
                    drop(fs::remove_file(path));
                }
            }
            Err(_) => {
                inner.dropped.fetch_add(1, Ordering::Relaxed);
                inner.index().set_failed(&entry.key, number);
            }
        }
    }
}

/// Returns the path of a file in one of 256 subdirectories, as large directories are slow on some file systems.
fn name(number: u64) -> String {
    format!("{:02x}/{number:016x}", number & 0xff)
}

/// Returns the number in a file name, or `None` for a temporary file.
fn number_in(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let number = u64::from_str_radix(name, 16).ok()?;
    (name.len() == 16).then_some(number)
}
