//! Tests of the process log on a standard error that does not accept it.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{TIMEOUT, free_port, get};

/// A proxy without a reader of its log, which is killed at the end.
struct Silent {
    child: Child,
    address: SocketAddr,
}

impl Silent {
    /// Starts a proxy whose backend refuses connections, and waits until it listens.
    fn start(stderr: Stdio, level: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let child = Command::new(env!("CARGO_BIN_EXE_rproxy"))
            .env_clear()
            .env("RPROXY_LISTEN", address.to_string())
            .env("RPROXY_UPSTREAM", format!("127.0.0.1:{}", free_port()))
            .env("RPROXY_LOG_LEVEL", level)
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let silent = Self { child, address };
        let deadline = Instant::now() + TIMEOUT;
        while std::net::TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "the proxy does not listen");
            thread::sleep(Duration::from_millis(5));
        }
        silent
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Reloads, and checks that requests get responses before and after it. Each failed request is logged.
    fn serves_and_reloads(&self) {
        for _ in 0..5 {
            assert_eq!(get(self.address, "/").status, 502);
        }
        self.signal("HUP");
        for _ in 0..5 {
            assert_eq!(get(self.address, "/").status, 502);
        }
    }

    fn stops(mut self) {
        self.signal("TERM");
        let deadline = Instant::now() + TIMEOUT;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "the proxy does not stop"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(0));
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn full_disk_of_the_log_does_not_stop_the_proxy() {
    let proxy = Silent::start(File::options().write(true).open("/dev/full").unwrap().into(), "debug");
    proxy.serves_and_reloads();
    proxy.stops();
}

#[test]
fn closed_reader_of_the_log_does_not_stop_the_proxy() {
    let mut proxy = Silent::start(Stdio::piped(), "debug");
    drop(proxy.child.stderr.take());
    proxy.serves_and_reloads();
    proxy.stops();
}

#[test]
fn stalled_reader_of_the_log_does_not_stop_the_proxy() {
    // The pipe holds 64 kB, and has no reader.
    let proxy = Silent::start(Stdio::piped(), "trace");
    for _ in 0..300 {
        assert_eq!(get(proxy.address, "/").status, 502);
    }
    proxy.serves_and_reloads();
    proxy.stops();
}
