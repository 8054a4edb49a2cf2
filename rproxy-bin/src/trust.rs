//! The command `rproxy trust`, which adds the local certificate authority to a trust store.

mod nss;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use rustix::process::geteuid;

use self::nss::NssDatabase;
use crate::config::Config;
use crate::shell::shell_quoted;

/// The tool that manages trusted certificate authorities on this system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrustStore {
    /// The tool of Debian and its derivatives, Alpine and openSUSE.
    UpdateCaCertificates,
    /// The tool of Fedora, RHEL and their derivatives.
    UpdateCaTrust,
    /// The tool of Arch Linux and of other systems that have only p11-kit.
    Trust,
    /// The tool of macOS.
    Security,
}

impl TrustStore {
    const ALL: [Self; 4] = [Self::UpdateCaCertificates, Self::UpdateCaTrust, Self::Trust, Self::Security];

    fn program(self) -> &'static str {
        match self {
            Self::UpdateCaCertificates => "update-ca-certificates",
            Self::UpdateCaTrust => "update-ca-trust",
            Self::Trust => "trust",
            Self::Security => "security",
        }
    }

    /// Returns the first tool whose program is in a directory of `path`.
    fn found(path: &OsStr) -> Option<Self> {
        let folders: Vec<PathBuf> = env::split_paths(path).collect();
        Self::ALL.into_iter().find(|store| folders.iter().any(|folder| folder.join(store.program()).is_file()))
    }

    fn install(self, ca: &Path) -> Vec<Vec<OsString>> {
        match self {
            Self::UpdateCaCertificates => {
                vec![command(&["install", "-m", "0644"], &[ca, Path::new(DEBIAN)]), command(&[self.program()], &[])]
            }
            Self::UpdateCaTrust => {
                vec![command(&["install", "-m", "0644"], &[ca, Path::new(FEDORA)]), command(&[self.program()], &[])]
            }
            Self::Trust => vec![command(&["trust", "anchor", "--store"], &[ca])],
            Self::Security => vec![command(
                &["security", "add-trusted-cert", "-d", "-r", "trustRoot", "-k", "/Library/Keychains/System.keychain"],
                &[ca],
            )],
        }
    }

    fn remove(self, ca: &Path) -> Vec<Vec<OsString>> {
        match self {
            Self::UpdateCaCertificates => {
                vec![command(&["rm", "-f"], &[Path::new(DEBIAN)]), command(&[self.program(), "--fresh"], &[])]
            }
            Self::UpdateCaTrust => {
                vec![command(&["rm", "-f"], &[Path::new(FEDORA)]), command(&[self.program()], &[])]
            }
            Self::Trust => vec![command(&["trust", "anchor", "--remove"], &[ca])],
            Self::Security => vec![command(&["security", "remove-trusted-cert", "-d"], &[ca])],
        }
    }
}

const DEBIAN: &str = "/usr/local/share/ca-certificates/rproxy-local.crt";
const FEDORA: &str = "/etc/pki/ca-trust/source/anchors/rproxy-local.pem";

fn command(words: &[&str], paths: &[&Path]) -> Vec<OsString> {
    words.iter().map(OsString::from).chain(paths.iter().map(|path| path.as_os_str().to_owned())).collect()
}

/// The action of `rproxy trust` on the local certificate authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Prints the commands that add the local certificate authority to a trust store.
    Explain,
    /// Adds the local certificate authority to a trust store.
    Install(Place),
    /// Removes the local certificate authority from a trust store.
    Remove(Place),
}

/// The trust store that `rproxy trust` changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The trust store of the operating system.
    System,
    /// The NSS database of the user, which Chrome and Chromium on Linux read.
    Browser,
}

/// The command `rproxy trust`.
#[derive(Clone, Debug)]
pub struct Trust {
    ca: PathBuf,
    action: Action,
    owner: CaOwner,
}

/// The program that issues certificates from a local certificate authority.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CaOwner {
    /// `rproxy demo`, whose authority is in the state directory of the user.
    Demo,
    /// A proxy with this configuration file, or one that the environment or the command line configures.
    Proxy(Option<PathBuf>),
}

/// Formats the owner as the object of a sentence.
impl fmt::Display for CaOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demo => f.write_str("rproxy demo"),
            Self::Proxy(Some(file)) => write!(f, "the configuration {}", file.display()),
            Self::Proxy(None) => f.write_str("a configuration without a file"),
        }
    }
}

impl CaOwner {
    /// Returns the owner of the authority that a process with this configuration uses.
    pub(crate) fn of(config: &Config) -> Self {
        match config.is_demo() {
            true => Self::Demo,
            false => Self::Proxy(config.file().map(Path::to_owned)),
        }
    }

    /// Returns the command that trusts the authority of this owner.
    pub(crate) fn command(&self) -> String {
        match self {
            Self::Proxy(Some(file)) => format!("rproxy trust --config {}", shell_quoted(file.as_os_str())),
            Self::Proxy(None) | Self::Demo => "rproxy trust".to_owned(),
        }
    }
}

/// The error of a failed `rproxy trust` command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// No local certificate authority has been created.
    #[error("no local certificate authority in {0}: start rproxy once with RPROXY_TLS_LOCAL=true, or run rproxy demo")]
    NoAuthority(String),
    /// No known tool for certificate authorities is installed.
    #[error("none of update-ca-certificates, update-ca-trust, trust and security is installed: add {} to the trust store by hand", .0.display())]
    NoTrustStore(PathBuf),
    /// The program certutil, which changes NSS databases, is not installed.
    #[error("certutil is not installed: {}", nss::PACKAGES)]
    NoCertutil,
    /// The home directory is unknown, and therefore also the NSS database of the user.
    #[error("cannot find the NSS database: HOME is not set")]
    NoHome,
    /// A system command of `rproxy trust` cannot be started.
    #[error("cannot run {command}")]
    Run {
        /// The command line of the system command.
        command: String,
        /// The operating system error.
        source: io::Error,
    },
    /// A system command of `rproxy trust` failed.
    #[error("{command} failed: {status}")]
    Failed {
        /// The command line of the system command.
        command: String,
        /// The exit status of the failed command.
        status: ExitStatus,
    },
}

impl Trust {
    /// Creates the command for the local certificate authority in the first directory that contains a certificate
    /// authority, each with the owner of the directory.
    ///
    /// # Errors
    ///
    /// Returns an error if none of them contains one.
    pub fn new<'a>(
        folders: impl IntoIterator<Item = (&'a Path, CaOwner)> + Clone,
        action: Action,
    ) -> Result<Self, TrustError> {
        let places = folders.clone().into_iter().map(|(folder, owner)| (folder.join("local/ca.pem"), owner));
        match { places }.find(|(ca, _)| ca.is_file()) {
            Some((ca, owner)) => Ok(Self { ca, action, owner }),
            None => {
                let folders: Vec<_> = folders.into_iter().map(|(folder, _)| folder.display().to_string()).collect();
                Err(TrustError::NoAuthority(folders.join(" or ")))
            }
        }
    }

    /// Runs the action and returns the text for the user.
    ///
    /// # Errors
    ///
    /// Returns an error if this system is unknown or a command fails.
    pub fn run(&self) -> Result<String, TrustError> {
        let path = env::var_os("PATH").unwrap_or_default();
        let store = TrustStore::found(&path);
        let database = NssDatabase::of_home(env::var_os("HOME"));
        let (place, is_removal) = match self.action {
            Action::Explain => return Ok(self.explanation(store, database.as_ref(), &path, geteuid().is_root())),
            Action::Install(place) => (place, false),
            Action::Remove(place) => (place, true),
        };
        let (commands, subject) = match place {
            Place::System => {
                let store = store.ok_or_else(|| TrustError::NoTrustStore(self.ca.clone()))?;
                let commands = if is_removal { store.remove(&self.ca) } else { store.install(&self.ca) };
                (commands, "This machine".to_owned())
            }
            Place::Browser => {
                let database = database.ok_or(TrustError::NoHome)?;
                if !nss::has_certutil(&path) {
                    return Err(TrustError::NoCertutil);
                }
                let commands = if is_removal { database.remove() } else { database.install(&self.ca) };
                (commands, format!("The NSS database in {}", database.folder().display()))
            }
        };
        commands.iter().try_for_each(|words| run(words))?;
        let done = if is_removal { "no longer trusts" } else { "trusts" };
        Ok(format!("{subject} {done} {}, the authority of {}.\n", self.ca.display(), self.owner))
    }

    fn explanation(
        &self,
        store: Option<TrustStore>,
        database: Option<&NssDatabase>,
        path: &OsStr,
        is_root: bool,
    ) -> String {
        let (owner, command) = (&self.owner, self.owner.command());
        let mut text = format!("The certificate of the local authority of {owner} is {}.\n", self.ca.display());
        if self.owner == CaOwner::Demo {
            text.push_str("For the authority of a configuration, run: rproxy trust --config FILE\n");
        }
        text.push('\n');
        match store {
            Some(store) => {
                text.push_str("To trust the certificate on this machine, run:\n\n");
                for words in store.install(&self.ca) {
                    let sudo = if is_root { "" } else { "sudo " };
                    let _ = writeln!(text, "    {sudo}{}", shell_line(&words));
                }
                let _ = writeln!(text, "\n`{command} --install` runs these commands, `{command} --remove` reverts them.");
            }
            None => text.push_str("No known tool for certificate authorities is installed. Add this PEM file to the trust store by hand.\n"),
        }
        let Some(database) = database else { return text };
        text.push_str(
            "\nChrome on Linux reads an NSS database of each user. To trust the authority there, run as that user:\n\n",
        );
        for words in database.install(&self.ca) {
            let _ = writeln!(text, "    {}", shell_line(&words));
        }
        let _ = writeln!(
            text,
            "\n`{command} --install --browser` runs these commands, `{command} --remove --browser` reverts them."
        );
        if !nss::has_certutil(path) {
            let _ = writeln!(text, "certutil is not installed: {}.", nss::PACKAGES);
        }
        text.push_str(
            "Firefox has a database in each profile: run the last command with the directory of the profile, or import the\n\
             certificate in the settings under Certificates.\n",
        );
        text
    }
}

fn run(words: &[OsString]) -> Result<(), TrustError> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let status = Command::new(program).args(arguments).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(TrustError::Failed { command: shell_line(words), status }),
        Err(source) => Err(TrustError::Run { command: shell_line(words), source }),
    }
}

fn shell_line(words: &[OsString]) -> String {
    words.iter().map(|word| shell_quoted(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_has_trust_store_commands() {
        let ca = Path::new("/var/lib/my certs/local/ca.pem");
        for (store, installs, removes) in [
            (
                TrustStore::UpdateCaCertificates,
                "install -m 0644 '/var/lib/my certs/local/ca.pem' /usr/local/share/ca-certificates/rproxy-local.crt; \
                 update-ca-certificates",
                "rm -f /usr/local/share/ca-certificates/rproxy-local.crt; update-ca-certificates --fresh",
            ),
            (
                TrustStore::UpdateCaTrust,
                "install -m 0644 '/var/lib/my certs/local/ca.pem' /etc/pki/ca-trust/source/anchors/rproxy-local.pem; \
                 update-ca-trust",
                "rm -f /etc/pki/ca-trust/source/anchors/rproxy-local.pem; update-ca-trust",
            ),
            (
                TrustStore::Trust,
                "trust anchor --store '/var/lib/my certs/local/ca.pem'",
                "trust anchor --remove '/var/lib/my certs/local/ca.pem'",
            ),
            (
                TrustStore::Security,
                "security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain \
                 '/var/lib/my certs/local/ca.pem'",
                "security remove-trusted-cert -d '/var/lib/my certs/local/ca.pem'",
            ),
        ] {
            let all = |commands: Vec<Vec<OsString>>| {
                commands.iter().map(|words| shell_line(words)).collect::<Vec<_>>().join("; ")
            };
            assert_eq!(all(store.install(ca)), installs);
            assert_eq!(all(store.remove(ca)), removes);
        }
    }

    #[test]
    fn detects_trust_store_tool_by_installed_programs() {
        let folder = tempfile::tempdir().unwrap();
        let path = env::join_paths([Path::new("/nonexistent"), folder.path()]).unwrap();
        assert_eq!(TrustStore::found(&path), None);
        for store in [TrustStore::Security, TrustStore::UpdateCaCertificates] {
            std::fs::write(folder.path().join(store.program()), "").unwrap();
            assert_eq!(TrustStore::found(&path), Some(store));
        }
    }

    #[test]
    fn trust_explanation_contains_commands_to_paste() {
        let folder = tempfile::tempdir().unwrap();
        let none = Path::new("/nonexistent");
        let folders = [(none, CaOwner::Proxy(Some("my r.toml".into()))), (folder.path(), CaOwner::Demo)];
        let missing = Trust::new(folders.clone(), Action::Explain).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent or "), "{missing}");
        std::fs::create_dir(folder.path().join("local")).unwrap();
        std::fs::write(folder.path().join("local/ca.pem"), "").unwrap();
        let trust = Trust::new(folders, Action::Explain).unwrap();
        let empty = OsStr::new("");
        let text = trust.explanation(Some(TrustStore::UpdateCaTrust), None, empty, false);
        assert!(
            text.contains("\n    sudo install -m 0644 ") && text.contains("\n    sudo update-ca-trust\n"),
            "{text}"
        );
        assert!(!trust.explanation(Some(TrustStore::UpdateCaTrust), None, empty, true).contains("sudo"));
        assert!(text.starts_with("The certificate of the local authority of rproxy demo is "), "{text}");
        assert!(
            text.contains("run: rproxy trust --config FILE\n") && text.contains("`rproxy trust --install`"),
            "{text}"
        );
        let own = Trust { owner: CaOwner::Proxy(Some("my r.toml".into())), ..trust.clone() };
        let text = own.explanation(Some(TrustStore::UpdateCaTrust), None, empty, false);
        assert!(text.contains("of the configuration my r.toml is ") && !text.contains("demo"), "{text}");
        assert!(text.contains("`rproxy trust --config 'my r.toml' --remove`"), "{text}");
        let database = NssDatabase::of_home(Some(folder.path().into())).unwrap();
        let text = trust.explanation(None, Some(&database), empty, true);
        for part in ["\n    certutil -N ", "\n    certutil -A ", "libnss3-tools (Debian", "nss-tools (Fedora)"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        std::fs::write(folder.path().join("certutil"), "").unwrap();
        let text = trust.explanation(None, Some(&database), folder.path().as_os_str(), true);
        assert!(!text.contains("not installed: "), "{text}");
    }
}
