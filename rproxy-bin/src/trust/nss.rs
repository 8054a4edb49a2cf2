//! The NSS database of a user, which Chrome and Chromium on Linux read.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::command;

/// The NSS database in the home directory of a user.
#[derive(Clone, Debug)]
pub(super) struct NssDatabase {
    folder: PathBuf,
}

impl NssDatabase {
    /// Returns the NSS database in the home directory `home`.
    pub(super) fn of_home(home: Option<OsString>) -> Option<Self> {
        let home = home.filter(|home| Path::new(home).is_absolute())?;
        Some(Self { folder: Path::new(&home).join(".pki/nssdb") })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the commands that add the authority to the NSS database, and create the database if it is missing.
    pub(super) fn install(&self, ca: &Path) -> Vec<Vec<OsString>> {
        let mut commands = Vec::new();
        if !self.folder.join("cert9.db").is_file() {
            commands.push(command(&["mkdir", "-p", "-m", "0700"], &[&self.folder]));
            commands.push(self.certutil(&["-N", "--empty-password"]));
        }
        // Only as an authority for servers.
        let mut add = self.certutil(&["-A", "-t", "C,,", "-n", NAME, "-i"]);
        add.push(ca.as_os_str().to_owned());
        commands.push(add);
        commands
    }

    pub(super) fn remove(&self) -> Vec<Vec<OsString>> {
        vec![self.certutil(&["-D", "-n", NAME])]
    }

    fn certutil(&self, words: &[&str]) -> Vec<OsString> {
        let (action, rest) = words.split_at(1);
        let mut folder = OsString::from("sql:");
        folder.push(&self.folder);
        let mut all = command(&["certutil"], &[]);
        all.extend(action.iter().map(OsString::from));
        all.extend([OsString::from("-d"), folder]);
        all.extend(rest.iter().map(OsString::from));
        all
    }
}

/// Returns whether the program certutil is in a directory of `path`.
pub(super) fn has_certutil(path: &OsStr) -> bool {
    env::split_paths(path).any(|folder| folder.join("certutil").is_file())
}

/// The names of the packages that contain certutil.
pub(super) const PACKAGES: &str = "install libnss3-tools (Debian, Ubuntu), nss-tools (Fedora) or nss (Arch, Homebrew)";
const NAME: &str = "rproxy-local";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::shell_line;

    #[test]
    fn creates_a_missing_nss_database() {
        let home = tempfile::tempdir().unwrap();
        let database = NssDatabase::of_home(Some(home.path().into())).unwrap();
        let lines = || -> Vec<String> {
            database.install(Path::new("/my certs/ca.pem")).iter().map(|words| shell_line(words)).collect()
        };
        let folder = home.path().join(".pki/nssdb");
        let shown = folder.display();
        let add = format!("certutil -A -d sql:{shown} -t C,, -n rproxy-local -i '/my certs/ca.pem'");
        let create = [format!("mkdir -p -m 0700 {shown}"), format!("certutil -N -d sql:{shown} --empty-password")];
        assert_eq!(lines(), [&create[..], std::slice::from_ref(&add)].concat());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("cert9.db"), "").unwrap();
        assert_eq!(lines(), [add]);
    }

    #[test]
    fn finds_no_nss_database_without_a_home_directory() {
        for home in [None, Some("relative".into()), Some("".into())] {
            assert!(NssDatabase::of_home(home).is_none());
        }
    }
}
