//! Tests of the settings of individual layers: path filter, rate limit, client address and security headers.

use crate::support::upstream::{echo, ok, responding};
use crate::support::{Proxy, exchange, get, request};

fn statuses(proxy: &Proxy, path: &str) -> Vec<u16> {
    (0..3).map(|_| get(proxy.address, path).status).collect()
}

#[test]
fn applies_the_settings_filter_status_and_filter_log_only() {
    let proxy = Proxy::start(responding(|_| ok("served")), &[("RPROXY_FILTER_STATUS", "410")]);
    let response = get(proxy.address, "/.env");
    assert_eq!((response.status, &*response.body), (410, "Gone\n"));
    assert_eq!(response.header("proxy-status"), Some("rproxy; error=http_request_denied"));
    let proxy = Proxy::start(responding(|_| ok("served")), &[("RPROXY_FILTER_LOG_ONLY", "true")]);
    assert_eq!(get(proxy.address, "/.env").body, "served");
}

#[test]
fn filter_status_close_sends_no_response() {
    let proxy = Proxy::start(responding(|_| ok("served")), &[("RPROXY_FILTER_STATUS", "close")]);
    for blocked in [
        "GET /.env HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /%2e%67it/config HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /.env HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
    ] {
        // Earlier requests on the connection get their responses.
        let before = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let responses = exchange(proxy.address, format!("{before}{blocked}{before}").as_bytes());
        assert_eq!(responses.matches("HTTP/1.1").count(), 1, "{blocked:?}: {responses}");
        assert!(responses.ends_with("served"), "{responses}");
    }
    // A load balancer would treat a closed connection as a failure.
    let trusting = [("RPROXY_FILTER_STATUS", "close"), ("RPROXY_TRUSTED_PROXIES", "loopback")];
    assert_eq!(get(Proxy::start(responding(|_| ok("served")), &trusting).address, "/.env").status, 404);
    let other = request(proxy.address, "GET /.env HTTP/1.0\r\nhost: a.example, b\r\n\r\n");
    assert_eq!(other.status, 400, "other rejections have a response");
}

#[test]
fn filter_strict_rejects_ambiguous_paths_with_400() {
    let proxy = Proxy::start(responding(|_| ok("served")), &[("RPROXY_FILTER_STRICT", "true")]);
    for (path, status) in
        [("/a/b/", 200), ("/a%20b", 200), ("/a%2Fb", 400), ("/a//b", 400), ("/a;b", 400), ("/.env", 404)]
    {
        assert_eq!(get(proxy.address, path).status, status, "{path}");
    }
}

#[test]
fn applies_the_settings_rate_exempt_and_rate_shadow() {
    let once = [("RPROXY_RATE_LIMIT", "1"), ("RPROXY_RATE_BURST", "1")];
    let with = |setting| Proxy::start(responding(|_| ok("served")), &[once[0], once[1], setting]);
    assert_eq!(statuses(&with(("RPROXY_RATE_EXEMPT", "192.0.2.0/24")), "/"), [200, 429, 429]);
    assert_eq!(statuses(&with(("RPROXY_RATE_EXEMPT", "loopback")), "/"), [200; 3]);
    assert_eq!(statuses(&with(("RPROXY_RATE_SHADOW", "true")), "/"), [200; 3]);
}

#[test]
fn reads_client_ip_from_the_configured_field_of_trusted_proxies() {
    let settings = [("RPROXY_TRUSTED_PROXIES", "loopback"), ("RPROXY_CLIENT_IP_FROM", "CF-Connecting-IP")];
    let head = "GET / HTTP/1.1\r\nHost: a\r\nCF-Connecting-IP: 192.0.2.7\r\nX-Forwarded-For: 6.6.6.6\r\n\
                Connection: close\r\n\r\n";
    let seen = request(Proxy::start(echo(), &settings).address, head).body.to_ascii_lowercase();
    assert!(seen.contains("x-real-ip: 192.0.2.7") && !seen.contains("6.6.6.6"), "{seen}");
    // From other peers, the field is spoofed.
    let seen = request(Proxy::start(echo(), &[]).address, head).body.to_ascii_lowercase();
    assert!(seen.contains("x-real-ip: 127.0.0.1") && !seen.contains("192.0.2.7"), "{seen}");
}

#[test]
fn rejects_request_loop_with_508() {
    let proxy = Proxy::start(echo(), &[]);
    let head = |via: String| format!("GET / HTTP/1.1\r\nHost: a\r\nVia: {via}\r\nConnection: close\r\n\r\n");
    assert_eq!(request(proxy.address, &head("1.1 rproxy, 1.1 rproxy".to_owned())).status, 200);
    let response = request(proxy.address, &head(["1.1 rproxy"; 8].join(", ")));
    assert_eq!((response.status, response.header("proxy-status")), (508, Some("rproxy; error=proxy_loop_detected")));
}

#[test]
fn adds_security_headers_and_hardens_cookies() {
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
    let response = get(Proxy::start(responding(move |_| page()), &settings).address, "/");
    for line in ["content-security-policy: default-src 'none'", "x-frame-options: DENY", "referrer-policy: no-referrer"]
    {
        assert!(response.head.to_ascii_lowercase().contains(&line.to_ascii_lowercase()), "{line} in {}", response.head);
    }
    let cookies: Vec<_> =
        response.head.lines().filter(|line| line.to_ascii_lowercase().starts_with("set-cookie")).collect();
    assert!(cookies[0].ends_with("a=1; SameSite=Lax") && cookies[1].ends_with("b=2; SameSite=None"), "{cookies:?}");
}

#[test]
fn strips_nonce_of_the_client_without_a_nonce_policy() {
    let upstream = responding(|head| {
        let has_nonce = head.to_ascii_lowercase().contains("nonce");
        format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{has_nonce:<5}")
    });
    let proxy = Proxy::start(upstream, &[]);
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-CSP-Nonce: chosen\r\nX_CSP_Nonce: chosen\r\nConnection: close\r\n\r\n";
    assert_eq!(request(proxy.address, head).body, "false");
}

#[test]
fn page_and_content_security_policy_have_the_same_nonce() {
    let upstream = responding(|head| {
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

#[test]
fn adds_no_framing_restrictions_on_embed_paths() {
    let page = || responding(|_| "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 0\r\n\r\n".to_owned());
    let is_embeddable = |settings: &[(&str, &str)], path: &str| {
        let response = get(Proxy::start(page(), settings).address, path);
        assert_eq!(response.status, 200, "{path}");
        let policy = response.header("content-security-policy").unwrap_or_default();
        response.header("x-frame-options").is_none() && !policy.contains("frame-ancestors")
    };
    let strict = ("RPROXY_SECURITY_HEADERS", "strict");
    for (settings, path, expected) in [
        (&[][..], "/post/embed/", true),
        (&[], "/videos/embed/1b2f", true),
        (&[], "/@user/1234/embed", true),
        (&[], "/", false),
        (&[], "/embedded/", false),
        // Another path for a server that decodes the slash.
        (&[("RPROXY_FILTER_ENABLED", "false")], "/embed/..%2fadmin", false),
        (&[strict], "/embed/", false),
        (&[("RPROXY_SECURITY_HEADERS", "recommended,x-frame-options: DENY")], "/embed/", false),
        (&[("RPROXY_CONTENT_SECURITY_POLICY", "frame-ancestors 'none'")], "/embed/", false),
        (&[("RPROXY_EMBED_PATHS", "none")], "/embed/", false),
        (&[("RPROXY_EMBED_PATHS", "/player/**")], "/player/1", true),
        (&[("RPROXY_EMBED_PATHS", "/player/**")], "/embed/", false),
        (&[("RPROXY_EMBED_PATHS", "/player/**"), strict], "/player/1", true),
    ] {
        assert_eq!(is_embeddable(settings, path), expected, "{settings:?} {path}");
    }
}
