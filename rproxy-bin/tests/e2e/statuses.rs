//! Each row of the table of statuses: sent on a raw socket, and the proxy goes on serving others.

use std::io::Write;
use std::time::Duration;

use crate::support::upstream::{Nginx, answering, echo, ok, read_head, scripted};
use crate::support::{Answer, Proxy, connect, curl, exchange, free_port, get, read_answer, request};

fn start(settings: &[(&str, &str)]) -> Proxy {
    Proxy::start(answering(|_| ok("served")), settings)
}

fn still_serves(proxy: &Proxy) {
    assert_eq!(get(proxy.address, "/next").body, "served");
}

/// Every refusal is short text, says who made it, and carries the security headers.
fn is_refusal(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.head);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{}", answer.head);
    assert!(answer.header("proxy-status").is_some_and(|value| value.starts_with("rproxy;")), "{}", answer.head);
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{}", answer.head);
    assert!(answer.body.len() < 100 && !answer.body.contains("127.0.0.1"), "{}", answer.body);
}

#[test]
fn malformed_or_ambiguous_requests_get_400_and_the_connection_ends() {
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
        is_refusal(&read_answer(&mut client).expect(bytes), 400);
        assert!(read_answer(&mut client).is_none(), "the connection goes on after {bytes:?}");
    }
    // What hyper's own parser refuses is refused as well.
    for bytes in ["GET / HTTP/1.1\r\nHost: a\r\nBad Name: b\r\n\r\n", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"] {
        assert!(exchange(proxy.address, bytes.as_bytes()).starts_with("HTTP/1.1 400 "), "{bytes:?}");
    }
    still_serves(&proxy);
}

/// Those that hyper's parsers reject by themselves, without the proxy's log, metrics and security headers.
#[test]
fn each_rejected_head_is_in_the_log_and_has_security_headers() {
    let proxy = start(&[("RPROXY_ACCESS_LOG", "text")]);
    let scheme = "a".repeat(100);
    let targets = ["http://[::1/", "http://a:1:2/", "http://@/", "http://a%zz/", "://a/", "a", "?a", "**", "\""];
    let targets = targets.into_iter().map(str::to_owned).chain([format!("{scheme}://a/")]);
    let mut sent = 0;
    for target in targets {
        for rest in ["HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"] {
            is_refusal(&request(proxy.address, &format!("GET {target} {rest}")), 400);
            sent += 1;
        }
    }
    let connect = request(proxy.address, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
    is_refusal(&connect, 405);
    assert!(connect.header("allow").is_some_and(|methods| methods.contains("GET")), "{}", connect.head);
    is_refusal(&request(proxy.address, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cow\r\n\r\n"), 501);
    still_serves(&proxy);
    proxy.wait_for_output("/next");
    assert_eq!(proxy.outputs("refused=").len(), sent + 2);
}

#[test]
fn a_target_is_the_same_for_filter_log_and_backend_however_it_is_written() {
    let settings = [("RPROXY_ACCESS_LOG", "text"), ("RPROXY_BLOCKED_PATHS", "default,/private/**,/<a>/**")];
    let proxy = Proxy::start(echo(), &settings);
    for (target, seen) in [("/a?q=\"<b>\"", "/a?q=%22%3Cb%3E%22"), ("/`\u{e9}`", "/%60%C3%A9%60"), ("/{a}|^", "/{a}|^")]
    {
        for (method, content) in [("GET", "\r\n"), ("POST", "Content-Length: 2\r\n\r\nok")] {
            let answer = request(proxy.address, &format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{content}"));
            assert!(answer.body.starts_with(&format!("{method} {seen} HTTP/1.1\r\n")), "{target}: {}", answer.body);
            proxy.wait_for_output(&format!("\"{method} {seen} HTTP/1.1\" 200"));
        }
    }
    for target in ["/<a>/b", "/%3Ca%3E/b", "/\u{ff0e}env", "/x\"\\..\\.env", "/<x>/../private/a"] {
        is_refusal(&request(proxy.address, &format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")), 404);
    }
}

#[test]
fn blocked_paths_get_404() {
    let proxy = start(&[("RPROXY_BLOCKED_PATHS", "default,/private/**,!/private/ok")]);
    for path in
        ["/.env", "/%2eenv", "/a/..%2f.git/config", "/.GIT/HEAD", "//.env", "/a\\..\\.env", "/private/x", "/;/.env"]
    {
        is_refusal(&get(proxy.address, path), 404);
    }
    assert_eq!(get(proxy.address, "/private/ok").body, "served");
    assert_eq!(get(proxy.address, "/.well-known/security.txt").body, "served");
    still_serves(&proxy);
}

#[test]
fn a_slow_head_gets_408() {
    let proxy = start(&[]);
    let mut client = connect(proxy.address);
    client.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap();
    is_refusal(&read_answer(&mut client).expect("an answer"), 408);
    still_serves(&proxy);
}

#[test]
fn a_slow_body_gets_408() {
    let proxy = start(&[("RPROXY_UPSTREAM_TIMEOUT", "60")]);
    let mut client = connect(proxy.address);
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    is_refusal(&read_answer(&mut client).expect("an answer"), 408);
    still_serves(&proxy);
}

#[test]
fn a_body_over_the_limit_gets_413_in_either_framing() {
    let proxy = start(&[("RPROXY_MAX_BODY", "1000")]);
    let body = "a".repeat(2000);
    for bytes in [
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n{body}"),
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n{body}\r\n0\r\n\r\n"),
    ] {
        is_refusal(&request(proxy.address, &bytes), 413);
    }
    let fits = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{}", &body[..1000]);
    assert_eq!(request(proxy.address, &fits).status, 200);
    still_serves(&proxy);
}

#[test]
fn a_long_target_gets_414_and_a_large_head_431() {
    let proxy = start(&[]);
    let long = "a".repeat(20_000);
    is_refusal(&request(proxy.address, &format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")), 414);
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\nY: {long}\r\n\r\n");
    is_refusal(&request(proxy.address, &large), 431);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(500));
    is_refusal(&request(proxy.address, &many), 431);
    still_serves(&proxy);
}

#[test]
fn a_host_that_the_certificate_does_not_cover_gets_421() {
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
    assert_eq!(status(&format!("localhost:{port}")), "200");
}

#[test]
fn a_bad_websocket_handshake_gets_426_or_400() {
    let proxy = start(&[]);
    let handshake = |version: &str, key: &str| {
        format!(
            "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{version}Sec-WebSocket-Key: {key}\r\n\r\n"
        )
    };
    let old = request(proxy.address, &handshake("Sec-WebSocket-Version: 8\r\n", "dGhlIHNhbXBsZSBub25jZQ=="));
    is_refusal(&old, 426);
    assert_eq!(old.header("sec-websocket-version"), Some("13"));
    is_refusal(&request(proxy.address, &handshake("Sec-WebSocket-Version: 13\r\n", "short")), 400);
    still_serves(&proxy);
}

#[test]
fn more_requests_than_the_rate_get_429_and_when_to_come_back() {
    let proxy = start(&[("RPROXY_RATE_LIMIT", "1"), ("RPROXY_RATE_BURST", "5")]);
    for _ in 0..5 {
        let answer = get(proxy.address, "/");
        assert_eq!(answer.status, 200);
        assert!(answer.header("ratelimit").is_some() && answer.header("ratelimit-policy").is_some(), "{}", answer.head);
    }
    let refused = get(proxy.address, "/");
    is_refusal(&refused, 429);
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
}

#[test]
fn nobody_at_the_upstream_gets_502() {
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let proxy = Proxy::start(nobody, &[]);
    let answer = get(proxy.address, "/");
    is_refusal(&answer, 502);
    assert!(answer.header("proxy-status").unwrap().contains("error=connection_refused"), "{}", answer.head);
    proxy.wait_for_log("connection_refused");
}

#[test]
fn nonsense_from_the_upstream_gets_502() {
    for (said, error) in [
        ("", "connection_terminated"),
        ("220 smtp.example ESMTP\r\n", "http_protocol_error"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            "http_protocol_error",
        ),
    ] {
        let upstream = scripted(move |mut stream| {
            read_head(&mut stream);
            let _ = stream.write_all(said.as_bytes());
        });
        let proxy = Proxy::start(upstream, &[]);
        let answer = get(proxy.address, "/");
        is_refusal(&answer, 502);
        assert!(answer.header("proxy-status").unwrap().contains(error), "{said:?}: {}", answer.head);
    }
}

#[test]
fn every_upstream_down_gets_503_and_when_to_come_back() {
    let upstreams = format!("127.0.0.1:{},127.0.0.1:{}", free_port(), free_port());
    let proxy =
        Proxy::run(&[], &[("RPROXY_UPSTREAM", &upstreams), ("RPROXY_LISTEN", "127.0.0.1:0"), ("RPROXY_WORKERS", "1")]);
    assert_eq!(get(proxy.address, "/").status, 502, "the first to try finds out");
    let answer = get(proxy.address, "/");
    is_refusal(&answer, 503);
    assert!(answer.header("retry-after").is_some());
}

#[test]
fn a_slow_upstream_gets_504() {
    let upstream = scripted(|mut stream| {
        read_head(&mut stream);
        std::thread::park();
    });
    let proxy = Proxy::start(upstream, &[("RPROXY_UPSTREAM_TIMEOUT", "200ms")]);
    let answer = get(proxy.address, "/");
    is_refusal(&answer, 504);
    assert!(answer.header("proxy-status").unwrap().contains("error=http_response_timeout"), "{}", answer.head);
}

#[test]
fn a_client_that_prefers_json_gets_a_problem() {
    let proxy = start(&[]);
    let bytes = "GET /.env HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nConnection: close\r\n\r\n";
    let answer = request(proxy.address, bytes);
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["status"], 404);
}

#[test]
fn the_applications_own_errors_pass_as_they_are() {
    let Some(nginx) = Nginx::start("location / { return 503 'down for a while'; }") else { return };
    let proxy = Proxy::start(nginx.address, &[]);
    let answer = get(proxy.address, "/");
    assert_eq!((answer.status, answer.body.as_str()), (503, "down for a while"));
    assert!(answer.header("proxy-status").is_none(), "{}", answer.head);
}
