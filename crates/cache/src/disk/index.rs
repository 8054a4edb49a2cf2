//! What is in the folder, known from memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Jobs;
use super::writer::Job;
use crate::tier::TierEntry;

pub(super) struct Index {
    entries: HashMap<Arc<str>, Entry>,
    /// Files in the order in which they were used.
    used: BTreeMap<u64, Arc<str>>,
    bytes: u64,
    capacity: u64,
    /// Counts uses and entries.
    now: u64,
    /// Whether the folder has been looked through, and is ours.
    is_open: bool,
    jobs: Jobs,
}

struct Entry {
    /// Tells it from what was stored under the same key before.
    number: u64,
    tags: Box<[u64]>,
    /// `None`: on its way.
    file: Option<Stored>,
}

struct Stored {
    name: Arc<str>,
    length: u64,
    used: u64,
}

impl Index {
    pub(super) fn new(capacity: u64, jobs: Jobs) -> Self {
        let (entries, used) = (HashMap::new(), BTreeMap::new());
        Self { entries, used, bytes: 0, capacity, now: 0, is_open: false, jobs }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// From now on entries are taken.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    pub(super) fn send(&self, job: Job) {
        self.jobs.send(job);
    }

    /// Entries, and the bytes of their files.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.used.len() as u64, self.bytes)
    }

    pub(super) fn file(&self, key: &str) -> Option<&Arc<str>> {
        self.entries.get(key)?.file.as_ref().map(|file| &file.name)
    }

    /// The name of the file, which is used now.
    pub(super) fn used(&mut self, key: &str) -> Option<Arc<str>> {
        self.now += 1;
        let (key, _) = self.entries.get_key_value(key)?;
        let key = Arc::clone(key);
        let file = self.entries.get_mut(&key)?.file.as_mut()?;
        self.used.remove(&file.used);
        file.used = self.now;
        let name = Arc::clone(&file.name);
        self.used.insert(self.now, key);
        Some(name)
    }

    /// Sends an entry on its way, in the place of nothing.
    pub(super) fn await_file(&mut self, entry: TierEntry) {
        self.now += 1;
        let awaited = Entry { number: self.now, tags: entry.tags.clone(), file: None };
        self.entries.insert(Arc::from(&*entry.key), awaited);
        self.send(Job::Write { number: self.now, entry });
    }

    /// The file of an entry has been written. `false`: it is of no use any more.
    pub(super) fn written(&mut self, key: &str, number: u64, name: Arc<str>, length: u64) -> bool {
        let Some((key, _)) = self.entries.get_key_value(key).filter(|(_, entry)| entry.number == number) else {
            return false;
        };
        let key = Arc::clone(key);
        self.place(key, name, length);
        self.make_room();
        true
    }

    /// The writing of an entry has failed.
    pub(super) fn lost(&mut self, key: &str, number: u64) {
        if self.entries.get(key).is_some_and(|entry| entry.number == number) {
            self.entries.remove(key);
        }
    }

    /// A file of before was found, later than all that were found so far.
    pub(super) fn found(&mut self, key: &str, tags: Box<[u64]>, name: Arc<str>, length: u64) {
        self.remove(key);
        self.now += 1;
        let key = Arc::<str>::from(key);
        self.entries.insert(Arc::clone(&key), Entry { number: self.now, tags, file: None });
        self.place(key, name, length);
        self.make_room();
    }

    /// The file turned out to be gone or broken.
    pub(super) fn forget(&mut self, key: &str, name: &Arc<str>) {
        if self.file(key) == Some(name) {
            self.remove(key);
        }
    }

    pub(super) fn remove(&mut self, key: &str) -> bool {
        let Some(entry) = self.entries.remove(key) else {
            return false;
        };
        if let Some(file) = entry.file {
            self.used.remove(&file.used);
            self.bytes -= file.length;
            self.send(Job::Delete(file.name));
        }
        true
    }

    pub(super) fn remove_if(&mut self, chosen: &mut dyn FnMut(&str, &[u64]) -> bool) -> u64 {
        let doomed =
            self.entries.iter().filter(|(key, entry)| chosen(key, &entry.tags)).map(|(key, _)| Arc::clone(key));
        let doomed: Vec<_> = doomed.collect();
        doomed.iter().filter(|key| self.remove(key)).count() as u64
    }

    fn place(&mut self, key: Arc<str>, name: Arc<str>, length: u64) {
        self.now += 1;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.file = Some(Stored { name, length, used: self.now });
            self.bytes += length;
            self.used.insert(self.now, key);
        }
    }

    fn make_room(&mut self) {
        while self.bytes > self.capacity
            && let Some((_, key)) = self.used.first_key_value()
        {
            let key = Arc::clone(key);
            self.remove(&key);
        }
    }
}
