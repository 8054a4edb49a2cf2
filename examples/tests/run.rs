//! Runs each example program, and checks the behaviour that its documentation describes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Example {
    child: Child,
    address: String,
}

impl Example {
    fn start(program: &str, args: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program)
            .arg("127.0.0.1:0")
            .args(args)
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("the address").to_owned();
        Self { child, address }
    }

    fn get(&self, path: &str, host: &str) -> String {
        self.send("GET", path, host, "")
    }

    /// Sends a request, and returns the response. `fields` are lines that end with CRLF.
    fn send(&self, method: &str, path: &str, host: &str, fields: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{fields}connection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn axum_rate_limit_example_rejects_some_of_30_requests() {
    let example = Example::start(env!("CARGO_BIN_EXE_axum-rate-limit"), &[], &[]);
    let limited = (0..30).filter(|_| example.get("/", "a").starts_with("HTTP/1.1 429")).count();
    assert!((1..=20).contains(&limited), "{limited} of 30");
}

#[test]
fn axum_access_example_checks_addresses_passwords_and_the_authentication_service() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    // The password is `U*U`.
    std::fs::write(&users, "alice:$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n").unwrap();
    // It admits all requests, until it is stopped.
    let auth = Example::start(env!("CARGO_BIN_EXE_hyper-minimal"), &[], &[]);
    let url = format!("http://{}/", auth.address);
    let example = Example::start(env!("CARGO_BIN_EXE_axum-access"), &[users.to_str().unwrap(), &url], &[]);
    assert!(example.get("/", "a").ends_with("hello\n"));
    let rejected = example.get("/staff", "a");
    assert!(rejected.starts_with("HTTP/1.1 401") && rejected.contains("Basic realm=\"Staff\""), "{rejected}");
    let served = example.send("GET", "/staff", "a", "authorization: Basic YWxpY2U6VSpV\r\n");
    assert!(served.ends_with("hello alice\n"), "{served}");
    let admitted = example.send("GET", "/app", "a", "remote-user: root\r\n");
    assert!(admitted.ends_with("hello None\n"), "{admitted}");
    drop(auth);
    assert!(example.get("/app", "a").starts_with("HTTP/1.1 503"));
}

#[test]
fn axum_static_files_example_serves_files_and_those_that_a_handler_names() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("www/index.html", "<p>home\n"), ("private/report.txt", "report\n")] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let folders = ["www", "private"].map(|name| folder.path().join(name).display().to_string());
    let example = Example::start(env!("CARGO_BIN_EXE_axum-static-files"), &[&folders[0], &folders[1]], &[]);
    let page = example.get("/", "a");
    assert!(page.starts_with("HTTP/1.1 200") && page.ends_with("<p>home\n"), "{page}");
    let part = example.send("GET", "/index.html", "a", "range: bytes=0-2\r\n");
    assert!(part.starts_with("HTTP/1.1 206") && part.ends_with("<p>"), "{part}");
    let report = example.get("/reports/7", "a");
    assert!(report.contains("attachment; filename=report.txt") && report.ends_with("report\n"), "{report}");
    assert!(!report.contains("x-accel-redirect"), "{report}");
    assert!(example.get("/reports/8", "a").starts_with("HTTP/1.1 404"));
    let fallback = example.send("GET", "/any/page", "a", "accept: text/html\r\n");
    assert!(fallback.starts_with("HTTP/1.1 200") && fallback.ends_with("<p>home\n"), "{fallback}");
}

#[test]
fn axum_maintenance_example_sends_pages_and_switches() {
    let example = Example::start(env!("CARGO_BIN_EXE_axum-maintenance"), &[], &[]);
    let browser = "accept: text/html\r\n";
    let page = example.send("GET", "/missing", "a", browser);
    assert!(page.starts_with("HTTP/1.1 404") && page.contains("<title>404</title>"), "{page}");
    assert!(example.get("/", "a").ends_with("hello\n"));
    assert!(example.send("POST", "/switch/on", "a", "content-length: 0\r\n").starts_with("HTTP/1.1 200"));
    let page = example.send("GET", "/", "a", browser);
    assert!(page.starts_with("HTTP/1.1 503") && page.contains("retry-after: 60\r\n"), "{page}");
    assert!(page.ends_with("<h1>Back in a minute</h1>\n"), "{page}");
    assert!(example.get("/", "a").ends_with("Service Unavailable: in maintenance\n"));
    example.send("POST", "/switch/off", "a", "content-length: 0\r\n");
    assert!(example.get("/", "a").ends_with("hello\n"));
}

#[test]
fn axum_rules_example_redirects_rewrites_and_changes_fields() {
    let example = Example::start(env!("CARGO_BIN_EXE_axum-rules"), &[], &[]);
    let redirect = example.get("/blog/2024/hello?a=b", "a");
    assert!(redirect.starts_with("HTTP/1.1 301") && redirect.contains("location: /posts/hello?a=b"), "{redirect}");
    let rewritten = example.get("/u/ann", "a");
    assert!(rewritten.starts_with("HTTP/1.1 200") && rewritten.ends_with("user ann\n"), "{rewritten}");
    assert!(rewritten.contains("x-frame-options: DENY") && !rewritten.contains("x-debug"), "{rewritten}");
    let robots = example.get("/robots.txt", "a");
    assert!(robots.ends_with("User-agent: *\nDisallow: /private/\n"), "{robots}");
}

#[test]
fn axum_cache_example_stores_and_purges_responses() {
    let example = Example::start(env!("CARGO_BIN_EXE_axum-cache"), &[], &[]);
    let body = |response: &str| response.split("\r\n\r\n").nth(1).unwrap().to_owned();
    let (first, second) = (example.get("/time", "a"), example.get("/time", "a"));
    assert!(first.contains("cache-status: rproxy; fwd=uri-miss; stored"), "{first}");
    assert!(second.contains("cache-status: rproxy; hit"), "{second}");
    assert_eq!(body(&first), body(&second));
    assert!(example.send("POST", "/purge/time", "a", "content-length: 0\r\n").ends_with("1 purged\n"));
    assert_ne!(body(&example.get("/time", "a")), body(&first));
    assert_ne!(body(&example.get("/now", "a")), body(&example.get("/now", "a")));
}

#[test]
fn axum_all_layers_example_serves_forwards_and_rejects_requests() {
    let backend = Example::start(env!("CARGO_BIN_EXE_hyper-minimal"), &[], &[]);
    let example = Example::start(env!("CARGO_BIN_EXE_axum-all-layers"), &[&backend.address], &[]);
    let own = example.get("/own", "a");
    assert!(own.contains("x-content-type-options: nosniff") && own.contains("ratelimit: \"default\""), "{own}");
    assert!(own.ends_with("served here\n"), "{own}");
    assert!(example.get("/static/x", "a").contains("cache-status: rproxy; fwd=uri-miss"));
    assert!(example.get("/other", "a").ends_with("Hello, World!\n"));
    assert!(example.get("/.env", "a").starts_with("HTTP/1.1 404"));
    assert!(example.send("GET", "/own", "a", "host: b\r\n").starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn websocket_chat_example_limits_connections_and_messages() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::connect_async;
    use tokio_tungstenite::tungstenite::Message;

    let example = Example::start(env!("CARGO_BIN_EXE_websocket-chat"), &[], &[]);
    let url = format!("ws://{}/chat", example.address);
    let (mut ann, _) = connect_async(&url).await.unwrap();
    let (mut ben, _) = connect_async(&url).await.unwrap();
    // A member that receives its own message is in the room.
    ann.send(Message::text("I am here")).await.unwrap();
    assert_eq!(ann.next().await.unwrap().unwrap(), Message::text("I am here"));
    ben.send(Message::text("hello")).await.unwrap();
    assert_eq!(ann.next().await.unwrap().unwrap(), Message::text("hello"));
    // Another path, and a fourth connection of one client.
    assert!(connect_async(format!("ws://{}/other", example.address)).await.is_err());
    let _third = connect_async(&url).await.unwrap();
    assert!(connect_async(&url).await.unwrap_err().to_string().contains("429"));
    // A message above the limit closes the connection with 1009 (RFC 6455 §7.4.1).
    ben.send(Message::text("x".repeat(5 << 10))).await.unwrap();
    let close = loop {
        match ben.next().await.unwrap().unwrap() {
            Message::Close(close) => break close.unwrap(),
            _ => continue,
        }
    };
    assert_eq!(u16::from(close.code), 1009);
}

#[test]
fn canary_example_selects_the_version_by_header_and_client() {
    let old = Example::start(env!("CARGO_BIN_EXE_axum-rate-limit"), &[], &[]);
    let new = Example::start(env!("CARGO_BIN_EXE_hyper-minimal"), &[], &[]);
    let example = Example::start(env!("CARGO_BIN_EXE_canary"), &[&old.address, &new.address], &[]);
    let is_new = |fields: &str| example.send("GET", "/", "a", fields).contains("x-content-type-options");
    assert!(is_new("x-version: new\r\n") && !is_new("x-version: old\r\n"));
    // One client gets one version.
    assert_eq!(is_new(""), is_new(""));
}

#[test]
fn auth_gateway_example_requires_a_token() {
    let backend = Example::start(env!("CARGO_BIN_EXE_hyper-minimal"), &[], &[]);
    let example = Example::start(env!("CARGO_BIN_EXE_auth-gateway"), &[&backend.address], &[]);
    let rejected = example.send("GET", "/", "a", "x-user: root\r\n");
    assert!(rejected.starts_with("HTTP/1.1 401") && rejected.contains("www-authenticate: Bearer"), "{rejected}");
    assert!(rejected.contains("content-security-policy: default-src 'none'"), "{rejected}");
    let accepted = example.send("GET", "/", "a", "authorization: Bearer sesame\r\n");
    assert!(accepted.starts_with("HTTP/1.1 200") && accepted.ends_with("Hello, World!\n"), "{accepted}");
}

#[test]
fn every_example_program_is_short_and_has_a_test() {
    let source = include_str!("run.rs");
    for entry in std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(source.contains(&format!("CARGO_BIN_EXE_{name}\"")), "{name} has no test");
            assert!(std::fs::read_to_string(&path).unwrap().lines().count() < 100, "{name} has 100 lines or more");
        }
    }
}

#[test]
fn hyper_minimal_example_adds_security_headers() {
    let example = Example::start(env!("CARGO_BIN_EXE_hyper-minimal"), &[], &[]);
    let response = example.get("/", "a");
    assert!(
        response.contains("x-content-type-options: nosniff") && response.ends_with("Hello, World!\n"),
        "{response}"
    );
}

#[test]
fn custom_proxy_example_routes_by_host_and_path() {
    let backend = Example::start(env!("CARGO_BIN_EXE_hyper-minimal"), &[], &[]);
    let other = Example::start(env!("CARGO_BIN_EXE_axum-cache"), &[], &[]);
    let routes = [
        format!("app.local={}", backend.address),
        format!("/time={}", other.address),
        format!("*.shop.local={}", other.address),
    ];
    let proxy = Example::start(env!("CARGO_BIN_EXE_custom-proxy"), &routes.each_ref().map(String::as_str), &[]);
    assert!(proxy.get("/", "app.local").ends_with("Hello, World!\n"));
    assert!(proxy.get("/time", "app.local").contains("cache-status: rproxy; fwd=uri-miss; stored"));
    assert!(proxy.get("/time", "a.shop.local").contains("cache-status: rproxy; "));
    assert!(proxy.get("/time;x=1", "app.local").starts_with("HTTP/1.1 400"));
    assert!(proxy.get("/.env", "app.local").starts_with("HTTP/1.1 404"));
    assert!(proxy.get("/", "other.local").starts_with("HTTP/1.1 404"));
}

#[test]
fn embedded_example_serves_its_route_and_forwards_all_other_requests() {
    let backend = Example::start(env!("CARGO_BIN_EXE_hyper-minimal"), &[], &[]);
    let proxy = Example::start(env!("CARGO_BIN_EXE_embedded"), &[], &[("RPROXY_UPSTREAM", &backend.address)]);
    assert!(proxy.get("/own", "a").ends_with("served here\n"));
    assert!(proxy.get("/", "a").ends_with("Hello, World!\n"));
    assert!(proxy.get("/%2eenv", "a").starts_with("HTTP/1.1 404"));
}

#[test]
fn embedded_sites_example_has_separate_backends_and_settings_per_site() {
    let backend = Example::start(env!("CARGO_BIN_EXE_hyper-minimal"), &[], &[]);
    let other = Example::start(env!("CARGO_BIN_EXE_axum-all-layers"), &[&backend.address], &[]);
    let proxy = Example::start(env!("CARGO_BIN_EXE_embedded-sites"), &[&backend.address, &other.address], &[]);
    assert!(proxy.get("/own", "shop.local").ends_with("Hello, World!\n"));
    assert!(proxy.get("/own", "docs.local").ends_with("served here\n"));
    assert!(proxy.get("/own", "a.docs.local").ends_with("served here\n"));
    assert!(proxy.get("/own", "docs.local").contains("cache-status: rproxy; "));
    assert!(!proxy.get("/own", "shop.local").contains("cache-status: "));
    assert!(proxy.get("/api/x", "shop.local").contains("\"default\";q=100;w=10"));
    assert!(proxy.get("/", "other.local").starts_with("HTTP/1.1 404"));
}
