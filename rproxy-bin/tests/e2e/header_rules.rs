//! Tests of the rules for header fields, in requests to the backend and in all responses.

use std::fs;
use std::process::Command;

use crate::support::upstream::{Nginx, echo, responding};
use crate::support::{Proxy, Response, get, request};

fn cacheable() -> String {
    "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\netag: \"1\"\r\nx-debug-time: 7\r\ncontent-length: 2\r\n\r\nok"
        .to_owned()
}

/// Sends a GET request with further fields.
fn get_with(proxy: &Proxy, target: &str, fields: &str) -> Response {
    request(proxy.address, &format!("GET {target} HTTP/1.1\r\nhost: a\r\n{fields}connection: close\r\n\r\n"))
}

#[test]
fn backend_receives_request_headers_instead_of_spoofed_ones() {
    let rules = "Remote-User: proxy, X-Key: a, b, +X-Tag: 2, ?X-Default: 1, -X-Debug-*, -Accept-Language";
    let proxy = Proxy::start(echo(), &[("RPROXY_REQUEST_HEADERS", rules)]);
    let spoofed =
        "Remote-User: root\r\nX-Key: mine\r\nX-Tag: 1\r\nX-Default: 0\r\nX-Debug-A: 1\r\nAccept-Language: de\r\n";
    let received = get_with(&proxy, "/", spoofed).body.to_ascii_lowercase();
    for line in ["remote-user: proxy", "x-key: a, b", "x-tag: 1", "x-tag: 2", "x-default: 0"] {
        assert!(received.lines().any(|other| other == line), "{line} in {received}");
    }
    for name in ["root", "mine", "x-debug", "accept-language"] {
        assert!(!received.contains(name), "{name} in {received}");
    }
    assert!(get(proxy.address, "/").body.to_ascii_lowercase().contains("x-default: 1"));
}

#[test]
fn response_headers_apply_to_every_final_response() {
    let rules = "X-Frame-Options: DENY\nServer: example\n-X-Debug-*\n-Proxy-Status";
    let proxy = Proxy::start(responding(|_| cacheable()), &[("RPROXY_RESPONSE_HEADERS", rules)]);
    let revalidation = "If-None-Match: \"1\"\r\n";
    for (target, fields, status) in [
        ("/page", "", 200),
        ("/static/a.css", "", 200),
        ("/static/a.css", "", 200),
        ("/static/a.css", revalidation, 304),
        ("/.env", "", 404),
        ("/garbage", "Content-Length: 1\r\nContent-Length: 2\r\n", 400),
    ] {
        let response = get_with(&proxy, target, fields);
        assert_eq!(response.status, status, "{target}");
        assert_eq!(response.header("x-frame-options"), Some("DENY"), "{target}: {}", response.head);
        assert_eq!(response.header("server"), Some("example"), "{target}: {}", response.head);
        assert!(
            !response.head.contains("x-debug-time") && !response.head.contains("proxy-status"),
            "{}",
            response.head
        );
    }
}

#[test]
fn route_replaces_or_clears_the_header_rules_of_its_site() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rproxy.toml");
    let file = format!(
        r#"
        upstream = "{}"
        response_headers = ["X-Site: a, b", "X-Scope: site"]
        [[route]]
        paths = "/own/**"
        response_headers = ["X-Scope: route, x-site: 1"]
        [[route]]
        paths = "/none/**"
        response_headers = "none"
        "#,
        responding(|_| cacheable())
    );
    fs::write(&path, file).unwrap();
    let proxy = Proxy::run(&["--config", path.to_str().unwrap()], &[("RPROXY_LISTEN", "127.0.0.1:0")]);
    for (target, site, scope) in
        [("/", Some("a, b"), Some("site")), ("/own/x", None, Some("route, x-site: 1")), ("/none/x", None, None)]
    {
        let response = get(proxy.address, target);
        assert_eq!((response.header("x-site"), response.header("x-scope")), (site, scope), "{target}");
    }
}

#[test]
fn check_reports_reserved_fields_and_hides_values_of_request_headers() {
    let check = |settings: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_rproxy"))
            .arg("--check")
            .env_clear()
            .envs([("RPROXY_LISTEN", "127.0.0.1:0")].iter().chain(settings).copied())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code(), text)
    };
    let (code, text) = check(&[("RPROXY_REQUEST_HEADERS", "X-A: 1,X-Forwarded-For: 192.0.2.1")]);
    assert!(
        code == Some(2) && text.contains("RPROXY_REQUEST_HEADERS") && text.contains("\"x-forwarded-for\""),
        "{text}"
    );
    let (code, text) = check(&[
        ("RPROXY_REQUEST_HEADERS", "Authorization: Basic c2VjcmV0"),
        ("RPROXY_RESPONSE_HEADERS", "X-A: 1,-X-B"),
    ]);
    assert!(text.contains("HeaderRules      requests: authorization"), "{code:?} {text}");
    assert!(text.contains("HeaderRules      responses: x-a, -x-b"), "{text}");
    assert!(!text.contains("c2VjcmV0"), "{text}");
}

/// The header fields of a response in nginx and in rproxy, with the same backend and equivalent settings.
#[test]
fn header_rules_match_those_of_nginx() {
    let backend = responding(|head| {
        let seen: String = head.lines().filter(|line| line.to_ascii_lowercase().starts_with("x-env")).collect();
        let status = if head.starts_with("GET /missing ") { "404 Not Found" } else { "200 OK" };
        format!("HTTP/1.1 {status}\r\nx-secret: 1\r\nx-seen: {seen}\r\ncontent-length: 2\r\n\r\nok")
    });
    let server = format!(
        "location / {{
            proxy_pass http://{backend};
            proxy_set_header X-Env production;
            proxy_set_header X-Removed '';
            proxy_hide_header X-Secret;
            add_header X-Added one always;
        }}"
    );
    let Some(nginx) = Nginx::start(&server) else { return };
    let settings = [
        ("RPROXY_REQUEST_HEADERS", "X-Env: production,-X-Removed"),
        ("RPROXY_RESPONSE_HEADERS", "-X-Secret,+X-Added: one"),
    ];
    let proxy = Proxy::start(backend, &settings);
    for target in ["/", "/missing"] {
        let head =
            format!("GET {target} HTTP/1.1\r\nhost: a\r\nX-Env: spoofed\r\nX-Removed: 1\r\nconnection: close\r\n\r\n");
        let [nginx, own] = [nginx.address, proxy.address].map(|address| {
            let response = request(address, &head);
            let seen = response.header("x-seen").map(str::to_ascii_lowercase);
            let field = |name| response.header(name).map(str::to_owned);
            (response.status, seen, field("x-added"), field("x-secret"))
        });
        assert_eq!(own, nginx, "{target}");
        assert_eq!(own.1.as_deref(), Some("x-env: production"), "{target}");
    }
}
