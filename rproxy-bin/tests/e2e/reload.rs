//! Tests of settings outside of the layers that a reload applies.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::support::upstream::{echo, ok, read_head, responding, scripted};
use super::support::{
    Proxy, TIMEOUT, address_in, collect, connect, curl, free_port, get, read_response, request, wait_for,
};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";

/// A proxy whose configuration file is changed by a test.
struct Reloaded {
    _folder: TempDir,
    file: PathBuf,
    upstream: SocketAddr,
    proxy: Proxy,
    reloads: usize,
}

impl Reloaded {
    fn start(settings: &str) -> Self {
        let (folder, upstream) = (tempfile::tempdir().unwrap(), echo());
        let file = folder.path().join("rproxy.toml");
        let cache_dir = folder.path().join("certificates");
        fs::write(&file, Self::text(upstream, settings)).unwrap();
        let settings = [("RPROXY_TLS_CACHE_DIR", cache_dir.to_str().unwrap())];
        let proxy = Proxy::run(&["--config", file.to_str().unwrap()], &settings);
        Self { _folder: folder, file, upstream, proxy, reloads: 0 }
    }

    fn text(upstream: SocketAddr, settings: &str) -> String {
        format!("listen = \"127.0.0.1:0\"\nupstream = \"{upstream}\"\n{settings}\n")
    }

    fn reload(&mut self, settings: &str) {
        self.reloads += 1;
        self.signal(settings);
        self.proxy.wait_for_logs("configuration reloaded", self.reloads);
    }

    fn signal(&self, settings: &str) {
        fs::write(&self.file, Self::text(self.upstream, settings)).unwrap();
        self.proxy.signal("HUP");
    }
}

#[test]
fn reload_opens_moves_and_closes_the_admin_listener() {
    let mut proxy = Reloaded::start("");
    let [one, other] = [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    proxy.reload(&format!("admin_listen = \"{one}\""));
    assert_eq!(request(one, HEALTH).status, 200);
    assert!(curl(&[&format!("http://{one}/metrics")]).contains("rproxy_connections"));

    let named = "GET /healthz HTTP/1.1\r\nHost: rproxy.internal\r\nConnection: close\r\n\r\n";
    assert_eq!(request(one, named).status, 421);
    proxy.reload(&format!("admin_listen = \"{one}\"\nadmin_hosts = \"rproxy.internal\""));
    assert_eq!(request(one, named).status, 200);

    proxy.reload(&format!("admin_listen = \"{other}\"\nadmin_hosts = \"rproxy.internal\""));
    assert_eq!(request(other, named).status, 200);
    wait_until_closed(one);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.signal(&format!("admin_listen = \"{}\"\nblocked_paths = \"/a\"", taken.local_addr().unwrap()));
    let error = proxy.proxy.wait_for_log("reload failed");
    assert!(error.contains("RPROXY_ADMIN_LISTEN: cannot listen on 127.0.0.1:"), "{error}");
    assert_eq!(
        (request(other, named).status, get(proxy.proxy.address, "/a").status),
        (200, 200),
        "nothing has changed"
    );

    proxy.reload("");
    wait_until_closed(other);
    assert!(!proxy.proxy.log().contains("restart required"), "{}", proxy.proxy.log());
}

#[test]
fn overlapping_admin_listener_address_requires_a_restart() {
    let port = free_port();
    let mut proxy = Reloaded::start(&format!("admin_listen = \"127.0.0.1:{port}\""));
    proxy.reload(&format!("admin_listen = \"0.0.0.0:{port}\""));
    let warning = proxy.proxy.wait_for_log("restart required");
    assert!(warning.ends_with(": RPROXY_ADMIN_LISTEN"), "{warning}");
    assert_eq!(request(SocketAddr::from(([127, 0, 0, 1], port)), HEALTH).status, 200);
}

#[test]
fn failed_reload_changes_no_state_of_the_configuration_in_use() {
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let settings = |admin: SocketAddr, host: &str, size: &str| {
        format!(
            "admin_listen = \"{admin}\"\ncache_paths = \"/**\"\ncache_size = \"{size}\"\n[[site]]\nhosts = \"{host}\"\n"
        )
    };
    let proxy = Reloaded::start(&settings(admin, "a.example", "2MiB"));
    let used = TcpListener::bind("127.0.0.1:0").unwrap();
    // The address in use is found last, after the new sites and the new cache were built.
    proxy.signal(&settings(used.local_addr().unwrap(), "b.example", "1MiB"));
    proxy.proxy.wait_for_logs("reload failed", 1);
    let purge = |site: &str| curl(&["-X", "POST", &format!("http://{admin}/cache/purge?all&site={site}")]);
    assert!(purge("a.example").contains("purged"), "{}", purge("a.example"));
    assert!(purge("b.example").contains("unknown site"), "{}", purge("b.example"));
}

/// Waits until the old listener no longer accepts connections.
///
/// Its worker closes the listener when it starts to drain.
fn wait_until_closed(address: SocketAddr) {
    let deadline = std::time::Instant::now() + super::support::TIMEOUT;
    while std::net::TcpStream::connect(address).is_ok() {
        assert!(std::time::Instant::now() < deadline, "{address} is still open");
    }
}

#[test]
fn reload_changes_the_request_limits() {
    let mut proxy = Reloaded::start("");
    let long = format!("/{}", "x".repeat(100));
    assert_eq!(get(proxy.proxy.address, &long).status, 200);
    proxy.reload("max_target = 64\nmax_requests = 1");
    assert_eq!(get(proxy.proxy.address, &long).status, 414);
    let mut stream = connect(proxy.proxy.address);
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let response = super::support::read_response(&mut stream).unwrap();
    assert_eq!(response.header("connection"), Some("close"));
    proxy.reload("");
    assert_eq!(get(proxy.proxy.address, &long).status, 200);
}

#[test]
fn reload_changes_the_log_settings() {
    let mut proxy = Reloaded::start("log_level = \"info\"");
    proxy.reload("log_level = \"debug\"\naccess_log = \"text\"\nmax_connections_per_client = 1");
    let first = connect(proxy.proxy.address);
    connect(proxy.proxy.address).read_exact(&mut [0]).unwrap_err();
    drop(first);
    proxy.proxy.wait_for_log("DEBUG");
    proxy.reload("log_level = \"debug\"\naccess_log = \"text\"");
    get(proxy.proxy.address, "/logged");
    proxy.proxy.wait_for_output("/logged");
}

#[test]
fn reload_changes_the_hosts_served_over_tls() {
    let mut proxy = Reloaded::start("tls_local = true\nhttp_port = 0");
    let port = proxy.proxy.address.port();
    let status = || {
        let resolve = format!("a.example:{port}:127.0.0.1");
        let url = format!("https://a.example:{port}/");
        curl(&["-k", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--resolve", &resolve, &url])
    };
    assert_eq!(status(), "421");
    proxy.reload("tls_local = true\nhttp_port = 0\ntls_hosts = \"a.example\"");
    assert_eq!(status(), "200");
    proxy.reload("tls_local = true\nhttp_port = 0\ntls_domains = \"a.example\"");
    assert_eq!(status(), "200");
}

/// Sends a request on a connection that stays open.
fn get_on(stream: &mut std::net::TcpStream, target: &str) -> u16 {
    write!(stream, "GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    read_response(stream).unwrap().status
}

#[test]
fn idle_connections_do_not_hold_the_access_log_writers_of_previous_configurations() {
    let settings = |format: &str| format!("workers = 1\naccess_log = \"{format}\"");
    let mut proxy = Reloaded::start(&settings("json"));
    let mut connections: Vec<_> = (0..40).map(|_| connect(proxy.proxy.address)).collect();
    for (number, stream) in connections.iter_mut().enumerate() {
        assert_eq!(get_on(stream, "/"), 200);
        // Each change starts a writer.
        proxy.reload(&settings(if number % 2 == 0 { "text" } else { "json" }));
    }
    let writers = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", proxy.proxy.pid())).unwrap();
        let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|name| name.trim_end() == "rproxy-log").count()
    };
    let deadline = Instant::now() + TIMEOUT;
    while writers() > 1 {
        assert!(Instant::now() < deadline, "{} writers", writers());
        std::thread::sleep(Duration::from_millis(5));
    }
    for stream in &mut connections {
        assert_eq!(get_on(stream, "/still-open"), 200);
    }
}

#[test]
fn reload_keeps_the_connections_and_health_of_an_unchanged_upstream() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let healthy = scripted(move |mut stream| {
        let mut requests = 0;
        while let Some(head) = read_head(&mut stream) {
            // Each health check has its own connection.
            counter.fetch_add(usize::from(requests == 0 && !head.starts_with("GET /up ")), SeqCst);
            requests += 1;
            stream.write_all(ok("healthy").as_bytes()).unwrap();
        }
    });
    let checks = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&checks);
    let unhealthy = responding(move |head| match head.starts_with("GET /up ") {
        true => {
            counter.fetch_add(1, SeqCst);
            "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_owned()
        }
        false => ok("unhealthy"),
    });
    let settings = |more: &str| {
        format!(
            "workers = 1\ncache_enabled = false\n{more}\n[[site]]\nhosts = \"a.example\"\n\
             upstream = [\"{unhealthy}\", \"{healthy}\"]\nupstream_health_path = \"/up\"\nupstream_health_interval = \"1h\"\n"
        )
    };
    let mut proxy = Reloaded::start(&settings(""));
    proxy.proxy.wait_for_log("health check of the backend failed");
    for (number, more) in ["", "max_body = 1000", "filter_strict = true", ""].into_iter().enumerate() {
        if number > 0 {
            proxy.reload(&settings(more));
        }
        for _ in 0..4 {
            assert_eq!(get(proxy.proxy.address, "/").body, "healthy", "{}", proxy.proxy.log());
        }
    }
    assert_eq!((connections.load(SeqCst), checks.load(SeqCst)), (1, 1));
    // A changed upstream continues the health, before and after its first check.
    proxy.reload(&settings("upstream_timeout = 7"));
    for _ in 0..4 {
        assert_eq!(get(proxy.proxy.address, "/").body, "healthy", "{}", proxy.proxy.log());
    }
}

#[test]
fn reload_reopens_the_admin_listener_at_the_same_address() {
    let mut proxy = Reloaded::start("");
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    for _ in 0..30 {
        proxy.reload(&format!("admin_listen = \"{admin}\""));
        assert_eq!(request(admin, HEALTH).status, 200);
        proxy.reload("");
    }
    assert!(!proxy.proxy.log().contains("reload failed"), "{}", proxy.proxy.log());
}

#[test]
fn stalled_admin_connection_does_not_extend_the_drain_timeout() {
    let upstream = echo();
    for is_reloaded in [false, true] {
        let admin = format!("127.0.0.1:{}", free_port());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rproxy.toml");
        let write = |timeout: u32| {
            let settings = "listen = \"127.0.0.1:0\"\nhead_timeout = \"1m\"";
            let text = format!(
                "{settings}\nupstream = \"{upstream}\"\nadmin_listen = \"{admin}\"\ndrain_timeout = {timeout}\n"
            );
            fs::write(&file, text).unwrap();
        };
        write(if is_reloaded { 30 } else { 1 });
        let mut proxy = Proxy::run(&["--config", file.to_str().unwrap()], &[]);
        if is_reloaded {
            write(1);
            proxy.signal("HUP");
            proxy.wait_for_log("configuration reloaded: changed settings RPROXY_DRAIN_TIMEOUT");
        }
        let mut stalled = connect(admin.parse().unwrap());
        stalled.write_all(b"GET /metrics HTTP/1.1\r\nHost: local").unwrap();
        assert_eq!(request(admin.parse().unwrap(), HEALTH).status, 200);
        let began = Instant::now();
        proxy.signal("TERM");
        assert_eq!(proxy.wait().code(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    }
}

#[test]
fn sighup_during_the_start_leads_to_a_reload_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("rproxy.toml");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child = Command::new(env!("CARGO_BIN_EXE_rproxy"))
        .args(["--config", pipe.to_str().unwrap()])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = collect(child.stderr.take().unwrap());
    let text = format!("listen = \"127.0.0.1:0\"\nupstream = \"{}\"\n", echo());
    // Succeeds when the process reads its configuration, which it does before it is ready.
    let mut config = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    for signal in ["HUP", "USR1", "USR2"] {
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap().success()
        );
    }
    config.write_all(text.as_bytes()).unwrap();
    drop(config);
    let address = address_in(&wait_for(&log, "listening"));
    // The reload reads the configuration again.
    fs::write(&pipe, &text).unwrap();
    wait_for(&log, "configuration reloaded, nothing has changed");
    assert_eq!(get(address, "/").status, 200);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn reload_logs_the_changed_sites_and_settings() {
    let site = |name: &str, more: &str| format!("[[site]]\nhosts = \"{name}\"\n{more}\n");
    let mut proxy = Reloaded::start(&site("a.example", ""));
    for (settings, expected) in [
        (site("a.example", "hsts = false"), "configuration reloaded: changed sites a.example"),
        (site("a.example", "hsts = false"), "configuration reloaded, nothing has changed"),
        (
            format!("max_head = \"8KiB\"\n{}", site("b.example", "")),
            "configuration reloaded: added sites b.example; removed sites a.example; changed settings RPROXY_MAX_HEAD",
        ),
    ] {
        proxy.reload(&settings);
        proxy.proxy.wait_for_log(expected);
    }
}
