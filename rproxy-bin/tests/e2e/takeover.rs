//! One process takes the listeners of another, or of a service manager.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::upstream::{answering, ok};
use crate::support::{PATIENCE, Proxy, free_port, get};

fn settings<'a>(listen: &'a str, upstream: &'a str, takeover: &'a str, workers: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("RPROXY_LISTEN", listen),
        ("RPROXY_UPSTREAM", upstream),
        ("RPROXY_TAKEOVER", takeover),
        ("RPROXY_WORKERS", workers),
        ("RPROXY_RATE_LIMIT_ENABLED", "false"),
    ]
}

#[test]
fn under_load_no_request_fails_while_one_process_takes_over_from_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("takeover");
    let (listen, upstream) = (format!("127.0.0.1:{}", free_port()), answering(|_| ok("served")).to_string());
    let with = |workers| settings(&listen, &upstream, path.to_str().unwrap(), workers);
    let mut running = Proxy::run(&[], &with("2"));
    let address: SocketAddr = listen.parse().unwrap();

    let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (done, served) = (Arc::clone(&done), Arc::clone(&served));
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    // A connection that is refused, or ends without an answer, panics here.
                    assert_eq!(get(address, "/").body, "served");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    // As many workers as before, more, and fewer: each queue has somebody who takes from it.
    for workers in ["2", "3", "1", "2"] {
        let next = Proxy::run(&[], &with(workers));
        next.wait_for_log("took over the listeners of the previous process");
        assert!(running.wait().success(), "{}", running.log());
        running = next;
        let (before, deadline) = (served.load(Ordering::Relaxed), Instant::now() + PATIENCE);
        while served.load(Ordering::Relaxed) < before + 50 {
            assert!(Instant::now() < deadline, "nobody serves");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn a_process_that_can_not_start_leaves_the_other_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("takeover");
    let (listen, upstream) = (format!("127.0.0.1:{}", free_port()), answering(|_| ok("served")).to_string());
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
    // And another one can still come.
    let next = Proxy::run(&[], &settings(&listen, &upstream, path.to_str().unwrap(), "1"));
    next.wait_for_log("took over the listeners of the previous process");
    assert_eq!(get(next.address, "/").body, "served");
}

#[test]
fn a_service_manager_gives_the_socket_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut state = [0; 256];
        let length = manager.recv(&mut state).unwrap();
        String::from_utf8_lossy(&state[..length]).into_owned()
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = listener.local_addr().unwrap().to_string();
    let upstream = answering(|_| ok("served")).to_string();
    // A shell moves the socket to where systemd puts it, which this process can't do for its child.
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
    let said = told();
    assert!(said.starts_with(&format!("READY=1\nMAINPID={}", child.id())), "{said}");
    let address = listen.parse().unwrap();
    assert_eq!(get(address, "/").body, "served");

    let signal = |signal: &str| {
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    };
    signal("-HUP");
    let said = told();
    assert!(said.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{said}");
    assert!(told().starts_with("READY=1"));
    signal("-TERM");
    assert_eq!(told(), "STOPPING=1");
    assert!(child.wait().unwrap().success());
    // The manager's socket is still there: who comes meanwhile waits for the next process.
    std::net::TcpStream::connect(address).unwrap();
}
