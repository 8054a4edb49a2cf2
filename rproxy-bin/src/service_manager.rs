//! Notifies systemd or another service manager of the state of the process (sd_notify(3)).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

/// Notifies the service manager that the process is ready. After a handover, the service manager learns the new process
/// ID.
pub(crate) fn ready() {
    notify(&format!("READY=1\nMAINPID={}", std::process::id()));
}

/// Notifies the service manager that a reload has started; [`ready`] reports the end of the reload.
pub(crate) fn reloading() {
    // systemd.service(5), `Type=notify-reload`: the time tells apart several reloads.
    let now = clock_gettime(ClockId::Monotonic);
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1000));
}

/// Notifies the service manager that the process is shutting down.
pub(crate) fn stopping() {
    notify("STOPPING=1");
}

fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return };
    let address = match path.as_bytes() {
        // unix(7): an abstract name instead of a path.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&path),
    };
    if let Err(error) = address.and_then(|address| send(&address, state)) {
        tracing::warn!(path = %path.display(), %error, "cannot notify the service manager");
    }
}

fn send(address: &SocketAddr, state: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifies_service_manager_at_path_and_abstract_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = SocketAddr::from_pathname(folder.path().join("notify")).unwrap();
        let name = SocketAddr::from_abstract_name(format!("rproxy-test-{}", std::process::id())).unwrap();
        for address in [path, name] {
            let manager = UnixDatagram::bind_addr(&address).unwrap();
            send(&address, "READY=1").unwrap();
            let mut state = [0; 64];
            let length = manager.recv(&mut state).unwrap();
            assert_eq!(&state[..length], b"READY=1");
        }
    }
}
