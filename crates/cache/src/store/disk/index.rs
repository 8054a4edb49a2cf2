//! The index of the cache directory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::jobs::{Job, JobQueue};
use crate::tier::TierEntry;

/// The entries of the cache directory, by key and in the order of their last use.
pub(super) struct Index {
    entries: HashMap<Arc<str>, Entry>,
    /// The cache keys, by the time of their last use.
    by_last_use: BTreeMap<u64, Arc<str>>,
    bytes: u64,
    capacity: u64,
    /// A logical clock that counts uses and insertions of entries.
    now: u64,
    /// Whether this process has locked and indexed the cache directory.
    is_open: bool,
    jobs: JobQueue,
}

struct Entry {
    /// A number that distinguishes this entry from earlier entries with the same key.
    number: u64,
    tags: Box<[u64]>,
    /// The file of the entry, or `None` until the file is written.
    file: Option<IndexedFile>,
}

struct IndexedFile {
    name: Arc<str>,
    length: u64,
    last_use: u64,
}

impl Index {
    pub(super) fn new(capacity: u64, jobs: JobQueue) -> Self {
        let (entries, by_last_use) = (HashMap::new(), BTreeMap::new());
        Self { entries, by_last_use, bytes: 0, capacity, now: 0, is_open: false, jobs }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Allows new entries in the index.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    pub(super) fn send(&self, job: Job) {
        self.jobs.send(job);
    }

    /// Returns the number and total size of the files.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.by_last_use.len() as u64, self.bytes)
    }

    /// Returns the file name of an entry, if the file has been written.
    pub(super) fn file(&self, key: &str) -> Option<&Arc<str>> {
        self.entries.get(key)?.file.as_ref().map(|file| &file.name)
    }

    /// Returns the file name of an entry, and records a use of the entry.
    pub(super) fn touch(&mut self, key: &str) -> Option<Arc<str>> {
        self.now += 1;
        let (key, _) = self.entries.get_key_value(key)?;
        let key = Arc::clone(key);
        let file = self.entries.get_mut(&key)?.file.as_mut()?;
        self.by_last_use.remove(&file.last_use);
        file.last_use = self.now;
        let name = Arc::clone(&file.name);
        self.by_last_use.insert(self.now, key);
        Some(name)
    }

    /// Inserts an entry, and queues its file for writing.
    pub(super) fn insert_pending(&mut self, entry: TierEntry) {
        self.now += 1;
        let pending = Entry { number: self.now, tags: entry.tags.clone(), file: None };
        self.entries.insert(Arc::from(&*entry.key), pending);
        self.send(Job::Write { number: self.now, entry });
    }

    /// Sets the file of a pending entry after the file has been written. Returns `false` if the entry was removed in
    /// the meantime.
    pub(super) fn set_written(&mut self, key: &str, number: u64, name: Arc<str>, length: u64) -> bool {
        let Some((key, _)) = self.entries.get_key_value(key).filter(|(_, entry)| entry.number == number) else {
            return false;
        };
        let key = Arc::clone(key);
        self.set_file(key, name, length);
        self.evict();
        true
    }

    /// Removes a pending entry whose file could not be written.
    pub(super) fn set_failed(&mut self, key: &str, number: u64) {
        if self.entries.get(key).is_some_and(|entry| entry.number == number) {
            self.entries.remove(key);
        }
    }

    /// Inserts an entry for a file that an earlier process wrote. Files are inserted from the oldest to the newest.
    pub(super) fn insert_existing(&mut self, key: &str, tags: Box<[u64]>, name: Arc<str>, length: u64) {
        self.remove(key);
        self.now += 1;
        let key = Arc::<str>::from(key);
        self.entries.insert(Arc::clone(&key), Entry { number: self.now, tags, file: None });
        self.set_file(key, name, length);
        self.evict();
    }

    /// Removes an entry whose file is missing or corrupt, unless a newer file was written for the entry.
    pub(super) fn remove_file(&mut self, key: &str, name: &Arc<str>) {
        if self.file(key) == Some(name) {
            self.remove(key);
        }
    }

    /// Removes an entry, and queues its file for deletion. Returns whether there was one.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let Some(entry) = self.entries.remove(key) else {
            return false;
        };
        if let Some(file) = entry.file {
            self.by_last_use.remove(&file.last_use);
            self.bytes -= file.length;
            self.send(Job::Delete(file.name));
        }
        true
    }

    /// Removes all entries for whose cache key and cache tags `is_selected` returns `true`. Returns their number.
    pub(super) fn remove_if(&mut self, is_selected: &mut dyn FnMut(&str, &[u64]) -> bool) -> u64 {
        let selected = self.entries.iter().filter(|(key, entry)| is_selected(key, &entry.tags));
        let keys: Vec<_> = selected.map(|(key, _)| Arc::clone(key)).collect();
        keys.iter().filter(|key| self.remove(key)).count() as u64
    }

    fn set_file(&mut self, key: Arc<str>, name: Arc<str>, length: u64) {
        self.now += 1;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.file = Some(IndexedFile { name, length, last_use: self.now });
            self.bytes += length;
            self.by_last_use.insert(self.now, key);
        }
    }

    /// Removes the least recently used entries until the total file size fits into the capacity.
    fn evict(&mut self) {
        while self.bytes > self.capacity
            && let Some((_, key)) = self.by_last_use.first_key_value()
        {
            let key = Arc::clone(key);
            self.remove(&key);
        }
    }
}
