//! The folder, as it is found and as it is left.

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;

fn entry(key: &str, tags: &[u64], content: &[&str]) -> TierEntry {
    TierEntry::new(key, tags, content.iter().map(|piece| Bytes::copy_from_slice(piece.as_bytes())).collect())
}

/// Opened, looked through, and written to as far as it was told.
fn open(folder: &Path, capacity: u64) -> Disk {
    let disk = Disk::open(folder, capacity).unwrap();
    disk.flush();
    disk
}

async fn content(disk: &Disk, key: &str) -> Option<Bytes> {
    disk.load(key).await
}

/// Files of entries, whatever they are called.
fn files(folder: &Path) -> Vec<PathBuf> {
    let shelves = fs::read_dir(folder).unwrap().map(|shelf| shelf.unwrap().path()).filter(|path| path.is_dir());
    shelves.flat_map(|shelf| fs::read_dir(shelf).unwrap().map(|file| file.unwrap().path())).collect()
}

#[tokio::test]
async fn what_is_stored_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path(), 1 << 20);
    disk.store(entry("a", &[1, 2], &["he", "llo"]));
    disk.store(entry("b", &[], &["old"]));
    disk.store(entry("b", &[], &["new"]));
    disk.flush();
    assert_eq!(content(&disk, "a").await.unwrap(), "hello");
    let stats = disk.stats();
    drop(disk);

    let disk = open(folder.path(), 1 << 20);
    assert_eq!(disk.stats(), stats);
    for (key, expected) in [("a", Some("hello")), ("b", Some("new")), ("c", None)] {
        assert_eq!(disk.holds(key), expected.is_some());
        assert_eq!(content(&disk, key).await.as_deref(), expected.map(str::as_bytes), "{key}");
    }
    assert_eq!(files(folder.path()).len(), 2, "of what was replaced nothing is left");
    assert_eq!(disk.remove_if(&mut |_, tags| tags.contains(&2)), 1);
    assert!(!disk.holds("a") && disk.holds("b"));
}

#[tokio::test]
async fn what_was_removed_on_its_way_does_not_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path(), 1 << 20);
    for number in 0..200 {
        let key = number.to_string();
        disk.store(entry(&key, &[], &["x"]));
        assert!(disk.remove(&key) && !disk.holds(&key));
    }
    disk.flush();
    assert_eq!((disk.stats().entries, files(folder.path()).len()), (0, 0));
}

#[tokio::test]
async fn the_least_recently_used_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path(), 10_000);
    let large = "x".repeat(1000);
    for key in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
        disk.store(entry(key, &[], &[&large]));
    }
    disk.flush();
    assert!(content(&disk, "a").await.is_some());
    disk.store(entry("j", &[], &[&large]));
    disk.flush();
    // Twice: the deletions were only told while the first was waited for.
    disk.flush();
    assert!(disk.holds("a") && !disk.holds("b") && disk.holds("c") && disk.holds("j"));
    let stats = disk.stats();
    assert!(stats.bytes <= 10_000, "{stats:?}");
    assert_eq!(stats.entries, files(folder.path()).len() as u64);
    disk.store(entry("larger than an eighth of all", &[], &[&large, &large]));
    assert_eq!(disk.stats().dropped, 1);
}

#[tokio::test]
async fn what_is_broken_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path(), 1 << 20);
    for key in ["cut", "changed", "sound"] {
        disk.store(entry(key, &[7], &["hello"]));
    }
    disk.flush();
    drop(disk);
    for path in files(folder.path()) {
        let mut bytes = fs::read(&path).unwrap();
        if bytes.windows(3).any(|part| part == b"cut") {
            bytes.pop();
        } else if bytes.windows(7).any(|part| part == b"changed") {
            *bytes.last_mut().unwrap() = b'!';
        }
        fs::write(path, bytes).unwrap();
    }
    let shelf = folder.path().join("00");
    fs::create_dir_all(&shelf).unwrap();
    fs::write(shelf.join("0000000000000bad"), b"RPC1").unwrap();
    fs::write(shelf.join("0000000000000abc.new"), b"half").unwrap();

    let disk = open(folder.path(), 1 << 20);
    assert!(!disk.holds("cut"));
    assert_eq!(content(&disk, "changed").await, None);
    assert!(!disk.holds("changed"), "and is not asked for again");
    assert_eq!(content(&disk, "sound").await.unwrap(), "hello");
    disk.flush();
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn two_processes_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), 1 << 20);
    first.store(entry("a", &[], &["x"]));
    first.flush();
    let second = Disk::open(folder.path(), 1 << 20).unwrap();
    second.store(entry("b", &[], &["x"]));
    assert_eq!((second.stats().entries, second.stats().dropped), (0, 1));
    drop(first);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !second.holds("a") {
        assert!(Instant::now() < deadline, "the folder is free");
        std::thread::yield_now();
    }
}

#[test]
fn a_folder_that_can_not_be_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = Disk::open(&file, 1).unwrap_err();
    assert!(error.to_string().contains("can't keep responses in"), "{error}");
}
