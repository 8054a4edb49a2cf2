//! Helpers for the end-to-end tests: the built binary, external programs and raw sockets.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) mod upstream;

pub(crate) use rproxy_test_support::free_port;

/// The maximum time for any step of a test, reached only if the test fails.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// A running process of the built binary.
pub(crate) struct Proxy {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    out: Arc<Mutex<Vec<String>>>,
    pub(crate) address: SocketAddr,
}

impl Proxy {
    /// Starts the proxy in front of `upstream`, on a port that the system selects.
    pub(crate) fn start(upstream: SocketAddr, settings: &[(&str, &str)]) -> Self {
        let upstream = upstream.to_string();
        let mut all = vec![("RPROXY_UPSTREAM", upstream.as_str()), ("RPROXY_LISTEN", "127.0.0.1:0")];
        all.extend(settings);
        Self::run(&[], &all)
    }

    /// Starts the proxy with only these arguments and environment variables.
    pub(crate) fn run(args: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rproxy"))
            .args(args)
            .env_clear()
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = collect(child.stderr.take().unwrap());
        let out = collect(child.stdout.take().unwrap());
        let mut proxy = Self { child, log, out, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let line = proxy.wait_for_log("listening");
        proxy.address = address_in(&line);
        proxy
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the address of a listener, from the first log line that contains `what`.
    pub(crate) fn address_of(&self, what: &str) -> SocketAddr {
        address_in(&self.wait_for_log(what))
    }

    /// Waits for a log line that contains `text`.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        wait_for(&self.log, text)
    }

    /// Waits until `count` log lines contain `text`.
    pub(crate) fn wait_for_logs(&self, text: &str, count: usize) {
        let deadline = Instant::now() + TIMEOUT;
        while self.log.lock().unwrap().iter().filter(|line| line.contains(text)).count() < count {
            assert!(Instant::now() < deadline, "no {count} of {text:?} in:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for a line on standard output (access log, banner) that contains `text`.
    pub(crate) fn wait_for_output(&self, text: &str) -> String {
        wait_for(&self.out, text)
    }

    /// Waits for a line of the output for at most `time`.
    pub(crate) fn wait_for_output_within(&self, text: &str, time: Duration) -> String {
        wait_for_within(&self.out, text, time)
    }

    /// Returns all lines on standard output that contain `text`.
    pub(crate) fn outputs(&self, text: &str) -> Vec<String> {
        self.out.lock().unwrap().iter().filter(|line| line.contains(text)).cloned().collect()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until the process exits without a signal from the test.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TIMEOUT * 2;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "still running; its log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the proxy's log\n{}\n---", self.log());
        }
    }
}

pub(crate) fn collect(source: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            sink.lock().unwrap().push(line);
        }
    });
    lines
}

pub(crate) fn wait_for(lines: &Mutex<Vec<String>>, text: &str) -> String {
    wait_for_within(lines, text, TIMEOUT)
}

pub(crate) fn wait_for_within(lines: &Mutex<Vec<String>>, text: &str, patience: Duration) -> String {
    let deadline = Instant::now() + patience;
    loop {
        let present = lines.lock().unwrap().clone();
        if let Some(line) = present.iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        assert!(Instant::now() < deadline, "no {text:?} in:\n{}", present.join("\n"));
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Returns the first socket address in a line of text.
pub(crate) fn address_in(line: &str) -> SocketAddr {
    let candidates = line.split(|c: char| !(c.is_ascii_digit() || ".:[]".contains(c)));
    let mut addresses = candidates.filter_map(|word| word.trim_matches('.').parse().ok());
    addresses.next().unwrap_or_else(|| panic!("no address in {line:?}"))
}

/// Returns whether `program` is installed. With `TEST_REQUIRE_COUNTERPARTS`, it must be.
pub(crate) fn has(program: &str) -> bool {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin"];
    let found = places.iter().any(|place| Path::new(place).join(program).exists());
    assert!(
        found || std::env::var_os("TEST_REQUIRE_COUNTERPARTS").is_none(),
        "{program} is required and not installed"
    );
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// Runs curl with `args` and returns its output.
pub(crate) fn curl(args: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--max-time", "20"]).args(args).output().unwrap();
    assert!(output.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends bytes on a new connection and reads until the connection ends.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    // A server that rejects early may close before everything is sent.
    let _ = stream.write_all(bytes);
    read_to_end(&mut stream)
}

pub(crate) fn read_to_end(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    match stream.read_to_end(&mut response) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error} after {}", response.escape_ascii()),
    }
    String::from_utf8_lossy(&response).into_owned()
}

/// Removes interim responses from the start of `text` (RFC 9110 §15.2).
pub(crate) fn without_interim(mut text: &str) -> &str {
    while let Some((_, behind)) = text.split_once("\r\n\r\n").filter(|_| text.starts_with("HTTP/1.1 1")) {
        text = behind;
    }
    text
}

/// A received response with `Content-Length` or without a body.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Reads one response; returns `None` if the connection ends first.
pub(crate) fn read_response(stream: &mut impl Read) -> Option<Response> {
    read_response_to(stream, true)
}

/// Reads the response to one request; responses to HEAD have no content.
pub(crate) fn read_response_to(stream: &mut impl Read, expects_content: bool) -> Option<Response> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) if head.is_empty() => return None,
            Err(error) if head.is_empty() && error.kind() == ErrorKind::ConnectionReset => return None,
            other => panic!("{other:?} within a head: {}", head.escape_ascii()),
        }
    }
    // Python's `http.server` repeats a target that is not valid UTF-8 in the reason phrase.
    let head = String::from_utf8_lossy(&head).into_owned();
    let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut response = Response { status, head, body: String::new() };
    let has_content = expects_content && status >= 200 && !matches!(status, 204 | 304);
    let length = response.header("content-length").filter(|_| has_content).map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a whole body");
    response.body = String::from_utf8_lossy(&body).into_owned();
    Some(response)
}

/// Sends a GET request on a new connection and returns the response.
pub(crate) fn get(address: SocketAddr, target: &str) -> Response {
    request(address, &format!("GET {target} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n"))
}

pub(crate) fn request(address: SocketAddr, bytes: &str) -> Response {
    let mut stream = connect(address);
    stream.write_all(bytes.as_bytes()).unwrap();
    read_response(&mut stream).expect("a response")
}
