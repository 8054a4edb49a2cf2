//! Files that must be readable.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::sandbox::{self, Denial};
use crate::shell::shell_quoted;

/// Returns the reason why a file cannot be read, with its path.
pub(crate) fn unreadable(path: &PathBuf) -> Option<String> {
    let error = match File::open(path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_dir() => "is a directory".to_owned(),
        Ok(_) => return None,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => match sandbox::denial(path) {
            Some(Denial::Sandbox) => "is outside of the sandbox of this process: restart required".to_owned(),
            Some(Denial::User { name, gid }) => format!(
                "cannot be read by the user {name}, as which the process runs: {error}; to fix it: {}",
                fix_for_group(path, &gid.to_string())
            ),
            None => format!("cannot be read: {error}; to fix it: {}", fix_for_file(path)),
        },
        Err(error) => format!("cannot be read: {error}"),
    };
    Some(format!("{} {error}", path.display()))
}

/// Returns the command that allows this user to read `file`.
pub(crate) fn fix_for_file(file: &Path) -> String {
    fix_for_group(file, "\"$(id -gn)\"")
}

/// Returns the command that allows a group of this user to read `file`.
fn fix_for_group(file: &Path, group: &str) -> String {
    // Below a directory that cannot be searched, nothing is known about the permissions.
    let directories = file.ancestors().skip(1).filter(|directory| !directory.as_os_str().is_empty());
    let blocked = directories.filter(|directory| access(*directory, Access::EXEC_OK).is_err());
    let mut paths: Vec<String> = blocked.map(|path| shell_quoted(path.as_os_str())).collect();
    paths.reverse();
    paths.push(shell_quoted(file.as_os_str()));
    let paths = paths.join(" ");
    format!("sudo chgrp {group} {paths} && sudo chmod g+rX {paths}")
}
