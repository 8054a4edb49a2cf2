//! Tells systemd, or whoever started the process and asks for it, how it is (sd_notify(3)).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

/// It serves. A process that took over from another says who it is, too.
pub(crate) fn ready() {
    notify(&format!("READY=1\nMAINPID={}", std::process::id()));
}

/// It reads its configuration again; [`ready`] says when it has.
pub(crate) fn reloading() {
    // systemd.service(5), `Type=notify-reload`: so that it knows which of several reloads is meant.
    let now = clock_gettime(ClockId::Monotonic);
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1000));
}

/// It drains.
pub(crate) fn stopping() {
    notify("STOPPING=1");
}

fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return };
    let address = match path.as_bytes() {
        // unix(7): a name that is no path.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&path),
    };
    if let Err(error) = address.and_then(|address| send(&address, state)) {
        tracing::warn!(path = %path.display(), %error, "can't tell the service manager");
    }
}

fn send(address: &SocketAddr, state: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_arrives_at_a_path_and_at_a_name() {
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
