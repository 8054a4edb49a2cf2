//! Advice for errors of listeners and directories that prevent the proxy from starting.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use rproxy_server::{ListenAddr, ServerError};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::ErrorChain;
use crate::layers::StackError;
use crate::run::RunError;
use crate::shell::shell_quoted;

/// An error with the name of the responsible setting, and advice.
///
/// Its message includes those of its sources, since the advice is the end of it.
#[derive(Debug)]
pub struct SettingError {
    setting: &'static str,
    error: Box<dyn Error + Send + Sync>,
    advice: Option<String>,
}

impl SettingError {
    fn new(setting: &'static str, error: impl Error + Send + Sync + 'static, advice: Option<String>) -> Self {
        Self { setting, error: Box::new(error), advice }
    }

    /// Returns the environment variable of the setting that caused the error.
    pub fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, ErrorChain(&*self.error))?;
        self.advice.iter().try_for_each(|advice| write!(f, "; {advice}"))
    }
}

impl Error for SettingError {}

/// The error for a listener that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
struct ListenError {
    address: ListenAddr,
    source: io::Error,
}

/// Returns the error for a listener that cannot be bound, with the responsible setting and advice.
pub(crate) fn listener(setting: &'static str, error: ServerError) -> RunError {
    match error {
        ServerError::Bind { address, source } => {
            let advice = listen_advice(setting, &address, &source);
            RunError::Setting(SettingError::new(setting, ListenError { address, source }, advice))
        }
        other => RunError::Server(other),
    }
}

/// Returns advice on a listen address that cannot be bound.
pub(crate) fn listen_advice(setting: &str, address: &ListenAddr, error: &io::Error) -> Option<String> {
    let address = match address {
        ListenAddr::Unix(path) => return socket_advice(setting, path, error),
        ListenAddr::Tcp(address) => address,
        _ => return None,
    };
    match error.kind() {
        ErrorKind::PermissionDenied if address.port() < 1024 => Some(format!(
            "run `setcap cap_net_bind_service=+ep {}` as root, give the service the capability CAP_NET_BIND_SERVICE, or set \
             {setting} to a port above 1023",
            program()
        )),
        ErrorKind::AddrInUse => Some(format!(
            "stop the process that uses this port (`ss -ltnp 'sport = :{}'` shows it), or set {setting} to another port",
            address.port()
        )),
        ErrorKind::AddrNotAvailable => Some(format!(
            "set {setting} to an address of this machine (`ip address` shows them), or to :PORT for all addresses"
        )),
        _ if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => {
            Some(format!("this machine has no IPv6: set {setting} to 0.0.0.0 with the port"))
        }
        _ => None,
    }
}

fn socket_advice(setting: &str, path: &Path, error: &io::Error) -> Option<String> {
    match error.kind() {
        ErrorKind::AddrInUse => {
            Some(format!("stop the process that listens on this path, or set {setting} to another path"))
        }
        _ => parent_advice(setting, path, error),
    }
}

/// Returns advice on a file whose directory cannot be used and may belong to other programs.
fn parent_advice(setting: &str, path: &Path, error: &io::Error) -> Option<String> {
    let folder = path.parent().unwrap_or(path);
    match error.kind() {
        ErrorKind::PermissionDenied => Some(format!(
            "give the user {} write access to {}, or set {setting} to another path",
            geteuid().as_raw(),
            shell_quoted(folder.as_os_str())
        )),
        _ => folder_advice(setting, folder, error),
    }
}

/// Returns the error for certificates that cannot be used, with the responsible setting and advice.
pub(crate) fn certificates(cache_dir: &Path, error: rproxy_tls::Error) -> RunError {
    use rproxy_tls::Error as Kind;
    let (setting, advice) = match &error {
        Kind::Folder { source, .. } => {
            let setting = "RPROXY_TLS_CACHE_DIR";
            (setting, folder_advice(setting, cache_dir, source))
        }
        Kind::LocalCa { .. } => ("RPROXY_TLS_CACHE_DIR", None),
        Kind::Files { .. } => ("RPROXY_TLS_CERT, RPROXY_TLS_KEY", None),
        Kind::DirectoryCa { .. } => ("RPROXY_ACME_CA", None),
        Kind::ClientCa { .. } => ("RPROXY_TLS_CLIENT_CA", None),
        Kind::KeyLog { path, source } => {
            let setting = "RPROXY_TLS_KEY_LOG";
            (setting, parent_advice(setting, path, source))
        }
        _ => return RunError::Tls(error),
    };
    RunError::Setting(SettingError::new(setting, error, advice))
}

/// Returns the error for a layer stack that cannot be built, with setting and advice for the cache directory.
pub(crate) fn stack(cache_disk: Option<&Path>, error: StackError) -> RunError {
    let StackError::CacheDisk(disk) = &error else { return RunError::Stack(error) };
    let (Some(folder), Some(source)) = (cache_disk, io_error(disk)) else { return RunError::Stack(error) };
    let setting = "RPROXY_CACHE_DISK";
    let advice = folder_advice(setting, folder, source);
    RunError::Setting(SettingError::new(setting, error, advice))
}

/// Returns the error for a handover socket that cannot be used, with the responsible setting and advice.
pub(crate) fn handover(error: rproxy_server::HandoverError) -> RunError {
    let setting = "RPROXY_HANDOVER_SOCKET";
    let advice = socket_advice(setting, &error.path, &error.source);
    RunError::Setting(SettingError::new(setting, error, advice))
}

/// Returns advice on a directory of this program that cannot be used.
pub(crate) fn folder_advice(setting: &str, folder: &Path, error: &io::Error) -> Option<String> {
    let folder = shell_quoted(folder.as_os_str());
    Some(match error.kind() {
        ErrorKind::PermissionDenied => format!(
            "run `mkdir -p {folder} && chown -R {} {folder}` as root, or set {setting} to a path in a writable directory",
            geteuid().as_raw()
        ),
        ErrorKind::ReadOnlyFilesystem => {
            format!("mount a writable volume at {folder}, or set {setting} to a path in a writable directory")
        }
        ErrorKind::NotFound => format!("create {folder}, or set {setting} to another path"),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            format!("a part of {folder} is not a directory: set {setting} to another path")
        }
        ErrorKind::StorageFull => format!("free some disk space, or set {setting} to a path on another disk"),
        _ => return None,
    })
}

fn io_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    error.downcast_ref().or_else(|| error.source().and_then(io_error))
}

fn program() -> String {
    std::env::current_exe().map_or_else(|_| "rproxy".to_owned(), |path| shell_quoted(path.as_os_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;

    fn bind(setting: &'static str, address: &str, source: io::Error) -> String {
        listener(setting, ServerError::Bind { address: address.parse().unwrap(), source }).to_string()
    }

    #[test]
    fn listener_errors_name_setting_cause_and_fix() {
        let denied = || io::Error::from(ErrorKind::PermissionDenied);
        for (setting, address, error, fix) in [
            ("RPROXY_LISTEN", "0.0.0.0:443", denied(), "setcap cap_net_bind_service=+ep /"),
            ("RPROXY_LISTEN", "0.0.0.0:443", denied(), "a port above 1023"),
            ("RPROXY_HTTP_PORT", "[::]:80", io::Error::from(ErrorKind::AddrInUse), "`ss -ltnp 'sport = :80'`"),
            ("RPROXY_ADMIN_LISTEN", "192.0.2.1:99", ErrorKind::AddrNotAvailable.into(), "`ip address`"),
            ("RPROXY_LISTEN", "[::]:8080", Errno::AFNOSUPPORT.into(), "0.0.0.0"),
            ("RPROXY_LISTEN", "unix:/run/x/s", denied(), "write access to /run/x,"),
            ("RPROXY_LISTEN", "unix:/run/x/s", ErrorKind::NotFound.into(), "create /run/x,"),
            ("RPROXY_LISTEN", "unix:/run/x/s", io::Error::from(ErrorKind::AddrInUse), "stop the process"),
        ] {
            let cause = error.to_string();
            let text = bind(setting, address, error);
            assert!(text.starts_with(&format!("{setting}: cannot listen on {address}: {cause}; ")), "{text}");
            assert!(text.contains(fix) && text.matches(setting).count() == 2, "{text}");
        }
        let other = bind("RPROXY_LISTEN", "0.0.0.0:8080", ErrorKind::PermissionDenied.into());
        assert_eq!(other, "RPROXY_LISTEN: cannot listen on 0.0.0.0:8080: permission denied");
    }

    #[test]
    fn directory_errors_name_setting_cause_and_fix() {
        let folder = Path::new("/var/lib/my certs");
        for (kind, fix) in [
            (ErrorKind::PermissionDenied, "chown"),
            (ErrorKind::ReadOnlyFilesystem, "mount a writable volume at '/var/lib/my certs'"),
            (ErrorKind::NotFound, "create '/var/lib/my certs'"),
            (ErrorKind::NotADirectory, "is not a directory"),
            (ErrorKind::StorageFull, "free some disk space"),
        ] {
            let error = rproxy_tls::Error::Folder { path: folder.join("acme"), source: kind.into() };
            let text = certificates(folder, error).to_string();
            let start = "RPROXY_TLS_CACHE_DIR: cannot use certificate folder /var/lib/my certs/acme: ";
            assert!(
                text.starts_with(start) && text.contains(fix) && text.ends_with(|c: char| c.is_alphabetic()),
                "{text}"
            );
        }
    }

    #[test]
    fn every_setting_in_startup_advice_exists() {
        let source = include_str!("startup_advice.rs");
        let words = source.split(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
        for name in words.filter(|word| word.starts_with("RPROXY_") && word.len() > "RPROXY_".len()) {
            assert!(settings().any(|setting| setting.variable() == name), "{name}");
        }
    }
}
