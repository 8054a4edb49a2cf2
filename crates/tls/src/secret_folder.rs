use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::crypto::digest;

/// A folder for private keys and certificates: its files have mode 0600 and are replaced atomically.
///
/// New folders have mode 0700. All methods block while they access the disk.
#[derive(Clone, Debug)]
pub(crate) struct SecretFolder {
    path: PathBuf,
}

impl SecretFolder {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub(crate) fn subfolder(&self, name: impl AsRef<Path>) -> Self {
        Self::new(self.path.join(name))
    }

    pub(crate) fn file_path(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the folder for secrets, and its missing parents.
    fn create(&self) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.path)
    }

    /// Creates the folder for secrets, and checks that it is writable.
    pub(crate) fn open(&self) -> io::Result<()> {
        self.create()?;
        NamedTempFile::new_in(&self.path)?.close()
    }

    /// Reads a file in the folder, or returns `None` if the file does not exist.
    pub(crate) fn read(&self, file: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.file_path(file)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates or replaces a file in the folder atomically.
    pub(crate) fn write(&self, file: &str, content: &[u8]) -> io::Result<()> {
        let temporary = self.temporary(content)?;
        temporary.persist(self.file_path(file)).map_err(|error| error.error)?;
        self.sync()
    }

    /// Creates a file unless it exists, and returns the content of the file.
    ///
    /// If two processes write at the same time, both get the content of the first.
    pub(crate) fn write_new(&self, file: &str, content: &[u8]) -> io::Result<Vec<u8>> {
        let temporary = self.temporary(content)?;
        match temporary.persist_noclobber(self.file_path(file)) {
            Ok(_) => self.sync().map(|()| content.to_vec()),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => fs::read(self.file_path(file)),
            Err(error) => Err(error.error),
        }
    }

    /// Removes a file from the folder, if it exists.
    pub(crate) fn remove(&self, file: &str) -> io::Result<()> {
        match fs::remove_file(self.file_path(file)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Locks the folder, or returns `None` while another process or task holds the lock.
    ///
    /// The operating system releases the lock when the process that holds it ends.
    pub(crate) fn try_lock(&self) -> io::Result<Option<FolderLock>> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(FolderLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Waits until no other process or task holds the lock on the folder, and acquires the lock.
    pub(crate) fn lock(&self) -> io::Result<FolderLock> {
        let file = self.lock_file()?;
        file.lock()?;
        Ok(FolderLock { _file: file })
    }

    fn lock_file(&self) -> io::Result<File> {
        self.create()?;
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(self.file_path("lock"))
    }

    fn temporary(&self, content: &[u8]) -> io::Result<NamedTempFile> {
        self.create()?;
        // tempfile creates files with mode 0600.
        let mut temporary = NamedTempFile::new_in(&self.path)?;
        temporary.write_all(content)?;
        temporary.as_file().sync_all()?;
        Ok(temporary)
    }

    /// Syncs the folder to disk, which makes a renamed file durable.
    fn sync(&self) -> io::Result<()> {
        #[cfg(unix)]
        File::open(&self.path)?.sync_all()?;
        Ok(())
    }
}

/// A guard that releases the lock on a folder when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct FolderLock {
    _file: File,
}

/// Returns a unique folder name for a list of words, such as host names.
///
/// A single simple word is its own name. Other names end with a digest. The result is never a path.
pub(crate) fn folder_name(words: &[&str]) -> String {
    const READABLE: usize = 100;
    let first = words.first().copied().unwrap_or_default();
    let readable: String = first
        .chars()
        .take(READABLE)
        .map(|character| match character {
            'a'..='z' | '0'..='9' | '-' | '.' => character,
            _ => '-',
        })
        .collect();
    if words.len() == 1 && readable == first && !first.starts_with('.') && !first.is_empty() {
        return readable;
    }
    let readable = readable.trim_matches(['.', '-']);
    format!("{readable}_{}", &digest(words)[..16])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
    }

    #[test]
    fn write_replaces_the_file_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = SecretFolder::new(folder.path().join("a/b"));
        assert_eq!(secrets.read("key").unwrap(), None);
        secrets.write("key", b"first").unwrap();
        assert_eq!(secrets.read("key").unwrap().unwrap(), b"first");
        secrets.write("key", b"2").unwrap();
        assert_eq!(secrets.read("key").unwrap().unwrap(), b"2");
        let files: Vec<_> = fs::read_dir(secrets.path()).unwrap().collect();
        assert_eq!(files.len(), 1, "a temporary file is left: {files:?}");
        secrets.remove("key").unwrap();
        secrets.remove("key").unwrap();
        assert_eq!(secrets.read("key").unwrap(), None);
    }

    #[cfg(unix)]
    #[test]
    fn new_files_and_folders_are_accessible_only_to_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = SecretFolder::new(folder.path().join("a/b"));
        secrets.write("key", b"secret").unwrap();
        secrets.write_new("new", b"secret").unwrap();
        let _lock = secrets.lock().unwrap();
        for (path, expected) in
            [("a", 0o700), ("a/b", 0o700), ("a/b/key", 0o600), ("a/b/new", 0o600), ("a/b/lock", 0o600)]
        {
            assert_eq!(mode(&folder.path().join(path)), expected, "{path}");
        }
    }

    #[test]
    fn write_new_keeps_an_existing_file_and_returns_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = SecretFolder::new(folder.path());
        assert_eq!(secrets.write_new("account", b"first").unwrap(), b"first");
        assert_eq!(secrets.write_new("account", b"second").unwrap(), b"first");
        assert_eq!(secrets.read("account").unwrap().unwrap(), b"first");
    }

    #[test]
    fn folder_lock_is_exclusive_and_released_on_drop() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = SecretFolder::new(folder.path());
        let lock = secrets.try_lock().unwrap().unwrap();
        assert!(secrets.try_lock().unwrap().is_none());
        drop(lock);
        assert!(secrets.try_lock().unwrap().is_some());
    }

    #[test]
    fn certificate_folder_names_are_unique_and_contain_simple_host_names_unchanged() {
        assert_eq!(folder_name(&["www.example.com"]), "www.example.com");
        let long = "a".repeat(101);
        let longer = "a".repeat(102);
        let lists: &[&[&str]] = &[
            &["a.test"],
            &["a.test", "b.test"],
            &["a.testb.test"],
            &["a.test", "b", ".test"],
            &["../a"],
            &["..-a"],
            &[".."],
            &["."],
            &[""],
            &[],
            &["https://ca.test/dir"],
            &["https://ca.test-dir"],
            &[&long],
            &[&longer],
        ];
        let names: HashSet<_> = lists.iter().map(|list| folder_name(list)).collect();
        assert_eq!(names.len(), lists.len(), "{names:?}");
    }

    proptest! {
        #[test]
        fn certificate_folder_name_never_leads_outside_of_the_parent_folder(word in "\\PC*") {
            let name = folder_name(&[&word]);
            prop_assert!(!name.starts_with('.'), "{name}");
            prop_assert!(name.len() <= 120, "{name}");
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)), "{name}");
        }
    }
}
