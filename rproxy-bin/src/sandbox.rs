//! The privileges that the process gives up after its start: its user, new privileges, and access to files and ports.
//!
//! All three are properties of a thread, which the threads that it starts later inherit. The process therefore gives them
//! up while it has only one thread: after the listeners are bound and the private keys are read, before the workers
//! start.

mod error;
mod grants;
mod identity;
mod landlock;
mod needs;

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::OnceLock;

use rproxy_upstream::Backend;
use rustix::process::geteuid;
use rustix::thread::set_no_new_privs;

pub use self::error::SandboxError;
use self::grants::Grants;
pub(crate) use self::identity::Identity;
pub use self::identity::UserError;
use self::landlock::Required;
use self::needs::{Resource, needs, port_of, writable_folders};
use crate::config::{Config, UnmetRequirements, writable_parent};
use crate::preflight::Finding;
use crate::values::sandbox::SandboxMode;

/// The privileges that a process gives up.
#[derive(Clone, Debug)]
pub(crate) struct Sandbox {
    identity: Option<Identity>,
    no_new_privs: bool,
    mode: SandboxMode,
    /// Whether rproxy starts applications, which would inherit the sandbox.
    has_application: bool,
}

/// The sandbox of this process.
#[derive(Debug)]
struct Active {
    user: Option<Identity>,
    /// The accessible files and ports, or `None` if Landlock does not limit them.
    grants: Option<Grants>,
    /// Whether Landlock limits ports, too.
    limits_ports: bool,
}

/// Set once: a process can never leave its sandbox.
static ACTIVE: OnceLock<Active> = OnceLock::new();

impl Sandbox {
    /// Returns the sandbox that the configuration describes.
    pub(crate) fn of(config: &Config) -> Result<Self, SandboxError> {
        let settings = &config.sandbox;
        let identity = settings.user.as_ref().map(Identity::find).transpose().map_err(SandboxError::User)?;
        let has_application = config.configurations().any(|config| config.application.command.is_some());
        let is_active = identity.is_some() || settings.mode != SandboxMode::Off;
        // An application may start a program with the set-user-ID bit, such as sendmail.
        let no_new_privs = is_active && !has_application;
        Ok(Self { identity, no_new_privs, mode: settings.mode, has_application })
    }

    /// Returns the number of the user that the process becomes, or that of the current user.
    pub(crate) fn uid(&self) -> u32 {
        self.identity.as_ref().map_or_else(|| geteuid().as_raw(), Identity::uid)
    }

    /// Gives up the privileges, for good.
    ///
    /// # Errors
    ///
    /// Returns an error if the process cannot give them up, or needs them for its configuration.
    pub(crate) fn enter(&self, config: &Config) -> Result<Summary, SandboxError> {
        let mut summary = Summary { user: None, no_new_privs: self.no_new_privs, landlock: Err("off".to_owned()) };
        if self.identity.is_none() && self.mode == SandboxMode::Off {
            return Ok(summary);
        }
        check_threads()?;
        if let Some(identity) = &self.identity {
            identity.assume().map_err(|source| SandboxError::ChangeUser { user: identity.name.clone(), source })?;
            UnmetRequirements::check_directories(config)?;
            self.check_files(config, identity)?;
            summary.user = Some(identity.name.clone());
        }
        if self.no_new_privs {
            set_no_new_privs(true).map_err(|error| SandboxError::NoNewPrivileges(error.into()))?;
        }
        let mut active = Active { user: self.identity.clone(), grants: None, limits_ports: false };
        summary.landlock = match self.required() {
            Err(reason) => Err(reason),
            Ok(required) => {
                create_folders(config)?;
                let grants = Grants::of(&needs(config));
                match landlock::restrict(&grants, required) {
                    Ok(version) => {
                        active.grants = Some(grants);
                        active.limits_ports = version >= landlock::VERSION_WITH_PORTS;
                        Ok(version)
                    }
                    Err(error) if self.mode == SandboxMode::On => return Err(SandboxError::Landlock(Box::new(error))),
                    Err(error) => Err(format!("the kernel does not support it: {error}")),
                }
            }
        };
        let _ = ACTIVE.set(active);
        Ok(summary)
    }

    /// Returns the features that Landlock requires, or the reason why it is not used.
    fn required(&self) -> Result<Required, String> {
        match self.mode {
            SandboxMode::Off => Err("off".to_owned()),
            _ if self.has_application => Err("rproxy starts an application, which would inherit it".to_owned()),
            SandboxMode::Auto => Ok(Required::Files),
            SandboxMode::On => Ok(Required::FilesAndPorts),
        }
    }

    /// Checks that the user can read the files of the configuration, which a reload reads again.
    ///
    /// The certificates were read before. Only a warning is logged for them, and for the configuration file.
    fn check_files(&self, config: &Config, user: &Identity) -> Result<(), SandboxError> {
        for need in needs(config) {
            let Resource::Read(path) = &need.resource else { continue };
            let Err(source) = File::open(path) else { continue };
            if source.kind() != ErrorKind::PermissionDenied {
                continue;
            }
            let error = SandboxError::Unreadable {
                setting: need.setting.clone(),
                path: path.clone(),
                user: user.name.clone(),
                source,
            };
            match need.key {
                "config" | "tls_cert" | "tls_key" | "tls_ocsp" => tracing::warn!("{error}; a reload will fail"),
                _ => return Err(error),
            }
        }
        Ok(())
    }

    /// Describes the sandbox of a start with this configuration on this machine, one line per item.
    pub(crate) fn describe(config: &Config) -> Vec<String> {
        let sandbox = match Self::of(config) {
            Ok(sandbox) => sandbox,
            Err(error) => return vec![format!("user: {error}")],
        };
        let mut lines = Vec::new();
        lines.push(match &sandbox.identity {
            Some(user) => format!("user: {} (uid {}, gid {})", user.name, user.uid(), user.gid()),
            None => "user: the user who starts the process".to_owned(),
        });
        lines.push(match (sandbox.no_new_privs, sandbox.has_application) {
            (true, _) => "no_new_privs: set".to_owned(),
            (false, true) => "no_new_privs: not set, rproxy starts an application, which would inherit it".to_owned(),
            (false, false) => "no_new_privs: not set".to_owned(),
        });
        let version = sandbox.required().map(|_| landlock::kernel_version());
        match version {
            Err(reason) => lines.push(format!("files and ports: not restricted: {reason}")),
            Ok(None) => lines.push("files and ports: not restricted: the kernel has no Landlock".to_owned()),
            Ok(Some(1)) => lines.push("files and ports: not restricted: Landlock has ABI version 1".to_owned()),
            Ok(Some(version)) => {
                let grants = Grants::of(&needs(config));
                lines.push(format!("Landlock: ABI version {version}"));
                lines.push(format!("readable: {}", list(grants.read.iter().map(|path| path.display()))));
                lines.push(format!(
                    "readable, of the system: {}",
                    list(grants.system.iter().map(|path| path.display()))
                ));
                lines.push(format!("writable: {}", list(grants.write.iter().map(|path| path.display()))));
                match version >= landlock::VERSION_WITH_PORTS {
                    true => {
                        lines.push(format!("ports to listen on: {}", list(&grants.bind)));
                        lines.push(format!("ports to connect to: {}", list(&grants.connect)));
                    }
                    false => lines.push("ports: not restricted: ABI version 4 is required".to_owned()),
                }
            }
        }
        lines
    }

    /// Checks whether a start as root with this configuration can change its user, and whether that user can write to the
    /// folders.
    pub(crate) fn findings(config: &Config) -> Vec<Finding> {
        if config.sandbox.user.is_none() {
            return Vec::new();
        }
        let sandbox = match Self::of(config) {
            Ok(sandbox) => sandbox,
            Err(error) => return vec![Finding::Problem(error.to_string())],
        };
        let Some(user) = sandbox.identity.filter(|user| user.uid() != geteuid().as_raw()) else { return Vec::new() };
        if !geteuid().is_root() {
            return vec![Finding::Note(format!("only root can change the user of the process to {}", user.name))];
        }
        let denied = writable_folders(config).filter_map(|(key, folder)| {
            let present = writable_parent(folder).ok()?;
            fs::metadata(present).ok().filter(|metadata| !user.can_write(metadata))?;
            let (setting, present) = (config.value_source(key).locate(key), present.display());
            Some(Finding::Problem(format!("{setting}: {present} is not writable for the user {}", user.name)))
        });
        denied.collect()
    }
}

/// The result of giving up privileges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    user: Option<String>,
    no_new_privs: bool,
    /// The ABI version of Landlock, or the reason why it is not used.
    landlock: Result<u32, String>,
}

impl Summary {
    /// Logs the sandbox, if there is one.
    pub(crate) fn log(&self) {
        if self.user.is_none() && !self.no_new_privs && self.landlock == Err("off".to_owned()) {
            return;
        }
        let user = self.user.as_deref().unwrap_or("unchanged");
        let landlock = match &self.landlock {
            Ok(version) => format!("ABI version {version}"),
            Err(reason) => format!("not used: {reason}"),
        };
        tracing::info!(user, no_new_privs = self.no_new_privs, landlock, "privileges dropped");
    }
}

/// Returns an error if a reloaded configuration needs a file, a folder or a port outside of the sandbox of this process.
pub(crate) fn check_reload(config: &Config) -> Result<(), SandboxError> {
    let Some(Active { grants: Some(grants), limits_ports, .. }) = ACTIVE.get() else { return Ok(()) };
    let outside = needs(config).into_iter().find(|need| {
        let is_limited = match need.resource {
            // The admin listener tries to bind its address.
            Resource::Bind(_) => false,
            Resource::Connect(_) => *limits_ports,
            Resource::Read(_) | Resource::Write(_) => true,
        };
        is_limited && need.is_live() && !grants.covers(&need.resource)
    });
    match outside {
        Some(need) => Err(SandboxError::Outside { setting: need.setting, resource: need.resource.to_string() }),
        None => Ok(()),
    }
}

/// Returns an error if the sandbox of this process prohibits connections to a backend that `setting` names.
pub(crate) fn check_backend(setting: &str, backend: &Backend) -> Result<(), SandboxError> {
    let Some(Active { grants: Some(grants), limits_ports: true, .. }) = ACTIVE.get() else { return Ok(()) };
    match port_of(&backend.origin()).map(Resource::Connect).filter(|port| !grants.covers(port)) {
        Some(port) => Err(SandboxError::Outside { setting: setting.to_owned(), resource: port.to_string() }),
        None => Ok(()),
    }
}

/// Returns the reason why this process may not read a file, if that is due to its sandbox or its user.
pub(crate) fn denial(path: &Path) -> Option<Denial> {
    let active = ACTIVE.get()?;
    let is_outside = |grants: &Grants| !grants.covers(&Resource::Read(path.to_owned()));
    match &active.user {
        _ if active.grants.as_ref().is_some_and(is_outside) => Some(Denial::Sandbox),
        Some(user) => Some(Denial::User { name: user.name.clone(), gid: user.gid() }),
        None => None,
    }
}

/// The reason why this process may not read a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The file is outside of the sandbox.
    Sandbox,
    /// The user of the process has no permission.
    User { name: String, gid: u32 },
}

/// Returns whether this process has given up privileges that it had at its start.
pub(crate) fn is_active() -> bool {
    ACTIVE.get().is_some()
}

/// Adds the cause to the message of a failed reload, if that is the sandbox or the user of the process.
pub(crate) fn explain(message: String) -> String {
    let is_denied = message.to_ascii_lowercase().contains("permission denied");
    if !is_denied || message.contains("sandbox of this process") || message.contains("read by the user ") {
        return message;
    }
    let words = message.split(|c: char| c.is_whitespace() || "\"'`,;".contains(c));
    let paths = words.map(|word| word.trim_end_matches(':')).filter(|word| word.starts_with('/'));
    match paths.filter_map(|path| denial(Path::new(path))).min_by_key(|denial| *denial != Denial::Sandbox) {
        Some(Denial::Sandbox) => {
            format!("{message}; the file is outside of the sandbox of this process: restart required")
        }
        Some(Denial::User { name, .. }) => format!("{message}; the file must be readable for the user {name}"),
        None => message,
    }
}

/// Creates the folders of the process, because a rule needs an existing folder.
fn create_folders(config: &Config) -> Result<(), SandboxError> {
    for (key, folder) in writable_folders(config) {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        created.map_err(|source| SandboxError::Folder {
            setting: config.value_source(key).locate(key).to_string(),
            path: folder.to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// Returns an error if this process has other threads, which would keep their privileges.
fn check_threads() -> Result<(), SandboxError> {
    match fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(threads) if threads > 1 => Err(SandboxError::Threads(threads)),
        _ => Ok(()),
    }
}

fn list<T>(items: impl IntoIterator<Item = T>) -> String
where
    T: fmt::Display,
{
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
