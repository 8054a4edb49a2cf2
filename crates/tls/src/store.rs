use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use tempfile::NamedTempFile;

/// A folder of secrets: files are 0600, folders 0700, and a file is there whole or not at all.
///
/// All of its calls block for as long as the disk takes.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub(crate) fn folder(&self, name: impl AsRef<Path>) -> Self {
        Self::new(self.root.join(name))
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the folder, and those above it, where they are missing.
    fn create(&self) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.root)
    }

    /// Makes the folder and makes sure that it can be written.
    pub(crate) fn open(&self) -> io::Result<()> {
        self.create()?;
        NamedTempFile::new_in(&self.root)?.close()
    }

    pub(crate) fn read(&self, file: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(file)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts the file there, or replaces it, in one step that a crash can't split.
    pub(crate) fn write(&self, file: &str, content: &[u8]) -> io::Result<()> {
        let temporary = self.temporary(content)?;
        temporary.persist(self.path(file)).map_err(|error| error.error)?;
        self.sync()
    }

    /// Puts the file there unless there is one already. Answers with what is there now: of two processes that write
    /// at the same time, both go on with the first one's content.
    pub(crate) fn write_new(&self, file: &str, content: &[u8]) -> io::Result<Vec<u8>> {
        let temporary = self.temporary(content)?;
        match temporary.persist_noclobber(self.path(file)) {
            Ok(_) => self.sync().map(|()| content.to_vec()),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => fs::read(self.path(file)),
            Err(error) => Err(error.error),
        }
    }

    pub(crate) fn remove(&self, file: &str) -> io::Result<()> {
        match fs::remove_file(self.path(file)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The folder's lock, or `None` while another process, or another part of this one, has it. The operating system
    /// gives it back when its holder dies, so nobody waits for the dead.
    pub(crate) fn try_lock(&self) -> io::Result<Option<Lock>> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The folder's lock, as soon as nobody else has it.
    pub(crate) fn lock(&self) -> io::Result<Lock> {
        let file = self.lock_file()?;
        file.lock()?;
        Ok(Lock { _file: file })
    }

    fn lock_file(&self) -> io::Result<File> {
        self.create()?;
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(self.path("lock"))
    }

    fn temporary(&self, content: &[u8]) -> io::Result<NamedTempFile> {
        self.create()?;
        // tempfile makes them 0600.
        let mut temporary = NamedTempFile::new_in(&self.root)?;
        temporary.write_all(content)?;
        temporary.as_file().sync_all()?;
        Ok(temporary)
    }

    /// A rename is only on the disk when its folder is.
    fn sync(&self) -> io::Result<()> {
        #[cfg(unix)]
        File::open(&self.root)?.sync_all()?;
        Ok(())
    }
}

/// Given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Lock {
    _file: File,
}

/// A folder name for a list of words: readable where the words allow it, never a path, and different lists get
/// different names.
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

/// SHA-256 in hexadecimal over the words, each with its length so that no two lists look alike.
pub(crate) fn digest(words: &[impl AsRef<[u8]>]) -> String {
    let lengths: Vec<_> = words.iter().map(|word| (word.as_ref().len() as u64).to_be_bytes()).collect();
    let parts = lengths.iter().zip(words).flat_map(|(length, word)| [&length[..], word.as_ref()]);
    sha256(parts).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 over all the parts, one after the other.
pub(crate) fn sha256<T: AsRef<[u8]>>(parts: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut sha256 = match TLS13_AES_128_GCM_SHA256 {
        rustls::SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider.start(),
        rustls::SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider.start(),
    };
    for part in parts {
        sha256.update(part.as_ref());
    }
    sha256.finish().as_ref().to_vec()
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
    fn what_is_written_is_read_back_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("a/b"));
        assert_eq!(store.read("key").unwrap(), None);
        store.write("key", b"first").unwrap();
        assert_eq!(store.read("key").unwrap().unwrap(), b"first");
        store.write("key", b"2").unwrap();
        assert_eq!(store.read("key").unwrap().unwrap(), b"2");
        let left: Vec<_> = fs::read_dir(store.root()).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary file may stay: {left:?}");
        store.remove("key").unwrap();
        store.remove("key").unwrap();
        assert_eq!(store.read("key").unwrap(), None);
    }

    #[cfg(unix)]
    #[test]
    fn files_are_for_their_owner_alone_and_so_are_new_folders() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("a/b"));
        store.write("key", b"secret").unwrap();
        store.write_new("new", b"secret").unwrap();
        let _lock = store.lock().unwrap();
        for (path, expected) in
            [("a", 0o700), ("a/b", 0o700), ("a/b/key", 0o600), ("a/b/new", 0o600), ("a/b/lock", 0o600)]
        {
            assert_eq!(mode(&folder.path().join(path)), expected, "{path}");
        }
    }

    #[test]
    fn the_second_to_make_a_file_goes_on_with_what_the_first_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        assert_eq!(store.write_new("account", b"first").unwrap(), b"first");
        assert_eq!(store.write_new("account", b"second").unwrap(), b"first");
        assert_eq!(store.read("account").unwrap().unwrap(), b"first");
    }

    #[test]
    fn a_lock_is_held_by_one_and_free_again_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let lock = store.try_lock().unwrap().unwrap();
        assert!(store.try_lock().unwrap().is_none());
        drop(lock);
        assert!(store.try_lock().unwrap().is_some());
    }

    #[test]
    fn folder_names_are_readable_where_they_can_be_and_never_collide() {
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
        fn no_word_escapes_the_folder(word in "\\PC*") {
            let name = folder_name(&[&word]);
            prop_assert!(!name.starts_with('.'), "{name}");
            prop_assert!(name.len() <= 120, "{name}");
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)), "{name}");
        }
    }
}
