//! Tests of the cache directory and its files.

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;

fn entry(key: &str, tags: &[u64], content: &[&str]) -> TierEntry {
    TierEntry::new(key, tags, content.iter().map(|piece| Bytes::copy_from_slice(piece.as_bytes())).collect())
}

/// Opens a disk store, and waits until its directory has been indexed.
fn open(folder: &Path, capacity: u64) -> DiskTier {
    let disk = DiskTier::open(folder, capacity).unwrap();
    disk.flush();
    disk
}

async fn content(disk: &DiskTier, key: &str) -> Option<Bytes> {
    disk.load(key).await
}

/// Returns the files in the subdirectories of the cache directory.
fn files(folder: &Path) -> Vec<PathBuf> {
    let subfolders =
        fs::read_dir(folder).unwrap().map(|subfolder| subfolder.unwrap().path()).filter(|path| path.is_dir());
    subfolders.flat_map(|subfolder| fs::read_dir(subfolder).unwrap().map(|file| file.unwrap().path())).collect()
}

#[tokio::test]
async fn entries_on_disk_survive_a_restart() {
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
        assert_eq!(disk.contains(key), expected.is_some());
        assert_eq!(content(&disk, key).await.as_deref(), expected.map(str::as_bytes), "{key}");
    }
    assert_eq!(files(folder.path()).len(), 2, "the replaced file is deleted");
    assert_eq!(disk.remove_if(&mut |_, tags| tags.contains(&2)), 1);
    assert!(!disk.contains("a") && disk.contains("b"));
}

#[tokio::test]
async fn pending_entries_removed_before_the_write_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path(), 1 << 20);
    for number in 0..200 {
        let key = number.to_string();
        disk.store(entry(&key, &[], &["x"]));
        assert!(disk.remove(&key) && !disk.contains(&key));
    }
    disk.flush();
    assert_eq!((disk.stats().entries, files(folder.path()).len()), (0, 0));
}

#[tokio::test]
async fn evicts_the_least_recently_used_cache_files() {
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
    // Twice, because the first flush queues deletions.
    disk.flush();
    assert!(disk.contains("a") && !disk.contains("b") && disk.contains("c") && disk.contains("j"));
    let stats = disk.stats();
    assert!(stats.bytes <= 10_000, "{stats:?}");
    assert_eq!(stats.entries, files(folder.path()).len() as u64);
    disk.store(entry("larger than an eighth of all", &[], &[&large, &large]));
    assert_eq!(disk.stats().dropped, 1);
}

#[tokio::test]
async fn ignores_corrupt_cache_files() {
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
    let subfolder = folder.path().join("00");
    fs::create_dir_all(&subfolder).unwrap();
    fs::write(subfolder.join("0000000000000bad"), b"RPC1").unwrap();
    fs::write(subfolder.join("0000000000000abc.new"), b"half").unwrap();

    let disk = open(folder.path(), 1 << 20);
    assert!(!disk.contains("cut"));
    assert_eq!(content(&disk, "changed").await, None);
    assert!(!disk.contains("changed"), "the entry is removed");
    assert_eq!(content(&disk, "sound").await.unwrap(), "hello");
    disk.flush();
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn second_process_cannot_use_a_locked_cache_directory() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), 1 << 20);
    first.store(entry("a", &[], &["x"]));
    first.flush();
    let second = DiskTier::open(folder.path(), 1 << 20).unwrap();
    second.store(entry("b", &[], &["x"]));
    assert_eq!((second.stats().entries, second.stats().dropped), (0, 1));
    drop(first);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !second.contains("a") {
        assert!(Instant::now() < deadline, "the folder is free");
        std::thread::yield_now();
    }
}

#[test]
fn rejects_a_cache_directory_that_cannot_be_created() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = DiskTier::open(&file, 1).unwrap_err();
    assert!(error.to_string().contains("cannot store responses in"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn restricts_the_permissions_of_new_and_existing_cache_files() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let open_up = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let check = || {
        let subfolders: Vec<_> = files(folder.path()).iter().map(|file| file.parent().unwrap().to_owned()).collect();
        assert!(!subfolders.is_empty());
        for path in subfolders.iter().map(PathBuf::as_path).chain([folder.path()]) {
            assert_eq!(mode(path), 0o700, "{}", path.display());
        }
        let own = ["lock", "key"].map(|name| folder.path().join(name));
        for path in files(folder.path()).iter().chain(&own) {
            assert_eq!(mode(path), 0o600, "{}", path.display());
        }
    };
    open_up(folder.path(), 0o755);
    let disk = open(folder.path(), 1 << 20);
    disk.store(entry("a", &[], &["secret"]));
    disk.flush();
    check();
    drop(disk);

    for file in files(folder.path()) {
        open_up(file.parent().unwrap(), 0o755);
        open_up(&file, 0o644);
    }
    open_up(folder.path(), 0o755);
    open_up(&folder.path().join("lock"), 0o644);
    open_up(&folder.path().join("key"), 0o644);
    let disk = open(folder.path(), 1 << 20);
    check();
    assert_eq!(content(&disk, "a").await.unwrap(), "secret");
}

#[tokio::test]
async fn entity_tag_secret_persists_in_the_cache_directory() {
    let folder = tempfile::tempdir().unwrap();
    let secret = open(folder.path(), 1 << 20).secret();
    assert_eq!(open(folder.path(), 1 << 20).secret(), secret);
    fs::write(folder.path().join("key"), "scribble").unwrap();
    assert_ne!(open(folder.path(), 1 << 20).secret(), secret);
    assert_ne!(open(tempfile::tempdir().unwrap().path(), 1 << 20).secret(), secret);
}
