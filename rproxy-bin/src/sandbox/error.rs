//! The errors of giving up privileges.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use super::identity::UserError;
use crate::config::UnmetRequirements;

/// The error of a process that cannot give up its privileges, or needs more than it has kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// This machine does not have the user.
    #[error("RPROXY_USER: {0}")]
    User(UserError),
    /// The process cannot change its user.
    #[error(
        "RPROXY_USER: cannot change the user of the process to {user}; start it as root, with the capabilities CAP_SETUID and CAP_SETGID"
    )]
    ChangeUser {
        /// The configured user.
        user: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The user cannot use a folder of the configuration.
    #[error(transparent)]
    Requirements(#[from] UnmetRequirements),
    /// The user cannot read a file of the configuration.
    #[error("{setting}: {} cannot be read by the user {user}", path.display())]
    Unreadable {
        /// The setting that names the file.
        setting: String,
        /// The file.
        path: PathBuf,
        /// The user.
        user: String,
        /// The error of opening the file.
        source: io::Error,
    },
    /// A folder in which the process stores files cannot be created.
    #[error("{setting}: cannot create {}", path.display())]
    Folder {
        /// The setting that names the folder.
        setting: String,
        /// The folder.
        path: PathBuf,
        /// The error of creating the folder.
        source: io::Error,
    },
    /// The process has other threads, which would keep their privileges.
    #[error(
        "RPROXY_SANDBOX, RPROXY_USER: the process has {0} threads, and must have one; use a current-thread runtime"
    )]
    Threads(usize),
    /// The kernel rejects `no_new_privs`.
    #[error("RPROXY_SANDBOX: cannot set no_new_privs")]
    NoNewPrivileges(#[source] io::Error),
    /// The kernel lacks Landlock, or a feature that the sandbox requires.
    #[error(
        "RPROXY_SANDBOX: this kernel has no Landlock with TCP ports (Linux 6.7); set RPROXY_SANDBOX=auto to use what it has"
    )]
    Landlock(#[source] Box<dyn Error + Send + Sync>),
    /// A reloaded configuration needs a resource outside of the sandbox.
    #[error("{setting}: {resource} is outside of the sandbox of this process: restart required")]
    Outside {
        /// The setting that names the resource.
        setting: String,
        /// The file, folder or port.
        resource: String,
    },
}
