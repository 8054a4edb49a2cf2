//! Tests of the handover of listeners from another process or a service manager.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::upstream::{ok, responding};
use crate::support::{Proxy, TIMEOUT, free_port, get};

fn settings<'a>(listen: &'a str, upstream: &'a str, handover: &'a str, workers: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("RPROXY_LISTEN", listen),
        ("RPROXY_UPSTREAM", upstream),
        ("RPROXY_HANDOVER_SOCKET", handover),
        ("RPROXY_WORKERS", workers),
        ("RPROXY_RATE_LIMIT_ENABLED", "false"),
    ]
}

#[test]
fn handover_under_load_fails_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handover");
    let (listen, upstream) = (format!("127.0.0.1:{}", free_port()), responding(|_| ok("served")).to_string());
    let with = |workers| settings(&listen, &upstream, path.to_str().unwrap(), workers);
    let mut running = Proxy::run(&[], &with("2"));
    let address: SocketAddr = listen.parse().unwrap();

    let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (done, served) = (Arc::clone(&done), Arc::clone(&served));
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    // A refused connection, or one that ends without a response, panics here.
                    assert_eq!(get(address, "/").body, "served");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    // The same number of workers, more, and fewer: every accept queue is served.
    for workers in ["2", "3", "1", "2"] {
        let next = Proxy::run(&[], &with(workers));
        next.wait_for_log("received the listeners from the old process");
        assert!(running.wait().success(), "{}", running.log());
        running = next;
        let (before, deadline) = (served.load(Ordering::Relaxed), Instant::now() + TIMEOUT);
        while served.load(Ordering::Relaxed) < before + 50 {
            assert!(Instant::now() < deadline, "no progress");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn process_keeps_listeners_if_the_new_process_cannot_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handover");
    let (listen, upstream) = (format!("127.0.0.1:{}", free_port()), responding(|_| ok("served")).to_string());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let both = format!("{listen},{}", taken.local_addr().unwrap());
    let proxy = Proxy::run(&[], &settings(&listen, &upstream, path.to_str().unwrap(), "1"));
    let failed = Command::new(env!("CARGO_BIN_EXE_rproxy"))
        .env_clear()
        .envs(settings(&both, &upstream, path.to_str().unwrap(), "1"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!failed.status.success());
    proxy.wait_for_log("socket handover failed");
    assert_eq!(get(proxy.address, "/").body, "served");
    // Another process can still receive the listeners.
    let next = Proxy::run(&[], &settings(&listen, &upstream, path.to_str().unwrap(), "1"));
    next.wait_for_log("received the listeners from the old process");
    assert_eq!(get(next.address, "/").body, "served");
}

#[test]
fn listens_on_a_socket_of_the_service_manager_and_notifies_it() {
    let folder = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let notification = || {
        let mut bytes = [0; 256];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = listener.local_addr().unwrap().to_string();
    let upstream = responding(|_| ok("served")).to_string();
    // A shell moves the socket to the descriptor that systemd uses.
    let script = format!("exec 3<&{}; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\"", listener.as_raw_fd());
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
    let mut child = Command::new("/bin/sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_rproxy")])
        .env_clear()
        .envs([("RPROXY_LISTEN", listen.as_str()), ("RPROXY_UPSTREAM", &upstream), ("RPROXY_WORKERS", "2")])
        .env("NOTIFY_SOCKET", folder.path().join("notify"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let state = notification();
    assert!(state.starts_with(&format!("READY=1\nMAINPID={}", child.id())), "{state}");
    let address = listen.parse().unwrap();
    assert_eq!(get(address, "/").body, "served");

    let signal = |signal: &str| {
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    };
    signal("-HUP");
    let state = notification();
    assert!(state.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{state}");
    assert!(notification().starts_with("READY=1"));
    signal("-TERM");
    assert_eq!(notification(), "STOPPING=1");
    assert!(child.wait().unwrap().success());
    // The service manager keeps its socket: connections wait for the next process.
    std::net::TcpStream::connect(address).unwrap();
}
