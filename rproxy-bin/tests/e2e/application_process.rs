//! Tests of the applications that rproxy starts: `rproxy -- COMMAND`, and `command` of a site.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::running::rproxy;
use crate::support::{Proxy, TIMEOUT, connect, free_port, get, has, read_response};

/// A server that responds with its process ID, and obeys paths: /crash, /exit0, /slow, /env. It prints the signals that it
/// gets.
const SERVER: &str = r#"
import http.server, os, signal, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A response is a single write: a crash between the head and the body cannot be hidden.
    wbufsize = -1
    def do_GET(self):
        if self.path == "/crash":
            os._exit(3)
        if self.path == "/exit0":
            os._exit(0)
        if self.path == "/slow":
            print("slow request", flush=True)
            time.sleep(1)
        body = str(os.getpid())
        if self.path == "/env":
            body = " ".join(sorted(os.environ))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *args):
        pass
def report(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM:
        os._exit(0)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, report)
time.sleep(float(os.environ.get("START_DELAY", "0")))
print("listening on", os.environ["PORT"], flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// Starts the proxy with [`SERVER`] as its application, on a free port.
fn start(settings: &[(&str, &str)]) -> Option<Proxy> {
    if !has("python3") {
        return None;
    }
    let (path, upstream) = (std::env::var("PATH").unwrap(), format!("127.0.0.1:{}", free_port()));
    let mut all = vec![("PATH", &*path), ("RPROXY_LISTEN", "127.0.0.1:0"), ("RPROXY_UPSTREAM", &*upstream)];
    all.extend(settings);
    Some(Proxy::run(&["--", "python3", "-u", "-c", SERVER], &all))
}

fn body(proxy: &Proxy, path: &str) -> (u16, String) {
    let response = get(proxy.address, path);
    (response.status, response.body)
}

fn is_running(pid: &str) -> bool {
    // A zombie is not running.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn wait_for_end(pid: &str) {
    let deadline = Instant::now() + TIMEOUT;
    while is_running(pid) {
        assert!(Instant::now() < deadline, "process {pid} still runs");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn first_request_waits_for_the_application_and_its_output_is_passed_through() {
    let Some(mut proxy) = start(&[("START_DELAY", "0.5")]) else { return };
    // The listener is bound before the application starts.
    let (status, pid) = body(&proxy, "/");
    assert_eq!(status, 200);
    proxy.wait_for_output("listening on");
    proxy.wait_for_log("the application accepts connections");
    let (_, names) = body(&proxy, "/env");
    let names: Vec<&str> = names.split(' ').collect();
    assert!(names.contains(&"PORT") && names.contains(&"START_DELAY"), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("RPROXY_")), "settings can contain secrets: {names:?}");
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0));
    proxy.wait_for_output("got SIGTERM");
    assert!(!is_running(&pid));
}

#[test]
fn proxy_is_not_ready_before_the_application() {
    let admin = format!("127.0.0.1:{}", free_port());
    let Some(proxy) = start(&[("START_DELAY", "0.7"), ("RPROXY_ADMIN_LISTEN", &admin)]) else { return };
    let head = format!("GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    let readiness = || crate::support::request(admin.parse().unwrap(), &head).status;
    assert_eq!(readiness(), 503);
    // It waits for the application.
    assert_eq!(body(&proxy, "/").0, 200);
    let deadline = Instant::now() + TIMEOUT;
    while readiness() != 200 {
        assert!(Instant::now() < deadline, "{}", proxy.log());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn crash_of_the_application_is_not_a_single_502() {
    let Some(mut proxy) = start(&[("RPROXY_RATE_LIMIT", "1000000")]) else { return };
    let (_, first) = body(&proxy, "/");
    let (ended, failed) = (Arc::new(AtomicBool::default()), Arc::new(AtomicUsize::default()));
    let sent = Arc::new(AtomicUsize::default());
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (ended, failed, sent) = (Arc::clone(&ended), Arc::clone(&failed), Arc::clone(&sent));
            let address = proxy.address;
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    failed.fetch_add(usize::from(get(address, "/").status != 200), Ordering::Relaxed);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for restart in 1..=3 {
        // A request is sent again once, so the next crash must not affect the same requests.
        let (before, deadline) = (sent.load(Ordering::Relaxed), Instant::now() + TIMEOUT);
        while sent.load(Ordering::Relaxed) < before + 20 {
            assert!(Instant::now() < deadline, "{}", proxy.log());
            thread::sleep(Duration::from_millis(2));
        }
        let (_, pid) = body(&proxy, "/");
        assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        proxy.wait_for_logs("starting it again", restart);
        proxy.wait_for_logs("the application accepts connections", restart + 1);
    }
    ended.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(failed.load(Ordering::Relaxed), 0, "of {sent:?} requests");
    let (status, second) = body(&proxy, "/");
    assert!(status == 200 && first != second);
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn requests_in_flight_finish_before_the_application_is_stopped() {
    let Some(mut proxy) = start(&[]) else { return };
    let (_, pid) = body(&proxy, "/");
    let mut client = connect(proxy.address);
    std::io::Write::write_all(&mut client, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    // The request is in the application.
    proxy.wait_for_output("slow request");
    proxy.signal("TERM");
    assert_eq!(read_response(&mut client).unwrap().status, 200);
    assert_eq!(proxy.wait().code(), Some(0));
    wait_for_end(&pid);
}

#[test]
fn exits_with_the_status_of_an_application_that_is_not_restarted() {
    for (restart, path, code) in [("never", "/crash", 3), ("on-failure", "/exit0", 0)] {
        let Some(mut proxy) = start(&[("RPROXY_COMMAND_RESTART", restart), ("RPROXY_UPSTREAM_HOLD", "0s")]) else {
            return;
        };
        proxy.wait_for_log("the application accepts connections");
        assert_eq!(body(&proxy, path).0, 502);
        assert_eq!(proxy.wait().code(), Some(code), "{}", proxy.log());
        assert!(proxy.log().contains(&format!("exited with status {code}, stopping")), "{}", proxy.log());
    }
}

#[test]
fn application_that_never_accepts_a_connection_ends_the_proxy() {
    let upstream = format!("127.0.0.1:{}", free_port());
    let path = std::env::var("PATH").unwrap();
    let settings = [("PATH", &*path), ("RPROXY_LISTEN", "127.0.0.1:0"), ("RPROXY_UPSTREAM", &*upstream)];
    for (command, code) in [
        (&["--", "sh", "-c", "exit 7"][..], 7),
        (&["--", "sh", "-c", "kill -KILL $$"], 137),
        (&["--", "/no/such program", "a"], 127),
        (&["--", "/"], 126),
    ] {
        let (found, _, log) = rproxy(command, &settings);
        assert_eq!(found, Some(code), "{log}");
        assert!(log.contains("the application `"), "{log}");
    }
}

#[test]
fn signals_are_forwarded_and_a_reload_leaves_the_application_running() {
    let Some(mut proxy) = start(&[]) else { return };
    let (_, pid) = body(&proxy, "/");
    for signal in ["USR1", "USR2"] {
        proxy.signal(signal);
        proxy.wait_for_output(&format!("got SIG{signal}"));
    }
    proxy.signal("HUP");
    proxy.wait_for_log("configuration reloaded");
    assert_eq!(body(&proxy, "/"), (200, pid.clone()));
    assert!(proxy.outputs("got SIGHUP").is_empty());
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0));
    wait_for_end(&pid);
}

#[test]
fn application_that_ignores_sigterm_is_killed_with_its_children() {
    let (path, upstream) = (std::env::var("PATH").unwrap(), format!("127.0.0.1:{}", free_port()));
    // The child has the process ID in its output, and also ignores the signal.
    let script = "trap '' TERM; sleep 1000 & echo child $! ; wait; wait; sleep 1000";
    let settings = [
        ("PATH", &*path),
        ("RPROXY_LISTEN", "127.0.0.1:0"),
        ("RPROXY_UPSTREAM", &*upstream),
        ("RPROXY_COMMAND_STOP_TIMEOUT", "300ms"),
        ("RPROXY_DRAIN_TIMEOUT", "1s"),
    ];
    let mut proxy = Proxy::run(&["--", "sh", "-c", script], &settings);
    let line = proxy.wait_for_output("child ");
    let child = line.split(' ').nth(1).unwrap().to_owned();
    assert!(is_running(&child));
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(proxy.log().contains("did not exit within RPROXY_COMMAND_STOP_TIMEOUT"), "{}", proxy.log());
    wait_for_end(&child);
}

#[test]
fn sites_start_applications_from_the_file() {
    if !has("python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (script, config) = (folder.path().join("server.py"), folder.path().join("rproxy.toml"));
    std::fs::write(&script, SERVER).unwrap();
    let ports = [free_port(), free_port()];
    let site = |host: &str, port: u16| {
        let script = script.display();
        format!(
            "[[site]]\nhosts = \"{host}.test\"\nupstream = \"127.0.0.1:{port}\"\ncommand = \"python3 -u '{script}' {host}\"\n"
        )
    };
    std::fs::write(&config, format!("{}{}", site("a", ports[0]), site("b", ports[1]))).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut proxy = Proxy::run(&["--config", config.to_str().unwrap(), "--listen", "127.0.0.1:0"], &[("PATH", &*path)]);
    let pid_of = |host: &str| {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}.test\r\nConnection: close\r\n\r\n");
        let response = crate::support::request(proxy.address, &head);
        assert_eq!(response.status, 200);
        response.body
    };
    let pids = [pid_of("a"), pid_of("b")];
    assert_ne!(pids[0], pids[1]);
    // The application still listens on its former port, so that it would get no more requests.
    std::fs::write(&config, format!("{}{}", site("a", free_port()), site("b", ports[1]))).unwrap();
    proxy.signal("HUP");
    let line = proxy.wait_for_log("reload failed, keeping the current configuration");
    assert!(line.contains("restart rproxy to apply this"), "{line}");
    assert_eq!([pid_of("a"), pid_of("b")], pids);
    // Another command has no effect before a restart.
    let other = site("b", ports[1]).replace("python3 -u", "python3 -u -B");
    std::fs::write(&config, format!("{}{other}", site("a", ports[0]))).unwrap();
    proxy.signal("HUP");
    let line = proxy.wait_for_log("restart required to apply");
    assert!(line.to_lowercase().contains("command"), "{line}");
    assert_eq!(pid_of("b"), pids[1]);
    proxy.signal("TERM");
    assert_eq!(proxy.wait().code(), Some(0));
    pids.iter().for_each(|pid| wait_for_end(pid));
}

#[test]
fn reports_an_upstream_that_no_application_can_have() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (upstream, code, message) in [
        ("192.0.2.1:3000", 1, "requires an RPROXY_UPSTREAM on this machine"),
        (&*taken, 1, "another process does; stop it, or set RPROXY_UPSTREAM to another port"),
    ] {
        let (found, _, log) =
            rproxy(&["--", "true"], &[("RPROXY_LISTEN", "127.0.0.1:0"), ("RPROXY_UPSTREAM", upstream)]);
        assert_eq!(found, Some(code), "{log}");
        assert!(log.contains(message), "{log}");
    }
    let (found, _, log) = rproxy(&["--handover-socket", "/tmp/none.sock", "--", "true"], &[]);
    assert_eq!(found, Some(2), "{log}");
    assert!(log.contains("the new process would start the application again"), "{log}");
    let (found, out, log) = rproxy(&["--check", "--", "node", "my server.js"], &[]);
    assert_eq!(found, Some(0), "{log}");
    assert!(out.contains("Application      node 'my server.js'") && out.contains("upstream_hold"), "{out}");
}
