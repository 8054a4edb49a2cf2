//! A Redis server for tests.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rproxy_test_support::free_port;

/// A running `redis-server` on a free port.
pub(crate) struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts a Redis server on a free port.
    ///
    /// Returns `None` if Redis is not installed, or panics if `TEST_REQUIRE_COUNTERPARTS` is set.
    pub(crate) fn start() -> Option<Self> {
        let is_installed =
            ["redis-server", "redis-cli"].iter().all(|program| Path::new("/usr/bin").join(program).exists());
        assert!(
            is_installed || std::env::var_os("TEST_REQUIRE_COUNTERPARTS").is_none(),
            "redis is not installed, but TEST_REQUIRE_COUNTERPARTS is set"
        );
        if !is_installed {
            eprintln!("skipped: redis is not installed");
            return None;
        }
        let port = free_port();
        Some(Self { child: spawn(port), port })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Kills the Redis server with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Restarts the Redis server on the same port, without its data.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port);
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Runs a Redis command with `redis-cli`, and returns the output.
    pub(crate) fn cli(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(command).output().unwrap();
        assert!(output.status.success(), "{command:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns a function that counts the calls of a Redis command.
    pub(crate) fn calls(&self) -> impl Fn(&str) -> u64 {
        let stats = self.cli(&["INFO", "commandstats"]);
        move |command| {
            let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
            line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16) -> Child {
    let child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "redis-server did not start to listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}
