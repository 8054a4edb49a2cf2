//! Tests with the WebSocket implementations in `tests/clients`: npm ws, socket.io, Vite, PyPI websockets and Chromium.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::upstream::read_head;
use crate::support::{Proxy, address_in, collect, connect, has, wait_for_within};

/// The maximum startup time of Node programs and browsers, sufficient even for a busy machine.
pub(crate) const START: Duration = Duration::from_secs(90);

/// A backend application that runs in Node.
pub(crate) struct Application {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Application {
    fn start(script: &str, args: &[&str]) -> Self {
        Self::run(node(script).args(args))
    }

    pub(crate) fn run(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = collect(child.stdout.take().unwrap());
        Self { child, lines }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        address_in(&wait_for_within(&self.lines, "listening", START))
    }

    /// Starts the proxy in front of the backend application.
    pub(crate) fn proxy(&self, settings: &[(&str, &str)]) -> Proxy {
        Proxy::start(self.address(), settings)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Returns whether Node and the required packages are installed.
pub(crate) fn has_node() -> bool {
    let has_packages = folder().join("node_modules").exists();
    assert!(
        has_packages || std::env::var_os("TEST_REQUIRE_COUNTERPARTS").is_none(),
        "the packages of tests/clients are required and not installed"
    );
    if !has_packages {
        eprintln!("skipped: the packages of tests/clients are not installed (npm ci)");
    }
    has("node") && has_packages
}

pub(crate) fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(folder().join(script));
    command
}

/// Runs a command, panics if it fails, and returns its output.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    assert!(output.status.success(), "{command:?}: {out}\n{error}");
    out
}

/// Returns settings for TLS with a local certificate authority.
pub(crate) fn tls(folder: &TempDir) -> [(&str, &str); 3] {
    [("RPROXY_TLS_LOCAL", "true"), ("RPROXY_TLS_CACHE_DIR", folder.path().to_str().unwrap()), ("RPROXY_HTTP_PORT", "0")]
}

#[test]
fn npm_ws_and_pypi_websockets_exchange_messages_in_both_tunnel_modes_and_over_tls() {
    if !has_node() {
        return;
    }
    let has_python = {
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", "import websockets"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let authority = tempfile::tempdir().unwrap();
    let application = Application::start("server.mjs", &[]);
    let by_message = ("RPROXY_WS_MAX_MESSAGE", "5MiB");
    let over_tls = tls(&authority);
    for (scheme, settings, compressed) in [
        ("ws", vec![], "permessage-deflate"),
        ("ws", vec![by_message], ""),
        ("wss", over_tls.to_vec(), "permessage-deflate"),
        ("wss", [&over_tls[..], &[by_message]].concat(), ""),
    ] {
        let proxy = application.proxy(&settings);
        let url = format!("{scheme}://localhost:{}/ws", proxy.address.port());
        // In message mode, no extension is negotiated.
        assert_eq!(run(node("ws.mjs").arg(&url)), format!("[\"\",\"{compressed}\"]"), "{settings:?}");
        if has_python {
            run(Command::new("/usr/bin/python3").arg(folder().join("websockets_client.py")).arg(&url));
        }
    }
}

#[test]
fn socket_io_upgrades_from_polling_to_websocket() {
    if !has_node() {
        return;
    }
    let authority = tempfile::tempdir().unwrap();
    let application = Application::start("socketio-server.mjs", &[]);
    for (scheme, settings) in
        [("http", &[][..]), ("http", &[("RPROXY_WS_MAX_MESSAGE", "1MiB")]), ("https", &tls(&authority)[..])]
    {
        let proxy = application.proxy(settings);
        let url = format!("{scheme}://localhost:{}", proxy.address.port());
        assert_eq!(run(node("socketio.mjs").arg(&url)), "polling, then websocket");
    }
}

#[test]
fn killed_backend_ends_the_websocket_of_a_sending_client() {
    if !has_node() {
        return;
    }
    let mut application = Application::start("server.mjs", &[]);
    let proxy = application.proxy(&[]);
    let mut client = connect(proxy.address);
    let handshake = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(handshake.as_bytes()).unwrap();
    assert!(read_head(&mut client).unwrap().starts_with("HTTP/1.1 101 "));
    let mut sender = client.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let messages = b"\x82\x84\0\0\0\0....".repeat(1000);
        while sender.write_all(&messages).is_ok() {}
    });
    client.read_exact(&mut [0; 6000]).unwrap();
    // Unread bytes make the system reset the connections.
    application.child.kill().unwrap();
    let began = Instant::now();
    std::io::copy(&mut client, &mut std::io::sink()).unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    client.shutdown(Shutdown::Both).unwrap();
    sending.join().unwrap();
}

/// Creates a site for the Vite development server: a page with one module.
fn site() -> TempDir {
    let site = tempfile::tempdir().unwrap();
    let page = "<!doctype html><script type=\"module\" src=\"/main.js\"></script>";
    std::fs::write(site.path().join("index.html"), page).unwrap();
    let module = "if (import.meta.hot) import.meta.hot.accept();\nexport const version = 1;\n";
    std::fs::write(site.path().join("main.js"), module).unwrap();
    site
}

#[test]
fn vite_hot_reload_reaches_the_client() {
    if !has_node() {
        return;
    }
    let (authority, site) = (tempfile::tempdir().unwrap(), site());
    let application = Application::start("vite-server.mjs", &[site.path().to_str().unwrap()]);
    for (scheme, settings) in [("http", &[][..]), ("https", &tls(&authority)[..])] {
        let proxy = application.proxy(settings);
        let url = format!("{scheme}://localhost:{}", proxy.address.port());
        let output = run(node("vite.mjs").arg(&url).arg(site.path().join("main.js")));
        assert!(output.starts_with("connected"), "{output}");
    }
}

/// A headless Chromium process with a new profile.
pub(crate) struct Browser {
    child: Child,
    _profile: TempDir,
}

impl Browser {
    pub(crate) fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let child = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            // Chromium does not trust the local authority.
            .arg("--ignore-certificate-errors")
            // Allows a popup without a click.
            .arg("--disable-popup-blocking")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn chromium_opens_a_websocket_over_http2() {
    if !has_node() || !has("chromium") {
        return;
    }
    for mode in [("RPROXY_WS_IDLE_TIMEOUT", "10m"), ("RPROXY_WS_MAX_MESSAGE", "2MiB")] {
        let authority = tempfile::tempdir().unwrap();
        let application = Application::start("server.mjs", &[]);
        let proxy = application.proxy(&[&tls(&authority)[..], &[("RPROXY_ACCESS_LOG", "json"), mode]].concat());
        let _browser = Browser::open(&format!("https://localhost:{}/", proxy.address.port()));
        let result = wait_for_within(&application.lines, "result ", START);
        let extensions = if mode.0.ends_with("MESSAGE") { "" } else { "permessage-deflate" };
        let expected = serde_json::json!({
            "found": { "code": 4001, "reason": "bye", "wasClean": true, "protocol": "echo", "extensions": extensions },
            "page": "h2",
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&result["result ".len()..]).unwrap(), expected);
        // RFC 8441: on the connection of the page.
        let line: serde_json::Value = serde_json::from_str(&proxy.wait_for_output("\"websocket\":{")).unwrap();
        assert_eq!((&line["method"], &line["protocol"]), (&"CONNECT".into(), &"HTTP/2.0".into()));
        assert_eq!(
            (&line["websocket"]["closed_by"], &line["websocket"]["close_code"]),
            (&"upstream".into(), &4001.into())
        );
    }
}
