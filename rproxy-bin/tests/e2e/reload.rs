//! Tests of settings outside of the layers that a reload applies.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use tempfile::TempDir;

use super::support::upstream::echo;
use super::support::{Proxy, connect, curl, free_port, get, request};

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
    assert!(error.contains("RPROXY_ADMIN_LISTEN: can't listen on 127.0.0.1:"), "{error}");
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

/// Waits until the old listener no longer accepts connections.
///
/// Its worker closes the listener when it starts to drain.
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
