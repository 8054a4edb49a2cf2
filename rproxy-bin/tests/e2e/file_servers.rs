//! Several file server implementations, which serve a directory that contains secret files.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{TIMEOUT, connect, free_port, has, read_response};

/// The content of the secret files, which no response may contain.
pub(crate) const SECRET: &str = "this is not meant to be served";

/// A directory to serve, with secret files inside it and next to it.
pub(crate) struct Site(tempfile::TempDir);

impl Site {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        for secret in secrets {
            site.write(&site.root().join(secret), SECRET);
        }
        site.write(&site.0.path().join("outside.sql"), SECRET);
        for public in ["index.html", "x/y/index.html", "static/app.js", ".well-known/security.txt"] {
            site.write(&site.root().join(public), "public");
        }
        site
    }

    /// The parent directory of the served directory.
    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn write(&self, path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// A server process that is killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a server script in `path_filter/`; returns `None` if the required program is not installed.
    pub(crate) fn script(program: &str, needs: Option<&str>, script: &str, site: &Site) -> Option<Self> {
        let port = free_port().to_string();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/path_filter").join(script);
        Self::start(program, needs, [path, site.root(), PathBuf::from(&port)].into_iter(), &port)
    }

    pub(crate) fn start(
        program: &str,
        needs: Option<&str>,
        args: impl Iterator<Item = PathBuf>,
        port: &str,
    ) -> Option<Self> {
        if !has(program) {
            return None;
        }
        let program = Path::new("/usr/bin").join(program);
        if let Some(needs) = needs {
            let flag = if program.ends_with("node") { "-e" } else { "-c" };
            let tried = command(&program).args([flag, needs]).stderr(Stdio::null()).status().unwrap();
            if !tried.success() {
                // Express is installed with npm, which is not available on every machine.
                let is_packaged = !needs.contains("express");
                let is_required = is_packaged && std::env::var_os("TEST_REQUIRE_COUNTERPARTS").is_some();
                assert!(!is_required, "{needs:?} is required and does not work");
                eprintln!("skipped: {needs:?} does not work");
                return None;
            }
        }
        let mut server = command(&program);
        let child = server.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
        let server = Self { child, address };
        let deadline = Instant::now() + TIMEOUT;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "{} does not listen", program.display());
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(server)
    }
}

/// Returns a command with `NODE_PATH` set to the Node modules that `scripts/test` installs.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("NODE_PATH", concat!(env!("CARGO_MANIFEST_DIR"), "/../target/counterparts/node_modules"));
    command
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP client that reuses its connection as long as possible.
pub(crate) struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Returns the status and body of a response, or `None` if there is no response.
    pub(crate) fn get(&mut self, path: &str) -> Option<(u16, String)> {
        // The connection may have ended: then a new one decides.
        (0..2).find_map(|_| {
            let stream = self.stream.get_or_insert_with(|| connect(self.address));
            let request = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n");
            let response = stream.write_all(request.as_bytes()).ok().and_then(|()| read_response(stream));
            let ends = response.as_ref().is_none_or(|response| {
                let is = |name, value: &str| {
                    response.header(name).is_some_and(|received| received.eq_ignore_ascii_case(value))
                };
                is("connection", "close") || is("transfer-encoding", "chunked") || response.head.starts_with("HTTP/1.0")
            });
            if ends {
                self.stream = None;
            }
            response.map(|response| (response.status, response.body))
        })
    }
}
