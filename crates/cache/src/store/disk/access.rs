//! Files and directories that only their owner can access, regardless of umask and earlier modes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::Path;

/// Creates a directory and its parents, with access for the owner only.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, FOLDER_MODE);
    builder.create(path)
}

/// Creates or truncates a file, with access for the owner only.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().write(true).create(true).truncate(true))
}

/// Opens or creates a lock file, with access for the owner only.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    let file = open(path, OpenOptions::new().create(true).append(true))?;
    restrict_file(path);
    Ok(file)
}

/// Reads the secret from a file, or creates the file with a random secret. Two processes that create it get the same
/// secret.
pub(super) fn secret(path: &Path) -> io::Result<[u8; 16]> {
    let mut random = [0; 16];
    random[..8].copy_from_slice(&RandomState::new().hash_one(()).to_ne_bytes());
    random[8..].copy_from_slice(&RandomState::new().hash_one(()).to_ne_bytes());
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = Path::new(&temporary);
    restrict_file(path);
    loop {
        match fs::read(path).map(<[u8; 16]>::try_from) {
            Ok(Ok(secret)) => return Ok(secret),
            // A corrupt secret. The entries that were stored with it cannot be used.
            Ok(Err(_)) => fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        create_file(temporary)?.write_all(&random)?;
        // Unlike a rename, a link does not replace an existing file.
        let linked = fs::hard_link(temporary, path);
        fs::remove_file(temporary)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, FILE_MODE);
    options.open(path)
}

/// Revokes the access of other users to an existing file.
pub(super) fn restrict_file(path: &Path) {
    restrict(path, FILE_MODE);
}

/// Revokes the access of other users to an existing directory.
pub(super) fn restrict_folder(path: &Path) {
    restrict(path, FOLDER_MODE);
}

/// Sets the mode of a file or directory. Only its owner can: the folder of another user keeps its mode, and new files
/// are private anyway.
fn restrict(path: &Path, mode: u32) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // A folder with the sticky bit, such as /tmp, is shared intentionally.
        let is_open = |mode: u32| mode & 0o077 != 0 && mode & 0o1000 == 0;
        let metadata = fs::symlink_metadata(path);
        if metadata.is_ok_and(|metadata| !metadata.is_symlink() && is_open(metadata.permissions().mode())) {
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
        }
    }
    #[cfg(not(unix))]
    let _ = (path, mode);
}

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
