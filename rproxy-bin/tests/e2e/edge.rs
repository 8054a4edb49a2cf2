//! The settings of the edge: who asks, how often, for what.

use crate::support::upstream::{answering, echo, ok};
use crate::support::{Proxy, exchange, get, request};

fn statuses(proxy: &Proxy, path: &str) -> Vec<u16> {
    (0..3).map(|_| get(proxy.address, path).status).collect()
}

#[test]
fn the_filter_answers_as_it_is_told_or_only_takes_note() {
    let proxy = Proxy::start(answering(|_| ok("served")), &[("RPROXY_FILTER_STATUS", "410")]);
    let answer = get(proxy.address, "/.env");
    assert_eq!((answer.status, &*answer.body), (410, "Gone\n"));
    assert_eq!(answer.header("proxy-status"), Some("rproxy; error=http_request_denied"));
    let proxy = Proxy::start(answering(|_| ok("served")), &[("RPROXY_FILTER_LOG_ONLY", "true")]);
    assert_eq!(get(proxy.address, "/.env").body, "served");
}

#[test]
fn a_filter_that_closes_says_nothing() {
    let proxy = Proxy::start(answering(|_| ok("served")), &[("RPROXY_FILTER_STATUS", "close")]);
    for blocked in [
        "GET /.env HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /%2e%67it/config HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /.env HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
    ] {
        // What was asked before it is answered.
        let before = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let answers = exchange(proxy.address, format!("{before}{blocked}{before}").as_bytes());
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{blocked:?}: {answers}");
        assert!(answers.ends_with("served"), "{answers}");
    }
    // A balancer would take it for a failure.
    let trusting = [("RPROXY_FILTER_STATUS", "close"), ("RPROXY_TRUSTED_PROXIES", "loopback")];
    assert_eq!(get(Proxy::start(answering(|_| ok("served")), &trusting).address, "/.env").status, 404);
    let other = request(proxy.address, "GET /.env HTTP/1.0\r\nhost: a.example, b\r\n\r\n");
    assert_eq!(other.status, 400, "other refusals are told");
}

#[test]
fn a_strict_filter_lets_one_reading_pass_and_no_more() {
    let proxy = Proxy::start(answering(|_| ok("served")), &[("RPROXY_FILTER_STRICT", "true")]);
    for (path, status) in
        [("/a/b/", 200), ("/a%20b", 200), ("/a%2Fb", 400), ("/a//b", 400), ("/a;b", 400), ("/.env", 404)]
    {
        assert_eq!(get(proxy.address, path).status, status, "{path}");
    }
}

#[test]
fn a_limit_spares_whom_it_is_told_to_and_a_shadow_everybody() {
    let once = [("RPROXY_RATE_LIMIT", "1"), ("RPROXY_RATE_BURST", "1")];
    let with = |setting| Proxy::start(answering(|_| ok("served")), &[once[0], once[1], setting]);
    assert_eq!(statuses(&with(("RPROXY_RATE_EXEMPT", "192.0.2.0/24")), "/"), [200, 429, 429]);
    assert_eq!(statuses(&with(("RPROXY_RATE_EXEMPT", "loopback")), "/"), [200; 3]);
    assert_eq!(statuses(&with(("RPROXY_RATE_SHADOW", "true")), "/"), [200; 3]);
}

#[test]
fn a_trusted_proxy_names_the_client_in_the_field_that_was_agreed() {
    let settings = [("RPROXY_TRUSTED_PROXIES", "loopback"), ("RPROXY_CLIENT_IP_FROM", "CF-Connecting-IP")];
    let head = "GET / HTTP/1.1\r\nHost: a\r\nCF-Connecting-IP: 192.0.2.7\r\nX-Forwarded-For: 6.6.6.6\r\n\
                Connection: close\r\n\r\n";
    let seen = request(Proxy::start(echo(), &settings).address, head).body.to_ascii_lowercase();
    assert!(seen.contains("x-real-ip: 192.0.2.7") && !seen.contains("6.6.6.6"), "{seen}");
    // Of anybody else it is a claim like others.
    let seen = request(Proxy::start(echo(), &[]).address, head).body.to_ascii_lowercase();
    assert!(seen.contains("x-real-ip: 127.0.0.1") && !seen.contains("192.0.2.7"), "{seen}");
}

#[test]
fn a_request_that_goes_round_in_circles_gets_508() {
    let proxy = Proxy::start(echo(), &[]);
    let head = |via: String| format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {via}\r\nConnection: close\r\n\r\n");
    assert_eq!(request(proxy.address, &head("1.1 rproxy, 1.1 rproxy".to_owned())).status, 200);
    let answer = request(proxy.address, &head(["1.1 rproxy"; 8].join(", ")));
    assert_eq!((answer.status, answer.header("proxy-status")), (508, Some("rproxy; error=proxy_loop_detected")));
}

#[test]
fn responses_get_the_headers_of_the_profile_and_cookies_what_they_lack() {
    let page = || {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2; SameSite=None\r\n";
        format!("{head}Content-Length: 2\r\n\r\nok")
    };
    let settings = [
        ("RPROXY_SECURITY_HEADERS", "strict"),
        ("RPROXY_CONTENT_SECURITY_POLICY", "default-src 'none'"),
        ("RPROXY_HARDEN_COOKIES", "true"),
    ];
    let answer = get(Proxy::start(answering(move |_| page()), &settings).address, "/");
    for line in ["content-security-policy: default-src 'none'", "x-frame-options: DENY", "referrer-policy: no-referrer"]
    {
        assert!(answer.head.to_ascii_lowercase().contains(&line.to_ascii_lowercase()), "{line} in {}", answer.head);
    }
    let cookies: Vec<_> =
        answer.head.lines().filter(|line| line.to_ascii_lowercase().starts_with("set-cookie")).collect();
    assert!(cookies[0].ends_with("a=1; SameSite=Lax") && cookies[1].ends_with("b=2; SameSite=None"), "{cookies:?}");
}

#[test]
fn strips_the_clients_nonce_where_no_policy_has_one() {
    let upstream = answering(|head| {
        let has_nonce = head.to_ascii_lowercase().contains("nonce");
        format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{has_nonce:<5}")
    });
    let proxy = Proxy::start(upstream, &[]);
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-CSP-Nonce: chosen\r\nX_CSP_Nonce: chosen\r\nConnection: close\r\n\r\n";
    assert_eq!(request(proxy.address, head).body, "false");
}

#[test]
fn a_nonce_is_the_same_in_the_page_and_in_its_policy() {
    let upstream = answering(|head| {
        let nonce = head.lines().find_map(|line| line.strip_prefix("x-csp-nonce: ")).unwrap_or("none");
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{nonce}", nonce.len())
    });
    let proxy = Proxy::start(
        upstream,
        &[
            ("RPROXY_CONTENT_SECURITY_POLICY", "script-src 'nonce-{nonce}'"),
            ("RPROXY_CONTENT_SECURITY_POLICY_REPORT_ONLY", "default-src 'self'; report-to csp"),
            ("RPROXY_REPORTING_ENDPOINTS", "csp=/reports"),
            ("RPROXY_PERMISSIONS_POLICY", "camera=()"),
            ("RPROXY_KEEP_HEADERS", "server"),
        ],
    );
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-CSP-Nonce: chosen\r\nX_CSP_Nonce: chosen\r\nConnection: close, X-CSP-Nonce\r\n\r\n";
    let (one, other) = (request(proxy.address, head), request(proxy.address, head));
    assert!(one.body.len() == 32 && one.body != other.body, "{} {}", one.body, other.body);
    assert_eq!(one.header("content-security-policy"), Some(&*format!("script-src 'nonce-{}'", one.body)));
    for (name, value) in [
        ("content-security-policy-report-only", "default-src 'self'; report-to csp"),
        ("reporting-endpoints", "csp=\"/reports\""),
        ("permissions-policy", "camera=()"),
    ] {
        assert_eq!(one.header(name), Some(value));
    }
}
