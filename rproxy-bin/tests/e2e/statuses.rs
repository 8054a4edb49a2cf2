//! Tests of every error status over a raw socket, after which the proxy must serve other requests.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use crate::support::upstream::{Nginx, echo, ok, read_head, responding, scripted};
use crate::support::{Proxy, Response, connect, curl, exchange, free_port, get, read_response, request};

fn start(settings: &[(&str, &str)]) -> Proxy {
    Proxy::start(responding(|_| ok("served")), settings)
}

fn still_serves(proxy: &Proxy) {
    assert_eq!(get(proxy.address, "/next").body, "served");
}

/// Asserts that the proxy generated an error response: short text, `Proxy-Status` and security headers.
fn assert_error(response: &Response, status: u16) {
    assert_eq!(response.status, status, "{}", response.head);
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"), "{}", response.head);
    assert!(response.header("proxy-status").is_some_and(|value| value.starts_with("rproxy;")), "{}", response.head);
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{}", response.head);
    assert!(response.body.len() < 100 && !response.body.contains("127.0.0.1"), "{}", response.body);
}

#[test]
fn rejects_malformed_requests_with_400_and_closes_the_connection() {
    let proxy = start(&[]);
    for bytes in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let mut client = connect(proxy.address);
        client.write_all(bytes.as_bytes()).unwrap();
        assert_error(&read_response(&mut client).expect(bytes), 400);
        assert!(read_response(&mut client).is_none(), "the connection stays open after {bytes:?}");
    }
    // The parser of hyper rejects these.
    for bytes in ["GET / HTTP/1.1\r\nHost: a\r\nBad Name: b\r\n\r\n", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"] {
        assert!(exchange(proxy.address, bytes.as_bytes()).starts_with("HTTP/1.1 400 "), "{bytes:?}");
    }
    still_serves(&proxy);
}

/// Tests that request heads rejected by hyper before any layer are logged and get security headers.
#[test]
fn rejected_request_heads_are_logged_and_get_security_headers() {
    let proxy = start(&[("RPROXY_ACCESS_LOG", "text")]);
    let scheme = "a".repeat(100);
    let targets = ["http://[::1/", "http://a:1:2/", "http://@/", "http://a%zz/", "://a/", "a", "?a", "**", "\""];
    let targets = targets.into_iter().map(str::to_owned).chain([format!("{scheme}://a/")]);
    let mut sent = 0;
    for target in targets {
        for rest in ["HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"] {
            assert_error(&request(proxy.address, &format!("GET {target} {rest}")), 400);
            sent += 1;
        }
    }
    let connect = request(proxy.address, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
    assert_error(&connect, 405);
    assert!(connect.header("allow").is_some_and(|methods| methods.contains("GET")), "{}", connect.head);
    assert_error(&request(proxy.address, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cow\r\n\r\n"), 501);
    still_serves(&proxy);
    proxy.wait_for_output("/next");
    assert_eq!(proxy.outputs("refused=").len(), sent + 2);
}

#[test]
fn malformed_host_is_rejected_logged_and_counted_once_over_both_protocols() {
    let settings = [("RPROXY_ACCESS_LOG", "text"), ("RPROXY_ADMIN_LISTEN", "127.0.0.1:0")];
    let proxy = start(&settings);
    let hosts = ["[]", "[]:80", "[::1]a", "[::1]a:80", "[a.example]", "[v1.a]", "u@a.example", "a.example:"];
    let url = format!("http://{}/malformed", proxy.address);
    let mut sent = 0;
    for host in hosts {
        assert_error(&request(proxy.address, &format!("GET /malformed HTTP/1.1\r\nHost: {host}\r\n\r\n")), 400);
        let field = format!("Host: {host}");
        let status = curl(&["--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code}", "-H", &field, &url]);
        assert_eq!(status, "400", "{host}");
        sent += 2;
    }
    still_serves(&proxy);
    proxy.wait_for_output("/next");
    assert_eq!(proxy.outputs("refused=bad_host").len(), sent);
    let metrics = curl(&[&format!("http://{}/metrics", proxy.address_of("admin requests"))]);
    let count = format!("rproxy_refused_requests_total{{reason=\"bad_host\"}} {sent}\n");
    assert!(metrics.contains(&count), "{metrics}");
}

#[test]
fn path_filter_log_and_backend_receive_the_same_target() {
    let settings = [("RPROXY_ACCESS_LOG", "text"), ("RPROXY_BLOCKED_PATHS", "default,/private/**,/<a>/**")];
    let proxy = Proxy::start(echo(), &settings);
    for (target, seen) in [("/a?q=\"<b>\"", "/a?q=%22%3Cb%3E%22"), ("/`\u{e9}`", "/%60%C3%A9%60"), ("/{a}|^", "/{a}|^")]
    {
        for (method, content) in [("GET", "\r\n"), ("POST", "Content-Length: 2\r\n\r\nok")] {
            let response = request(proxy.address, &format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{content}"));
            assert!(response.body.starts_with(&format!("{method} {seen} HTTP/1.1\r\n")), "{target}: {}", response.body);
            proxy.wait_for_output(&format!("\"{method} {seen} HTTP/1.1\" 200"));
        }
    }
    for target in ["/<a>/b", "/%3Ca%3E/b", "/\u{ff0e}env", "/x\"\\..\\.env", "/<x>/../private/a"] {
        assert_error(&request(proxy.address, &format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")), 404);
    }
}

#[test]
fn rejects_blocked_paths_with_404() {
    let proxy = start(&[("RPROXY_BLOCKED_PATHS", "default,/private/**,!/private/ok")]);
    for path in
        ["/.env", "/%2eenv", "/a/..%2f.git/config", "/.GIT/HEAD", "//.env", "/a\\..\\.env", "/private/x", "/;/.env"]
    {
        assert_error(&get(proxy.address, path), 404);
    }
    assert_eq!(get(proxy.address, "/private/ok").body, "served");
    assert_eq!(get(proxy.address, "/.well-known/security.txt").body, "served");
    still_serves(&proxy);
}

#[test]
fn default_list_forwards_paths_that_only_the_strict_list_blocks() {
    let paths = ["/.ghost/activitypub/inbox/index", "/hls/stream.key", "/appsettings.json", "/fixtures.db"];
    let (default, strict) = (start(&[]), start(&[("RPROXY_BLOCKED_PATHS", "strict,!/hls/**")]));
    for path in paths {
        assert_eq!(get(default.address, path).body, "served", "{path}");
        assert_eq!(get(strict.address, path).status, if path.starts_with("/hls/") { 200 } else { 404 }, "{path}");
    }
    for proxy in [&default, &strict] {
        assert_error(&get(proxy.address, "/.git/config"), 404);
        assert_eq!(get(proxy.address, "/.well-known/acme").body, "served");
    }
}

#[test]
fn rejects_slow_head_with_408() {
    let proxy = start(&[]);
    let mut client = connect(proxy.address);
    client.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap();
    assert_error(&read_response(&mut client).expect("a response"), 408);
    still_serves(&proxy);
}

#[test]
fn rejects_slow_body_with_408() {
    let proxy = start(&[("RPROXY_UPSTREAM_TIMEOUT", "60")]);
    let mut client = connect(proxy.address);
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    assert_error(&read_response(&mut client).expect("a response"), 408);
    still_serves(&proxy);
}

#[test]
fn rejects_large_body_with_413_with_content_length_or_chunked() {
    let proxy = start(&[("RPROXY_MAX_BODY", "1000")]);
    let body = "a".repeat(2000);
    for bytes in [
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n{body}"),
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n{body}\r\n0\r\n\r\n"),
    ] {
        assert_error(&request(proxy.address, &bytes), 413);
    }
    let fits = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{}", &body[..1000]);
    assert_eq!(request(proxy.address, &fits).status, 200);
    still_serves(&proxy);
}

#[test]
fn rejects_long_target_with_414_and_large_head_with_431() {
    let proxy = start(&[]);
    let long = "a".repeat(20_000);
    assert_error(&request(proxy.address, &format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")), 414);
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\nY: {long}\r\n\r\n");
    assert_error(&request(proxy.address, &large), 431);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(500));
    assert_error(&request(proxy.address, &many), 431);
    still_serves(&proxy);
}

#[test]
fn rejects_host_without_certificate_with_421() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = start(&[("RPROXY_TLS_LOCAL", "true"), ("RPROXY_TLS_CACHE_DIR", folder.path().to_str().unwrap())]);
    let port = proxy.address.port();
    let resolve = format!("localhost:{port}:127.0.0.1");
    let url = format!("https://localhost:{port}/");
    let status = |host: &str| {
        let host = format!("host: {host}");
        curl(&["-k", "--resolve", &resolve, "-H", &host, "-o", "/dev/null", "-w", "%{http_code}", &url])
    };
    assert_eq!(status("other.example"), "421");
    let line = proxy.wait_for_log("RPROXY_TLS_HOSTS");
    assert!(line.contains(" INFO ") && line.contains("host=\"other.example\""), "{line}");
    assert_eq!(status(&format!("localhost:{port}")), "200");
}

#[test]
fn rejects_bad_websocket_handshake_with_426_or_400() {
    let proxy = start(&[]);
    let handshake = |version: &str, key: &str| {
        format!(
            "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{version}Sec-WebSocket-Key: {key}\r\n\r\n"
        )
    };
    let old = request(proxy.address, &handshake("Sec-WebSocket-Version: 8\r\n", "dGhlIHNhbXBsZSBub25jZQ=="));
    assert_error(&old, 426);
    assert_eq!(old.header("sec-websocket-version"), Some("13"));
    assert_error(&request(proxy.address, &handshake("Sec-WebSocket-Version: 13\r\n", "short")), 400);
    still_serves(&proxy);
}

#[test]
fn rejects_excess_requests_with_429_and_retry_after() {
    let proxy = start(&[("RPROXY_RATE_LIMIT", "1"), ("RPROXY_RATE_BURST", "5")]);
    for _ in 0..5 {
        let response = get(proxy.address, "/");
        assert_eq!(response.status, 200);
        assert!(
            response.header("ratelimit").is_some() && response.header("ratelimit-policy").is_some(),
            "{}",
            response.head
        );
    }
    let refused = get(proxy.address, "/");
    assert_error(&refused, 429);
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
}

#[test]
fn unreachable_backend_causes_502() {
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let proxy = Proxy::start(nobody, &[]);
    let response = get(proxy.address, "/");
    assert_error(&response, 502);
    assert!(response.header("proxy-status").unwrap().contains("error=connection_refused"), "{}", response.head);
    proxy.wait_for_log("connection_refused");
}

#[test]
fn invalid_backend_response_causes_502() {
    for (received, error) in [
        ("", "connection_terminated"),
        ("220 smtp.example ESMTP\r\n", "http_protocol_error"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            "http_protocol_error",
        ),
    ] {
        let upstream = scripted(move |mut stream| {
            read_head(&mut stream);
            let _ = stream.write_all(received.as_bytes());
        });
        let proxy = Proxy::start(upstream, &[]);
        let response = get(proxy.address, "/");
        assert_error(&response, 502);
        assert!(response.header("proxy-status").unwrap().contains(error), "{received:?}: {}", response.head);
    }
}

#[test]
fn no_healthy_backend_causes_503_with_retry_after() {
    let upstreams = format!("127.0.0.1:{},127.0.0.1:{}", free_port(), free_port());
    let proxy =
        Proxy::run(&[], &[("RPROXY_UPSTREAM", &upstreams), ("RPROXY_LISTEN", "127.0.0.1:0"), ("RPROXY_WORKERS", "1")]);
    assert_eq!(get(proxy.address, "/").status, 502, "the first request detects it");
    let response = get(proxy.address, "/");
    assert_error(&response, 503);
    assert!(response.header("retry-after").is_some());
}

#[test]
fn slow_backend_causes_504() {
    let upstream = scripted(|mut stream| {
        read_head(&mut stream);
        std::thread::park();
    });
    let proxy = Proxy::start(upstream, &[("RPROXY_UPSTREAM_TIMEOUT", "200ms")]);
    let response = get(proxy.address, "/");
    assert_error(&response, 504);
    assert!(response.header("proxy-status").unwrap().contains("error=http_response_timeout"), "{}", response.head);
}

#[test]
fn sends_problem_json_to_clients_that_prefer_json() {
    let proxy = start(&[]);
    let bytes = "GET /.env HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nConnection: close\r\n\r\n";
    let response = request(proxy.address, bytes);
    assert_eq!(response.status, 404);
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_str(&response.body).unwrap();
    assert_eq!(problem["status"], 404);
}

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";

/// Sends the request that a local browser sends for `path`, with additional header fields.
fn navigate(proxy: &Proxy, path: &str, host: &str, fields: &str) -> Response {
    let bytes =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {BROWSER}\r\n{fields}Connection: close\r\n\r\n");
    request(proxy.address, &bytes)
}

#[test]
fn browsers_get_an_error_page_with_a_csp_for_its_style_sheet() {
    let closed = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let policy = ("RPROXY_CONTENT_SECURITY_POLICY", "default-src 'self'");
    let proxy = Proxy::start(closed, &[policy, ("RPROXY_ACCESS_LOG", "json")]);
    let response = navigate(&proxy, "/a<b>", "localhost", "");
    assert_eq!((response.status, response.header("content-type")), (502, Some("text/html; charset=utf-8")));
    assert_eq!(response.header("content-length"), Some(&*response.body.len().to_string()));
    assert_eq!((response.header("vary"), response.header("cache-control")), (Some("accept"), Some("no-store")));
    let policies: Vec<_> = response.head.lines().filter(|line| line.starts_with("content-security-policy:")).collect();
    assert!(matches!(policies[..], [policy] if policy.contains("'none'; style-src 'sha256-")), "{policies:?}");
    assert!(!response.body.contains("<script") && !response.body.contains("a<b>"), "{}", response.body);
    assert!(response.body.contains(&format!("Nothing is listening on {closed}")), "{}", response.body);
    assert!(response.body.contains("RPROXY_UPSTREAM"), "{}", response.body);
    let line: serde_json::Value = serde_json::from_str(&proxy.wait_for_output("502")).unwrap();
    assert!(response.body.contains(line["request_id"].as_str().unwrap()), "{line} {}", response.body);
}

#[test]
fn error_page_without_backend_response_shows_the_logged_request_id() {
    let proxy = start(&[("RPROXY_ACCESS_LOG", "json")]);
    let page = navigate(&proxy, "/.env", "a.example.com", "").body;
    let line: serde_json::Value = serde_json::from_str(&proxy.wait_for_output("/.env")).unwrap();
    assert!(page.contains(line["request_id"].as_str().unwrap()), "{line} {page}");
    assert!(!page.contains(".env") && !page.contains("RPROXY_"), "{page}");
}

#[test]
fn error_page_hides_the_cause_from_clients_behind_a_proxy_or_on_other_listeners() {
    let upstream = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let loopback = Proxy::start(upstream, &[]);
    let any = Proxy::start(upstream, &[("RPROXY_LISTEN", "0.0.0.0:0")]);
    let trusting = Proxy::start(upstream, &[("RPROXY_TRUSTED_PROXIES", "loopback")]);
    for (proxy, host, fields) in [
        (&any, "localhost", ""),
        (&trusting, "localhost", ""),
        (&loopback, "shop.example.com", ""),
        (&loopback, "localhost", "X-Forwarded-For: 192.0.2.1\r\n"),
        (&loopback, "localhost", "Forwarded: for=127.0.0.1\r\n"),
    ] {
        let address = SocketAddr::from(([127, 0, 0, 1], proxy.address.port()));
        let head = format!("Host: {host}\r\nAccept: {BROWSER}\r\n{fields}Connection: close");
        let response = request(address, &format!("GET / HTTP/1.1\r\n{head}\r\n\r\n"));
        assert_eq!(response.status, 502);
        let is_leaked = response.body.contains("RPROXY_") || response.body.contains(&upstream.to_string());
        assert!(!is_leaked, "{host} {fields} {}", response.body);
    }
}

#[test]
fn error_page_over_http2_has_the_same_length_for_get_and_head() {
    let proxy = start(&[]);
    let url = format!("http://localhost:{}/.env", proxy.address.port());
    let accept = format!("Accept: {BROWSER}");
    let page = curl(&["--http2-prior-knowledge", "-H", &accept, &url]);
    assert!(page.contains("RPROXY_BLOCKED_PATHS") && page.contains("404"), "{page}");
    let head = curl(&["--http2-prior-knowledge", "-I", "-H", &accept, &url]);
    assert!(head.contains(&format!("content-length: {}", page.len())), "{head}");
}

#[test]
fn forwards_backend_errors_unchanged() {
    let Some(nginx) = Nginx::start("location / { return 503 'down for a while'; }") else { return };
    let proxy = Proxy::start(nginx.address, &[]);
    let response = get(proxy.address, "/");
    assert_eq!((response.status, response.body.as_str()), (503, "down for a while"));
    assert!(response.header("proxy-status").is_none(), "{}", response.head);
}
