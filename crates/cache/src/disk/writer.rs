//! The thread that changes the folder.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use super::file;
use super::{Shared, access};
use crate::tier::TierEntry;

pub(super) enum Job {
    Write {
        number: u64,
        entry: TierEntry,
    },
    Delete(Arc<str>),
    /// Says so when all before it is done.
    Flush(SyncSender<()>),
}

pub(super) struct Writer {
    /// Gone with the last [`Disk`](super::Disk), and then what is queued is all that is left to do.
    shared: Weak<Shared>,
    folder: PathBuf,
    /// Held while the folder is ours.
    lock: File,
    /// Of the next file.
    next: u64,
}

impl Writer {
    pub(super) fn new(shared: Weak<Shared>, folder: &Path, lock: File) -> Self {
        Self { shared, folder: folder.to_owned(), lock, next: 0 }
    }

    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        // The process before this one may still have it; it ends soon, or this one has no use for a disk.
        if self.lock.lock().is_err() || self.look_around().is_err() {
            return;
        }
        if let Some(shared) = self.shared.upgrade() {
            shared.index().open();
        }
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Write { number, entry } => self.write(number, &entry),
                Job::Delete(name) => drop(fs::remove_file(self.folder.join(&*name))),
                Job::Flush(done) => drop(done.send(())),
            }
        }
    }

    /// Finds what was left here, the oldest first.
    fn look_around(&mut self) -> io::Result<()> {
        let mut found: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for shelf in fs::read_dir(&self.folder)? {
            let shelf = shelf?;
            if !shelf.file_type()?.is_dir() {
                continue;
            }
            access::restrict_folder(&shelf.path());
            for file in fs::read_dir(shelf.path())? {
                let file = file?;
                let (path, modified) = (file.path(), file.metadata()?.modified()?);
                match number_in(&path) {
                    Some(number) => {
                        access::restrict_file(&path);
                        self.next = self.next.max(number + 1);
                        found.push((modified, number, path));
                    }
                    // What was never finished.
                    None => drop(fs::remove_file(path)),
                }
            }
        }
        found.sort_unstable();
        for (_, number, path) in found {
            let Some(shared) = self.shared.upgrade() else { return Ok(()) };
            match file::read_head(&path) {
                Ok((head, length)) => shared.index().found(&head.key, head.tags, name(number).into(), length),
                Err(_) => fs::remove_file(path)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, number: u64, entry: &TierEntry) {
        let name = name(self.next);
        self.next += 1;
        let path = self.folder.join(&name);
        let written = file::write(&path, entry);
        let Some(shared) = self.shared.upgrade() else { return };
        shared.queued.fetch_sub(entry.len(), Ordering::Relaxed);
        match written {
            Ok(length) => {
                if !shared.index().written(&entry.key, number, name.into(), length) {
                    // Removed while it was on its way.
                    drop(fs::remove_file(path));
                }
            }
            Err(_) => {
                shared.dropped.fetch_add(1, Ordering::Relaxed);
                shared.index().lost(&entry.key, number);
            }
        }
    }
}

/// Shelved, for folders with very many files are slow on some systems.
fn name(number: u64) -> String {
    format!("{:02x}/{number:016x}", number & 0xff)
}

fn number_in(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let number = u64::from_str_radix(name, 16).ok()?;
    (name.len() == 16).then_some(number)
}
