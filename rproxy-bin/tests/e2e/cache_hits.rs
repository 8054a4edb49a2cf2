//! Tests of the rate limit for responses that are served from the cache.

use std::io::Write;
use std::net::SocketAddr;

use crate::redis::Server;
use crate::support::upstream::{ok, responding};
use crate::support::{Proxy, connect, read_response_to, request};

const LIMIT: [(&str, &str); 4] = [
    ("RPROXY_RATE_LIMIT", "1/h"),
    ("RPROXY_RATE_BURST", "5"),
    ("RPROXY_TRUSTED_PROXIES", "loopback"),
    // Fills the cache.
    ("RPROXY_RATE_EXEMPT", "192.0.2.0/24"),
];

/// Starts a backend whose responses are cacheable, unless the path contains `private`.
fn backend() -> SocketAddr {
    responding(|head| {
        let policy = if head.contains("private") { "no-store" } else { "max-age=600" };
        let fields = format!("HTTP/1.1 200 OK\r\netag: \"v1\"\r\ncache-control: {policy}\r\n");
        ok("served").replacen("HTTP/1.1 200 OK\r\n", &fields, 1)
    })
}

/// Sends requests on one connection, and returns the response statuses.
fn statuses(proxy: &Proxy, client: &str, paths: impl IntoIterator<Item = String>, fields: &str) -> Vec<u16> {
    let mut stream = connect(proxy.address);
    let mut send = |path: String| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {client}\r\n{fields}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        read_response_to(&mut stream, true).unwrap().status
    };
    paths.into_iter().map(&mut send).collect()
}

fn times(path: &str, count: usize) -> impl Iterator<Item = String> {
    std::iter::repeat_n(path.to_owned(), count)
}

fn files() -> impl Iterator<Item = String> {
    (0..700).map(|number| format!("/static/{number}.js"))
}

fn remaining(proxy: &Proxy, client: &str, path: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {client}\r\nconnection: close\r\n\r\n");
    request(proxy.address, &head).header("ratelimit").unwrap().to_owned()
}

#[test]
fn cache_hits_for_700_files_do_not_exhaust_the_rate_quota() {
    let proxy = Proxy::start(backend(), &LIMIT);
    assert_eq!(statuses(&proxy, "192.0.2.1", files(), ""), [200; 700]);
    let client = "203.0.113.1";
    assert_eq!(statuses(&proxy, client, files(), ""), [200; 700]);
    assert_eq!(statuses(&proxy, client, files().take(50), "if-none-match: \"v1\"\r\n"), [304; 50]);
    assert!(remaining(&proxy, client, "/static/1.js").starts_with("\"default\";r=5;"));
    // Misses and rejected requests count.
    let counted = ["/private", "/.env", "/private", "/static/new.js", "/private", "/private", "/static/1.js"];
    let counted = statuses(&proxy, client, counted.map(str::to_owned), "");
    assert_eq!(counted, [200, 404, 200, 200, 200, 429, 429]);
    assert_eq!(statuses(&proxy, "203.0.113.2", times("/static/1.js", 50), ""), [200; 50]);
}

#[test]
fn ipv6_rate_limit_tiers_do_not_count_cache_hits() {
    let settings = [&LIMIT[..], &[("RPROXY_RATE_IPV6_TIERS", "48:1:6")]].concat();
    let proxy = Proxy::start(backend(), &settings);
    for subnet in 1..4 {
        let client = format!("2001:db8:0:{subnet}::1");
        // The first one is a miss.
        assert_eq!(statuses(&proxy, &client, times("/static/1.js", 20), ""), [200; 20]);
    }
}

#[test]
fn cache_hits_count_against_the_quota_if_configured_at_startup_or_by_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rproxy.toml");
    let upstream = backend();
    let write = |count_cache_hits: bool| {
        let text = format!(
            "listen = \"127.0.0.1:0\"\nupstream = \"{upstream}\"\nrate_limit = \"1/h\"\nrate_burst = 5\n\
             trusted_proxies = \"loopback\"\nrate_count_cache_hits = {count_cache_hits}\n\
             [[site]]\nhosts = \"b.example\"\nrate_count_cache_hits = false\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    write(true);
    let proxy = Proxy::run(&["--config", file.to_str().unwrap()], &[]);
    let client = "203.0.113.1";
    assert_eq!(statuses(&proxy, client, times("/a.js", 7), ""), [200, 200, 200, 200, 200, 429, 429]);
    let of_the_site = |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: b.example\r\nconnection: close\r\n\r\n");
        request(proxy.address, &head).status
    };
    assert_eq!((0..20).map(|_| of_the_site("/a.js")).collect::<Vec<_>>(), [200; 20]);
    write(false);
    proxy.signal("HUP");
    proxy.wait_for_log("configuration reloaded");
    assert_eq!(statuses(&proxy, client, times("/a.js", 20), ""), [200; 20]);
}

#[test]
fn refunds_cache_hits_in_the_rate_limit_store() {
    let Some(server) = Server::start() else { return };
    let url = server.url();
    let store = [("RPROXY_RATE_LIMIT_STORE", &*url), ("RPROXY_RATE_LIMIT_STORE_TIMEOUT", "5s")];
    let settings = [&LIMIT[..], &store[..], &[("RPROXY_RATE_LIMIT_FALLBACK", "closed")]].concat();
    let proxies = [(); 2].map(|()| Proxy::start(backend(), &settings));
    for proxy in &proxies {
        assert_eq!(statuses(proxy, "192.0.2.1", times("/a.js", 1), ""), [200]);
        for _ in 0..50 {
            assert!(remaining(proxy, "203.0.113.1", "/a.js").starts_with("\"default\";r=5;"));
            // A response does not wait for its refund.
            let deadline = std::time::Instant::now() + crate::support::TIMEOUT;
            while server.cli(&["DBSIZE"]).trim() != "0" {
                assert!(std::time::Instant::now() < deadline, "the key has its whole quota");
            }
        }
    }
    let private = proxies.iter().flat_map(|proxy| statuses(proxy, "203.0.113.1", times("/private", 4), ""));
    assert_eq!(private.collect::<Vec<_>>(), [200, 200, 200, 200, 200, 429, 429, 429]);
}
