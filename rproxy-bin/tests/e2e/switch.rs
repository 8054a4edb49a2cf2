//! Tests of the switch of upstreams by the admin listener and by the command line.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

use tempfile::TempDir;

use crate::support::upstream::{ok, read_head, responding, scripted};
use crate::support::{Proxy, TIMEOUT, connect, curl, free_port, read_response, read_to_end, request};

/// A proxy with an admin listener, and the file of its configuration.
struct Switched {
    _folder: TempDir,
    file: PathBuf,
    admin: SocketAddr,
    proxy: Proxy,
}

impl Switched {
    fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, admin) = (folder.path().join("rproxy.toml"), SocketAddr::from(([127, 0, 0, 1], free_port())));
        fs::write(&file, Self::text(admin, settings)).unwrap();
        let proxy = Proxy::run(&["--config", file.to_str().unwrap()], &[]);
        Self { _folder: folder, file, admin, proxy }
    }

    fn text(admin: SocketAddr, settings: &str) -> String {
        format!("listen = '127.0.0.1:0'\nadmin_listen = '{admin}'\nworkers = 2\nlog_level = 'info'\n{settings}")
    }

    fn reload(&self, settings: &str, number: usize) {
        fs::write(&self.file, Self::text(self.admin, settings)).unwrap();
        self.proxy.signal("HUP");
        self.proxy.wait_for_logs("configuration reloaded", number);
    }

    /// Sends a POST request to the admin listener, and returns the status and the body.
    fn post(&self, query: &str) -> (u16, String) {
        post(self.admin, query, "")
    }

    fn upstreams(&self) -> String {
        curl(&[&format!("http://{}/upstream", self.admin)])
    }

    fn get(&self, host: &str) -> String {
        get(self.proxy.address, host, "/")
    }

    /// Runs `rproxy switch` with these arguments.
    fn command(&self, arguments: &[&str]) -> Output {
        let command = ["--config", self.file.to_str().unwrap(), "switch"];
        Command::new(env!("CARGO_BIN_EXE_rproxy")).env_clear().args(command).args(arguments).output().unwrap()
    }
}

fn post(admin: SocketAddr, query: &str, fields: &str) -> (u16, String) {
    let head = format!(
        "POST /upstream?{query} HTTP/1.1\r\nhost: localhost\r\n{fields}content-length: 0\r\nconnection: close\r\n\r\n"
    );
    let response = request(admin, &head);
    (response.status, response.body)
}

fn get(address: SocketAddr, host: &str, target: &str) -> String {
    request(address, &format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).body
}

fn answering(text: &'static str) -> SocketAddr {
    responding(move |_| ok(text))
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until a condition is true.
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn switches_when_the_new_backend_is_healthy() {
    let (old, requests) = (answering("old"), Arc::<AtomicUsize>::default());
    let counter = Arc::clone(&requests);
    // Starting for three health checks.
    let new = responding(move |head| match head.starts_with("GET /healthz ") && counter.fetch_add(1, SeqCst) < 3 {
        true => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned(),
        false => ok("new"),
    });
    let settings = format!("upstream = '{old}'\nupstream_health_path = '/healthz'\nupstream_health_interval = '1h'\n");
    let proxy = Switched::start(&settings);
    assert_eq!(proxy.get("a.example"), "old");
    let (status, body) = proxy.post(&format!("site=default&set={new}"));
    assert_eq!(status, 200, "{body}");
    let expected =
        format!(r#""backends":[{{"backend":"http://{new}","healthy":true,"in_flight":0}}],"drained":0,"drained_ms":"#);
    assert!(body.contains(&expected) && body.contains(&format!(r#""removed":["http://{old}"]"#)), "{body}");
    assert!(requests.load(SeqCst) >= 4);
    assert_eq!(proxy.get("a.example"), "new");
    proxy.proxy.wait_for_log("upstream switched to http://");
    let status = proxy.upstreams();
    assert!(status.contains(&format!(r#""switched_from":"http://{old}""#)), "{status}");
    assert!(status.contains(r#""sites":[{"route":"","site":"default"}]"#), "{status}");
    let metrics = curl(&[&format!("http://{}/metrics", proxy.admin)]);
    assert!(metrics.contains("rproxy_upstream_switches_total{outcome=\"switched\"} 1\n"), "{metrics}");
}

#[test]
fn nothing_changes_if_the_new_backend_is_not_healthy_within_the_deadline() {
    let (old, closed) = (answering("old"), SocketAddr::from(([127, 0, 0, 1], free_port())));
    let proxy = Switched::start(&format!("upstream = '{old}'\n"));
    let (status, body) = proxy.post(&format!("set={old},{closed}&deadline=100ms"));
    assert_eq!(status, 504, "{body}");
    assert!(body.starts_with(&format!("the backend http://{closed} is not healthy after 100ms: ")), "{body}");
    assert!(body.contains("refused"), "{body}");
    assert_eq!(proxy.get("a.example"), "old");
    assert!(proxy.upstreams().contains(r#""switched_from":null"#), "{}", proxy.upstreams());
    proxy.proxy.wait_for_log("upstream is not switched: ");
    let metrics = curl(&[&format!("http://{}/metrics", proxy.admin)]);
    assert!(metrics.contains("rproxy_upstream_switches_total{outcome=\"unhealthy\"} 1\n"), "{metrics}");
    let output = proxy.command(&["--deadline", "50ms", &closed.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.starts_with("not switched: the backend http://"), "{error}");
}

#[test]
fn response_waits_for_requests_in_flight_to_the_former_backend() {
    let release = Arc::<AtomicBool>::default();
    let released = Arc::clone(&release);
    let old = scripted(move |mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nol").unwrap();
        wait_until("the release", || released.load(SeqCst));
        stream.write_all(b"d.").unwrap();
    });
    let new = answering("new");
    let proxy = Switched::start(&format!("upstream = '{old}'\n"));
    let mut client = connect(proxy.proxy.address);
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut head = [0; 12];
    client.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    assert!(proxy.upstreams().contains(r#""in_flight":1"#), "{}", proxy.upstreams());

    // The deadline of the first switch ends before the request does.
    let output = proxy.command(&["--deadline", "200ms", &new.to_string()]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains(&format!("switched default to http://{new}\n")), "{text}");
    assert!(text.ends_with("1 requests are still in flight there: do not stop these backends yet\n"), "{text}");
    assert_eq!(proxy.get("a.example"), "new");
    // Back and forth: the request is one of a former backend again, and the response waits for it.
    assert_eq!(proxy.post(&format!("set={new},{old}&deadline=10s")).0, 200);
    release.store(true, SeqCst);
    assert!(read_to_end(&mut client).ends_with("\r\n\r\nold."));
}

#[test]
fn second_switch_of_a_site_is_rejected_until_the_first_has_ended() {
    let (old, new) = (answering("old"), answering("new"));
    let (started, release) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let flags = (Arc::clone(&started), Arc::clone(&release));
    let slow = responding(move |_| {
        flags.0.store(true, SeqCst);
        wait_until("the release", || flags.1.load(SeqCst));
        ok("slow")
    });
    let site = |host: &str, path: &str| {
        format!(
            "[[site]]\nhosts = '{host}'\nupstream = '{old}'\nupstream_health_path = '{path}'\nupstream_health_interval = '1h'\n"
        )
    };
    let proxy = Switched::start(&format!("{}{}", site("a.example", "/a"), site("b.example", "/b")));
    let admin = proxy.admin;
    let first = thread::spawn(move || post(admin, &format!("site=a.example&set={slow}"), ""));
    wait_until("the first health check", || started.load(SeqCst));
    let (status, body) = proxy.post(&format!("site=a.example&set={new}"));
    assert_eq!((status, &*body), (409, "another switch of this upstream is in progress\n"));
    // Another site is independent.
    assert_eq!(proxy.post(&format!("site=b.example&set={new}")).0, 200);
    release.store(true, SeqCst);
    assert_eq!(first.join().unwrap().0, 200);
    assert_eq!((&*proxy.get("a.example"), &*proxy.get("b.example")), ("slow", "new"));
    assert_eq!(proxy.post(&format!("site=a.example&set={new}")).0, 200);
}

#[test]
fn reload_keeps_switched_backends_until_the_setting_changes() {
    let (old, new, file) = (answering("old"), answering("new"), answering("file"));
    let proxy = Switched::start(&format!("upstream = '{old}'\n"));
    assert_eq!(proxy.post(&format!("set={new}")).0, 200);
    proxy.reload(&format!("upstream = '{old}'\nmax_body = 5\n"), 1);
    assert_eq!(proxy.get("a.example"), "new", "the upstream is the same");
    proxy.proxy.wait_for_logs("keeping the switched upstream http://", 1);
    proxy.reload(&format!("upstream = '{old}'\nupstream_timeout = '9s'\n"), 2);
    assert_eq!(proxy.get("a.example"), "new", "only another setting has changed");
    proxy.proxy.wait_for_logs("keeping the switched upstream http://", 2);
    proxy.reload(&format!("upstream = '{file}'\nupstream_timeout = '9s'\n"), 3);
    assert_eq!(proxy.get("a.example"), "file");
    proxy.proxy.wait_for_log("the setting replaces the switched upstream: http://");
    assert!(proxy.upstreams().contains(r#""switched_from":null"#), "{}", proxy.upstreams());
    // A restart uses the setting.
    assert_eq!(proxy.post(&format!("set={new}")).0, 200);
    proxy.proxy.signal("TERM");
    let line = proxy.proxy.wait_for_log("the next process does not use the switched upstream");
    assert!(line.contains(&format!("but the setting: http://{file}")), "{line}");
}

#[test]
fn routes_without_an_upstream_follow_their_site_and_shared_upstreams_need_consent() {
    let (old, own, new) = (answering("old"), answering("own"), answering("new"));
    let settings = format!(
        "[[site]]\nhosts = 'a.example, www.a.example'\nupstream = '{old}'\n\
         [[site.route]]\npaths = '/follows/**'\nmax_body = 5\n\
         [[site.route]]\npaths = '/own/**'\nupstream = '{own}'\n\
         [[site]]\nhosts = 'b.example'\nupstream = '{old}'\n\
         [[site]]\nhosts = 'c.example'\nredirect = 'https://a.example'\n"
    );
    let proxy = Switched::start(&settings);
    let bodies = || {
        let of = |host: &str, target: &str| get(proxy.proxy.address, host, target);
        [of("a.example", "/"), of("a.example", "/follows/1"), of("a.example", "/own/1"), of("b.example", "/")]
    };
    assert_eq!(bodies(), ["old", "old", "own", "old"]);
    let (status, body) = proxy.post(&format!("site=a.example&set={new}"));
    assert_eq!(status, 409);
    assert_eq!(body, "the upstream is also that of b.example; to switch all of them, add shared=true\n");
    let output = proxy.command(&["--site", "WWW.a.example", "--shared", &new.to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout(&output).starts_with("switched a.example, b.example to http://"), "{}", stdout(&output));
    assert_eq!(bodies(), ["new", "new", "own", "new"]);
    assert_eq!(proxy.post(&format!("site=a.example&route=/own/**&set={new}")).0, 200);
    assert_eq!(bodies(), ["new"; 4]);
    let (status, body) = proxy.post(&format!("site=c.example&set={new}"));
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("has no upstream"), "{body}");
    assert!(!proxy.upstreams().contains("c.example"), "{}", proxy.upstreams());
}

#[test]
fn admin_listener_rejects_invalid_switches() {
    let old = answering("old");
    let proxy = Switched::start(&format!("upstream = '{old}'\n"));
    let (listener, admin) = (proxy.proxy.address, proxy.admin);
    let many = (1..=101).map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    for (query, status, reason) in [
        ("site=default".to_owned(), 400, "the request has no parameter set"),
        (format!("site=x.example&set={old}"), 400, "unknown site \"x.example\""),
        (format!("route=/x&site=default&set={old}"), 400, "no route \"/x\""),
        ("set=ftp://a".to_owned(), 400, "unknown scheme"),
        ("set=user:pw@a:1".to_owned(), 400, "user name"),
        (format!("set={old}&set={old}"), 400, "the parameter set is repeated"),
        (format!("set={old}&deadline=2h"), 400, "the deadline is longer than an hour"),
        (format!("set={old}&deadline=0"), 400, "must be longer than 0"),
        (format!("set={old}&sites=a"), 400, "unknown parameter \"sites\""),
        (format!("set={many}"), 400, "more than 100 backends"),
        (format!("set={admin}"), 400, "is a listener of this proxy: requests would loop"),
    ] {
        let (got, body) = proxy.post(&query);
        assert!(got == status && body.contains(reason), "{query}: {got} {body}");
    }
    assert_ne!(listener.port(), 0);
    let (status, _) = post(admin, &format!("set={old}"), "origin: http://evil.example\r\n");
    assert_eq!(status, 403);
    let output = proxy.command(&["ftp://a"]);
    assert_eq!(output.status.code(), Some(2), "a usage error");
    assert_eq!(proxy.get("a.example"), "old");
}

#[test]
fn websockets_to_former_backends_are_closed_for_a_restart() {
    let tunnel = scripted(|mut stream| {
        read_head(&mut stream);
        let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let proxy = Switched::start(&format!("upstream = '{tunnel}'\n"));
    let mut client = connect(proxy.proxy.address);
    client
        .write_all(
            b"GET /ws HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    assert_eq!(read_response(&mut client).unwrap().status, 101);
    assert_eq!(proxy.post(&format!("set={}&deadline=5s", answering("new"))).0, 200);
    let mut frame = [0; 4];
    client.read_exact(&mut frame).unwrap();
    // A Close frame with 1012 (service restart).
    assert_eq!((frame[0], u16::from_be_bytes([frame[2], frame[3]])), (0x88, 1012));
}

#[test]
fn no_request_fails_while_the_upstream_is_switched_back_and_forth_under_load() {
    let backends = [answering("x"), answering("x")];
    let proxy = Switched::start(&format!("upstream = '{}'\n", backends[0]));
    let (done, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (done, served, address) = (Arc::clone(&done), Arc::clone(&served), proxy.proxy.address);
            thread::spawn(move || {
                let mut stream = connect(address);
                while !done.load(SeqCst) {
                    stream.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
                    let response = read_response(&mut stream).unwrap();
                    assert_eq!((response.status, &*response.body), (200, "x"));
                    served.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for switch in 1..=10 {
        let before = served.load(SeqCst);
        let (status, body) = proxy.post(&format!("set={}", backends[switch % 2]));
        assert_eq!(status, 200, "{body}");
        wait_until("requests between the switches", || served.load(SeqCst) > before + 20);
    }
    done.store(true, SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
}

#[test]
fn command_needs_the_address_of_a_running_proxy() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_rproxy")).env_clear().arg("switch").args(arguments).output().unwrap()
    };
    let output = run(&["127.0.0.1:3001"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no admin listener"));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(&["--admin", &closed.to_string(), "127.0.0.1:3001"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.starts_with(&format!("cannot send the request to the admin listener http://{closed}: ")), "{error}");
}
