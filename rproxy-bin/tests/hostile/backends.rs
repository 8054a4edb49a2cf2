//! Backends of several kinds, which report the requests that they received.
//!
//! nginx and Apache forward the requests as they understood them to a recorder; programs for Node and Python report
//! them themselves.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::strict;
use crate::support::upstream::scripted;
use crate::support::{TIMEOUT, free_port, has};

/// A request as parsed by the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenRequest {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) host: String,
    /// The length of the request content, or `None` if the backend ignores content.
    pub(crate) length: Option<usize>,
}

impl fmt::Display for SeenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.length.map_or("-".to_owned(), |length| length.to_string());
        write!(f, "{} {} {} {length}", self.method, self.target, self.host)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackendKind {
    /// A backend that rejects everything that RFC 9112 does not strictly allow.
    Strict,
    Nginx,
    Apache,
    Node,
    Gunicorn,
    /// Python's `http.server` with a handler that ignores the content of GET and similar methods.
    HttpServer,
}

impl BackendKind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Strict, Self::Nginx, Self::Apache, Self::Node, Self::Gunicorn, Self::HttpServer];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict parser",
            Self::Nginx => "nginx",
            Self::Apache => "Apache httpd",
            Self::Node => "Node.js",
            Self::Gunicorn => "Gunicorn",
            Self::HttpServer => "Python http.server",
        }
    }

    /// Starts a backend of this kind; returns `None` if its program is not installed.
    pub(crate) fn start(self) -> Option<Backend> {
        let seen = Recorder::default();
        if self == Self::Strict {
            let address = recorder(&seen);
            return Some(Backend { kind: self, address, seen, child: None, _folder: tempfile::tempdir().unwrap() });
        }
        let program = match self {
            Self::Strict | Self::Nginx => "nginx",
            Self::Apache => "apache2",
            Self::Node => "node",
            Self::Gunicorn => "gunicorn",
            Self::HttpServer => "python3",
        };
        if !has(program) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = self.command(folder.path(), address, &seen);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (lines, recorder) = (BufReader::new(child.stdout.take().unwrap()), seen.clone());
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                recorder.record(line.strip_prefix("seen ").and_then(parsed).ok_or(line));
            }
        });
        let backend = Backend { kind: self, address, seen, child: Some(child), _folder: folder };
        let deadline = Instant::now() + TIMEOUT;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "{} does not listen", self.name());
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(backend)
    }

    fn command(self, folder: &Path, address: SocketAddr, seen: &Recorder) -> Command {
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            let folder = folder.to_str().unwrap();
            let text = text.replace("{{folder}}", folder).replace("{{listen}}", &address.to_string());
            let text = if text.contains("{{recorder}}") {
                text.replace("{{recorder}}", &recorder(seen).to_string())
            } else {
                text
            };
            std::fs::write(&file, text).unwrap();
            file
        };
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        match self {
            Self::Strict | Self::Nginx => {
                let mut command = Command::new("/usr/sbin/nginx");
                command.arg("-c").arg(write("nginx.conf", include_str!("backends/nginx.conf")));
                command
            }
            Self::Apache => {
                let mut command = Command::new("/usr/sbin/apache2");
                command.arg("-DFOREGROUND").arg("-f").arg(write("apache.conf", include_str!("backends/apache.conf")));
                command
            }
            Self::Node => {
                let mut command = Command::new("node");
                command.arg(write("server.js", include_str!("backends/server.js"))).args([host, port]);
                command
            }
            Self::Gunicorn => {
                write("app.py", include_str!("backends/app.py"));
                let mut command = Command::new("gunicorn");
                command.current_dir(folder).args(["--bind", &address.to_string(), "--worker-class", "gthread"]);
                command.args(["--threads", "4", "--keep-alive", "60", "--log-level", "critical", "app:app"]);
                command
            }
            Self::HttpServer => {
                let mut command = Command::new("python3");
                command.arg(write("server.py", include_str!("backends/server.py"))).args([host, port]);
                command
            }
        }
    }
}

/// The requests that a backend has received since the last check, or errors for malformed requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<Result<SeenRequest, String>>>>);

impl Recorder {
    fn record(&self, seen: Result<SeenRequest, String>) {
        self.0.lock().unwrap().push(seen);
    }

    /// Waits for the request for `target`, and returns all previous requests.
    pub(crate) fn before(&self, target: &str) -> Vec<Result<SeenRequest, String>> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let mut all = self.0.lock().unwrap();
            let is_it = |seen: &Result<SeenRequest, String>| seen.as_ref().is_ok_and(|seen| seen.target == target);
            if let Some(at) = all.iter().position(is_it) {
                let mut before: Vec<_> = all.drain(..=at).collect();
                before.pop();
                return before;
            }
            assert!(Instant::now() < deadline, "no {target} among {all:?}");
            drop(all);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A running backend that is stopped when dropped.
pub(crate) struct Backend {
    pub(crate) kind: BackendKind,
    pub(crate) address: SocketAddr,
    pub(crate) seen: Recorder,
    child: Option<Child>,
    _folder: tempfile::TempDir,
}

impl Drop for Backend {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // SIGTERM lets them stop their own child processes.
        let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        let deadline = Instant::now() + TIMEOUT;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Starts a server that records and responds to every request that the strict parser accepts.
fn recorder(seen: &Recorder) -> SocketAddr {
    let seen = seen.clone();
    scripted(move |mut stream| {
        loop {
            match strict::read(&mut stream) {
                Ok(Some(request)) => {
                    let text = format!("{request}\n");
                    let body = if request.method == "HEAD" { "" } else { &text };
                    seen.record(Ok(request.clone()));
                    let length = text.len();
                    let response = format!("HTTP/1.1 200 OK\r\nX-Seen: 1\r\nContent-Length: {length}\r\n\r\n{body}");
                    if stream.write_all(response.as_bytes()).is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(complaint) => return seen.record(Err(complaint)),
            }
        }
    })
}

/// Parses a line of the form `METHOD TARGET HOST LENGTH`.
fn parsed(line: &str) -> Option<SeenRequest> {
    let [method, target, host, length] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
    let length = if length == "-" { None } else { Some(length.parse().ok()?) };
    Some(SeenRequest { method: method.to_owned(), target: target.to_owned(), host: host.to_owned(), length })
}
