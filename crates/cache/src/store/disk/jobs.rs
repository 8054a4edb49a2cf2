//! The queue of jobs for the writer thread of a disk store.

use std::sync::mpsc::{Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

use crate::tier::TierEntry;

/// A job for the writer thread.
pub(super) enum Job {
    Write {
        number: u64,
        entry: TierEntry,
    },
    Delete(Arc<str>),
    /// A request to notify the sender when all earlier jobs are done.
    Flush(SyncSender<()>),
}

/// The job queue of the writer thread; dropping the queue ends the thread.
pub(super) struct JobQueue(Mutex<Sender<Job>>);

impl JobQueue {
    pub(super) fn new(jobs: Sender<Job>) -> Self {
        Self(Mutex::new(jobs))
    }

    pub(super) fn send(&self, job: Job) {
        // Without a writer thread, the entry is never written, which costs a hit.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).send(job);
    }
}
