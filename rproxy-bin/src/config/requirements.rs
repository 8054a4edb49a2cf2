//! The requirements for starting on this machine: privileged ports, readable files and writable directories.
//!
//! An ordinary user usually lacks several of them at first. They are reported together, each with a command that fixes it.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};

use rproxy_server::ListenAddr;
use rustix::fs::{Access, access};

use super::Config;
use crate::shell::shell_quoted;

/// The requirements for starting that this machine does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnmetRequirements(Vec<UnmetRequirement>);

/// A requirement that this machine does not meet, with a command that fixes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnmetRequirement {
    /// The name of the setting with the requirement, in the spelling of the source.
    pub setting: String,
    /// The unmet requirement and the cause.
    pub problem: String,
    /// A command that makes this machine meet the requirement, and alternatives to the command.
    pub fix: String,
    /// Whether the requirement is about the port of a listener.
    pub(crate) is_port: bool,
}

impl std::error::Error for UnmetRequirement {}

impl UnmetRequirements {
    /// Returns an error if `config` has requirements that are not met, ignoring the ports of `inherited` sockets.
    pub(crate) fn check(config: &Config, inherited: &[ListenAddr]) -> Result<(), Self> {
        let all: Vec<_> = unmet(config, inherited).collect();
        if all.is_empty() { Ok(()) } else { Err(Self(all)) }
    }

    /// Returns an error if the user of this process cannot write to the folders of `config`.
    pub(crate) fn check_directories(config: &Config) -> Result<(), Self> {
        let all: Vec<_> = unmet_directories(config).collect();
        if all.is_empty() { Ok(()) } else { Err(Self(all)) }
    }

    /// Returns the requirements that are not met.
    pub fn requirements(&self) -> &[UnmetRequirement] {
        &self.0
    }
}

impl fmt::Display for UnmetRequirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for UnmetRequirements {}

impl fmt::Display for UnmetRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; to fix it: {}", self.setting, self.problem, self.fix)
    }
}

/// Returns whether this process lacks permission to read one of the configured files.
pub(crate) fn has_denied_file(config: &Config) -> bool {
    let tls = &config.tls;
    let of_process = tls.cert.iter().chain(&tls.key).chain(&tls.acme_ca).chain(&tls.client_ca);
    let upstreams = config.configurations().map(|config| &config.upstream);
    let of_upstreams = upstreams.flat_map(|upstream| [&upstream.ca, &upstream.cert, &upstream.key]).flatten();
    of_process.chain(of_upstreams).any(|file| is_denied(&File::open(file)))
}

/// The reason that a directory cannot be used.
pub(crate) struct DirectoryProblem {
    pub(crate) text: String,
    pub(crate) kind: ErrorKind,
}

/// Returns the nearest existing ancestor of a directory, in which missing directories can be created.
pub(crate) fn writable_parent(directory: &Path) -> Result<&Path, DirectoryProblem> {
    let Some(present) = directory.ancestors().find(|folder| folder.exists()) else {
        let text = format!("{} cannot be created", directory.display());
        return Err(DirectoryProblem { text, kind: ErrorKind::NotFound });
    };
    if !present.is_dir() {
        let text = format!("{} is not a directory", present.display());
        return Err(DirectoryProblem { text, kind: ErrorKind::NotADirectory });
    }
    match access(present, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(present),
        Err(error) => {
            let error = io::Error::from(error);
            let text = format!("{} is not writable: {error}", present.display());
            Err(DirectoryProblem { text, kind: error.kind() })
        }
    }
}

/// Returns the unmet requirements except unreadable files, which are reported with the configuration.
pub(crate) fn unmet(config: &Config, inherited: &[ListenAddr]) -> impl Iterator<Item = UnmetRequirement> {
    unmet_port(config, inherited).into_iter().chain(unmet_directories(config))
}

fn unmet_port(config: &Config, inherited: &[ListenAddr]) -> Option<UnmetRequirement> {
    let inherited: Vec<u16> = inherited
        .iter()
        .filter_map(|socket| match socket {
            ListenAddr::Tcp(address) => Some(address.port()),
            _ => None,
        })
        .collect();
    let admin = config.process.admin_listen.clone();
    let listeners = config.listeners().into_iter().chain(config.redirect_listeners()).chain(admin);
    let denied = listeners.filter_map(|listener| match listener {
        ListenAddr::Tcp(address) if !inherited.contains(&address.port()) => {
            // The rule for ports is the same as with TCP, and no client can connect in the meantime.
            let is_privileged = (1..1024).contains(&address.port());
            (is_privileged && is_denied(&UdpSocket::bind(address))).then(|| address.to_string())
        }
        _ => None,
    });
    let denied: Vec<String> = denied.collect();
    if denied.is_empty() {
        return None;
    }
    let binary = env::current_exe().unwrap_or_else(|_| PathBuf::from("rproxy"));
    Some(UnmetRequirement {
        setting: located(config, "listen"),
        is_port: true,
        problem: format!("{} cannot be bound: ports below 1024 need a privilege", denied.join(", ")),
        fix: config.spell(&format!(
            "sudo setcap cap_net_bind_service=+ep {}, or AmbientCapabilities=CAP_NET_BIND_SERVICE in a systemd unit, or \
             RPROXY_LISTEN='[::]:8443' RPROXY_HTTP_PORT=8080",
            shell_quoted(binary.as_os_str())
        )),
    })
}

fn unmet_directories(config: &Config) -> impl Iterator<Item = UnmetRequirement> {
    let (user, group) = owner(config);
    let needs_certificates = config.tls.local || !config.tls.acme_domains().is_empty();
    let certificates = needs_certificates.then_some(("tls_cache_dir", &config.tls.cache_dir));
    let cache = config.cache.disk.as_ref().filter(|_| config.cache.enabled).map(|folder| ("cache_disk", folder));
    certificates.into_iter().chain(cache).filter_map(move |(setting, directory)| {
        let problem = writable_parent(directory).err()?;
        let path = shell_quoted(directory.as_os_str());
        let fix = match problem.kind {
            ErrorKind::PermissionDenied if directory.exists() => {
                format!("sudo chown -R \"{user}:{group}\" {path} && sudo chmod u+rwx {path}")
            }
            ErrorKind::PermissionDenied => {
                format!("sudo install -d -m 0700 -o \"{user}\" -g \"{group}\" {path}")
            }
            ErrorKind::ReadOnlyFilesystem => format!("ReadWritePaths={path} in the systemd unit"),
            // Opening it reports the cause.
            _ => return None,
        };
        let (setting, fix) = (located(config, setting), format!("{fix}, or use another directory"));
        Some(UnmetRequirement { setting, problem: problem.text, fix, is_port: false })
    })
}

/// Returns the user and the group of the process, for a shell command.
fn owner(config: &Config) -> (String, String) {
    match &config.sandbox.user {
        Some(name) => {
            let group = name.group().map_or_else(|| format!("$(id -gn {})", name.user()), str::to_owned);
            (name.user().to_owned(), group)
        }
        None => ("$(id -un)".to_owned(), "$(id -gn)".to_owned()),
    }
}

fn located(config: &Config, key: &str) -> String {
    config.value_source(key).locate(key).to_string()
}

fn is_denied<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_directories_without_creating_them() {
        let root = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.tls.local = true;
        config.tls.cache_dir = root.path().join("state/certs");
        assert_eq!(unmet_directories(&config).count(), 0);
        assert!(!root.path().join("state").exists());
        // Another problem, which no permission solves.
        std::fs::write(root.path().join("state"), "").unwrap();
        assert_eq!(unmet_directories(&config).count(), 0);
        assert!(writable_parent(&config.tls.cache_dir).is_err_and(|problem| problem.text.contains("not a directory")));
    }
}
