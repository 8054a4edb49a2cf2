//! Files and folders that only their owner can read, whatever the umask is and whatever was there before.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::Path;

/// Creates a folder and those above it.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, FOLDER);
    builder.create(path)
}

/// Creates a file, or empties it.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().write(true).create(true).truncate(true))
}

/// Opens a file that nothing is read from or written to, and creates it if it is not there.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    let file = open(path, OpenOptions::new().create(true).append(true))?;
    restrict_file(path);
    Ok(file)
}

/// The secret in a file, which is made if it is not there. Of two processes that make it, both get the first one's.
pub(super) fn secret(path: &Path) -> io::Result<[u8; 16]> {
    let mut random = [0; 16];
    random[..8].copy_from_slice(&RandomState::new().hash_one(()).to_ne_bytes());
    random[8..].copy_from_slice(&RandomState::new().hash_one(()).to_ne_bytes());
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    let unfinished = Path::new(&unfinished);
    restrict_file(path);
    loop {
        match fs::read(path).map(<[u8; 16]>::try_from) {
            Ok(Ok(secret)) => return Ok(secret),
            // Not one that was written here: nothing that was stored with it can be of use.
            Ok(Err(_)) => fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        create_file(unfinished)?.write_all(&random)?;
        // Unlike a rename, a link replaces nothing.
        let linked = fs::hard_link(unfinished, path);
        fs::remove_file(unfinished)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, FILE);
    options.open(path)
}

/// Takes the access of others to a file that was there before.
pub(super) fn restrict_file(path: &Path) {
    restrict(path, FILE);
}

/// Takes the access of others to a folder that was there before.
pub(super) fn restrict_folder(path: &Path) {
    restrict(path, FOLDER);
}

/// Only the owner may: somebody else's folder keeps its mode, and what is written into it is private all the same.
fn restrict(path: &Path, mode: u32) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // A folder with the sticky bit, such as /tmp, is shared on purpose.
        let is_open = |mode: u32| mode & 0o077 != 0 && mode & 0o1000 == 0;
        let metadata = fs::symlink_metadata(path);
        if metadata.is_ok_and(|metadata| !metadata.is_symlink() && is_open(metadata.permissions().mode())) {
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
        }
    }
    #[cfg(not(unix))]
    let _ = (path, mode);
}

const FOLDER: u32 = 0o700;
const FILE: u32 = 0o600;
