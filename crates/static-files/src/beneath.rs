//! Opens files beneath a root, without leaving it by symbolic links or races.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, ResolveFlags, accessat, openat, openat2, readlinkat};
use rustix::io::Errno;

use crate::request_path::WELL_KNOWN;

/// The maximum number of symbolic links in one path.
const MAX_LINKS: usize = 16;

/// Files are opened without waiting for a writer (FIFO) or a carrier (terminal), before their type is known.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// Whether an operation may wait for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The operation fails with [`io::ErrorKind::WouldBlock`] instead of waiting.
    Never,
    /// The operation waits.
    Allowed,
}

/// Whether symbolic links can lead to hidden files, whose names begin with a dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HiddenFiles {
    /// Hidden files are not found.
    Missing,
    /// Hidden files are found like others.
    Found,
}

/// Opens the root itself, whose path may contain symbolic links.
pub(crate) fn open_root(path: &Path, waiting: Waiting) -> io::Result<OwnedFd> {
    match waiting {
        Waiting::Never => openat2(CWD, path, FOLDER, Mode::empty(), ResolveFlags::CACHED).map_err(unless_cached),
        Waiting::Allowed => Ok(openat(CWD, path, FOLDER, Mode::empty())?),
    }
}

/// Opens the root, and checks that files in it can be opened.
pub(crate) fn check_root(path: &Path) -> io::Result<OwnedFd> {
    let root = open_root(path, Waiting::Allowed)?;
    // Opening a folder by its path does not need the permission to search it.
    accessat(&root, ".", Access::EXEC_OK, AtFlags::empty())?;
    Ok(root)
}

/// Opens a file or folder beneath `root` for reading. The path has no empty segments, and none that is `.` or `..`.
///
/// A path without symbolic links is opened by one call to `openat2` (Linux 5.6). Otherwise, and if the kernel or a sandbox has
/// no `openat2`, the path is opened segment by segment, with the same result.
pub(crate) fn open(root: BorrowedFd<'_>, path: &[u8], waiting: Waiting, hidden: HiddenFiles) -> io::Result<OwnedFd> {
    let path = OsStr::from_bytes(path);
    match waiting {
        // RESOLVE_CACHED: Linux 5.12.
        Waiting::Never => {
            openat2(root, path, FILE, Mode::empty(), BENEATH.union(ResolveFlags::CACHED)).map_err(unless_cached)
        }
        Waiting::Allowed => match openat2(root, path, FILE, Mode::empty(), BENEATH) {
            Err(Errno::LOOP | Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::AGAIN) => {
                Ok(walk(root, path.as_bytes(), hidden)?)
            }
            result => Ok(result?),
        },
    }
}

/// Returns an error of an operation that must not wait. Errors that waiting can change become `WouldBlock`.
fn unless_cached(error: Errno) -> io::Error {
    match error {
        Errno::LOOP | Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::AGAIN => io::ErrorKind::WouldBlock.into(),
        error => error.into(),
    }
}

/// Opens a path segment by segment, and resolves symbolic links in this process.
///
/// Each segment is opened relative to the descriptor of its folder and without following links. A folder that another
/// process replaces by a link in the meantime is therefore still the opened folder, or is resolved as a link.
fn walk(root: BorrowedFd<'_>, path: &[u8], hidden: HiddenFiles) -> rustix::io::Result<OwnedFd> {
    // The segments that are not opened yet, the next one at the end, and whether each is from a link.
    let mut pending: Vec<(Vec<u8>, bool)> = Vec::new();
    push_segments(&mut pending, path, false);
    let mut folders: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    while let Some((name, is_from_link)) = pending.pop() {
        match name.as_slice() {
            b"." => continue,
            b".." => {
                // The folder that was opened, wherever it is now. There is none above the root.
                folders.pop().ok_or(Errno::XDEV)?;
                continue;
            }
            name if is_from_link && hidden == HiddenFiles::Missing && is_hidden(name) => return Err(Errno::NOENT),
            _ => {}
        }
        let parent = folders.last().map_or(root, |folder| folder.as_fd());
        let is_last = pending.is_empty();
        let name = OsStr::from_bytes(&name);
        let flags = if is_last { FILE } else { FOLDER };
        match openat(parent, name, flags.union(OFlags::NOFOLLOW), Mode::empty()) {
            Ok(file) if is_last => return Ok(file),
            Ok(folder) => folders.push(folder),
            Err(error @ (Errno::LOOP | Errno::NOTDIR)) => {
                // An error here means that this is no link.
                let target = readlinkat(parent, name, Vec::new()).map_err(|_| error)?;
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                if target.as_bytes().starts_with(b"/") {
                    return Err(Errno::XDEV);
                }
                push_segments(&mut pending, target.as_bytes(), true);
            }
            Err(error) => return Err(error),
        }
    }
    let folder = folders.last().map_or(root, |folder| folder.as_fd());
    openat(folder, ".", FILE.union(OFlags::DIRECTORY), Mode::empty())
}

fn push_segments(pending: &mut Vec<(Vec<u8>, bool)>, path: &[u8], is_from_link: bool) {
    let segments = path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty());
    pending.extend(segments.rev().map(|segment| (segment.to_vec(), is_from_link)));
}

/// Returns whether links cannot lead to this name. Names with two dots are those of volumes that Kubernetes updates.
fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(b".") && !name.starts_with(b"..") && name != WELL_KNOWN
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    struct Tree {
        folder: tempfile::TempDir,
        root: OwnedFd,
    }

    /// A root with files and links, beside a file that is outside of the root.
    fn tree() -> Tree {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        for name in ["a/b", ".git", "..data", ".well-known"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for (name, content) in [
            ("root/a/b/file", "inside"),
            ("root/.git/config", "hidden"),
            ("root/..data/page", "volume"),
            ("root/.well-known/acme", "known"),
            ("secret", "outside"),
        ] {
            fs::write(folder.path().join(name), content).unwrap();
        }
        for (target, link) in [
            ("a/b/file", "link"),
            ("a", "folder-link"),
            ("../a/b", "a/back"),
            ("a/./b//file", "dots"),
            ("../secret", "out"),
            ("..", "up"),
            ("a/../../secret", "sideways"),
            ("/etc/passwd", "absolute"),
            ("loop", "loop"),
            (".git", "public"),
            (".git/config", "config"),
            ("..data/page", "page"),
            (".well-known", "known"),
            ("missing", "dangling"),
            (".", "self"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let root = open_root(&root, Waiting::Allowed).unwrap();
        Tree { folder, root }
    }

    fn content(file: io::Result<OwnedFd>) -> Result<String, String> {
        let mut text = String::new();
        match file.and_then(|file| File::from(file).read_to_string(&mut text)) {
            Ok(_) => Ok(text),
            Err(error) => Err(error.kind().to_string()),
        }
    }

    #[test]
    fn opens_files_and_links_beneath_the_root_only() {
        let Tree { folder: _folder, root } = tree();
        for (path, expected) in [
            ("a/b/file", Ok("inside")),
            ("link", Ok("inside")),
            ("folder-link/b/file", Ok("inside")),
            ("a/back/file", Ok("inside")),
            ("dots", Ok("inside")),
            ("self/self/a/b/file", Ok("inside")),
            ("page", Ok("volume")),
            ("known/acme", Ok("known")),
            ("a", Err("is a directory")),
            ("self", Err("is a directory")),
            ("out", Err("cross-device link or rename")),
            ("up/secret", Err("cross-device link or rename")),
            ("up/root/a/b/file", Err("cross-device link or rename")),
            ("sideways", Err("cross-device link or rename")),
            ("absolute", Err("cross-device link or rename")),
            ("loop", Err("filesystem loop or indirection limit (e.g. symlink loop)")),
            ("public/config", Err("entity not found")),
            ("config", Err("entity not found")),
            ("dangling", Err("entity not found")),
            ("missing", Err("entity not found")),
            ("a/b/file/c", Err("not a directory")),
            ("link/c", Err("not a directory")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            let opened = open(root.as_fd(), path.as_bytes(), Waiting::Allowed, HiddenFiles::Missing);
            assert_eq!(content(opened), expected, "{path}");
            // The result is the same without `openat2`.
            let walked = walk(root.as_fd(), path.as_bytes(), HiddenFiles::Missing).map_err(io::Error::from);
            assert_eq!(content(walked), expected, "{path}, by segment");
        }
        let config = open(root.as_fd(), b"config", Waiting::Allowed, HiddenFiles::Found);
        assert_eq!(content(config), Ok("hidden".to_owned()));
    }

    #[test]
    fn links_are_never_followed_without_waiting() {
        let Tree { folder: _folder, root } = tree();
        for path in ["link", "out", "folder-link/b/file"] {
            let error = open(root.as_fd(), path.as_bytes(), Waiting::Never, HiddenFiles::Missing).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{path}");
        }
    }

    #[test]
    fn folder_swapped_for_a_link_never_leads_out_of_the_root() {
        let Tree { folder, root } = tree();
        let path = folder.path().join("root");
        fs::create_dir(folder.path().join("outside")).unwrap();
        fs::write(folder.path().join("outside/file"), "outside").unwrap();
        fs::create_dir(path.join("real")).unwrap();
        fs::write(path.join("real/file"), "inside").unwrap();
        symlink("../outside", path.join("evil")).unwrap();
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    for from in ["real", "evil"] {
                        fs::rename(path.join(from), path.join("swapped")).unwrap();
                        fs::rename(path.join("swapped"), path.join(from)).unwrap();
                    }
                }
            });
            let mut found = 0;
            let mut rounds = 0;
            // Until the swap was seen in both states, by both methods.
            while found < 200 && rounds < 200_000 {
                rounds += 1;
                let opened = open(root.as_fd(), b"swapped/file", Waiting::Allowed, HiddenFiles::Missing);
                let walked = walk(root.as_fd(), b"swapped/file", HiddenFiles::Missing).map_err(io::Error::from);
                for result in [content(opened), content(walked)] {
                    assert_ne!(result, Ok("outside".to_owned()));
                    found += usize::from(result.is_ok());
                }
            }
            is_done.store(true, Ordering::Relaxed);
            assert!(found > 0, "the folder was never found");
        });
    }
}
