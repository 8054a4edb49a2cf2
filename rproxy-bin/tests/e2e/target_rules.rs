//! Tests of redirects, rewrites, fixed responses, canonical hosts and trailing slashes.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use crate::support::upstream::{Nginx, ok, responding};
use crate::support::{Proxy, Response, exchange, request};

/// Starts a backend that responds with the request target.
fn backend() -> SocketAddr {
    responding(|head| ok(head.split(' ').nth(1).unwrap()))
}

fn cacheable_backend() -> SocketAddr {
    responding(|head| {
        let target = head.split(' ').nth(1).unwrap();
        format!("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: {}\r\n\r\n{target}", target.len())
    })
}

fn send(address: SocketAddr, method: &str, host: &str, target: &str) -> Response {
    request(address, &format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
}

struct Site {
    proxy: Proxy,
    path: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Site {
    fn start(file: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rproxy.toml");
        fs::write(&path, file).unwrap();
        let proxy = Proxy::run(&["--config", path.to_str().unwrap()], &[("RPROXY_LISTEN", "127.0.0.1:0")]);
        Self { proxy, path, _folder: folder }
    }

    fn explain(&self, url: &str) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_rproxy"))
            .args(["explain", url, "--config", self.path.to_str().unwrap()])
            .env_clear()
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn rules() -> Site {
    Site::start(&format!(
        r#"
        [[site]]
        hosts = ["example.org", "www.example.org"]
        upstream = "{}"
        canonical_host = "example.org"
        redirects = [
            "/old/** -> /new/{{path}} permanent",
            "/blog/{{year}}/{{slug}} -> https://blog.example/{{slug}}?year={{year}} 303",
            "/tmp -> /var?",
        ]
        responses = ["/robots.txt -> 200 text/plain User-agent: *, x\\nDisallow: /\\n", "/gone/** -> 410"]
        rewrites = ["/app/** -> /{{path}}", "/u/{{id}} -> /profile.php?id={{id}}"]
        trailing_slash = "remove"
          [[site.route]]
          paths = "/api/**"
          redirects = "none"
          trailing_slash = "as-is"
        "#,
        backend()
    ))
}

#[test]
fn site_redirects_responds_and_rewrites_by_its_rules() {
    let site = rules();
    let address = site.proxy.address;
    for (method, host, target, status, location, body) in [
        ("GET", "example.org", "/page?a=b", 200, None, "/page?a=b"),
        ("GET", "www.example.org", "/page?a=b", 301, Some("http://example.org/page?a=b"), "Moved Permanently\n"),
        ("POST", "www.example.org", "/page", 308, Some("http://example.org/page"), "Permanent Redirect\n"),
        (
            "GET",
            "www.example.org",
            "//evil.example/",
            301,
            Some("http://example.org//evil.example/"),
            "Moved Permanently\n",
        ),
        ("GET", "example.org", "/old/a/b?c", 301, Some("/new/a/b?c"), "Moved Permanently\n"),
        ("GET", "example.org", "/old//evil.example", 200, None, "/old//evil.example"),
        ("GET", "example.org", "/old/%2fevil.example", 200, None, "/old/%2fevil.example"),
        ("GET", "example.org", "/blog/2024/a&b", 303, Some("https://blog.example/a&b?year=2024"), "See Other\n"),
        ("GET", "example.org", "/tmp?x", 302, Some("/var"), "Found\n"),
        ("POST", "example.org", "/tmp?x", 307, Some("/var"), "Temporary Redirect\n"),
        ("GET", "example.org", "/robots.txt", 200, None, "User-agent: *, x\nDisallow: /\n"),
        ("POST", "example.org", "/robots.txt", 405, None, "Method Not Allowed\n"),
        ("GET", "example.org", "/gone/x", 410, None, "Gone\n"),
        ("GET", "example.org", "/page/?q", 301, Some("/page?q"), "Moved Permanently\n"),
        ("POST", "example.org", "/page/", 200, None, "/page/"),
        ("GET", "example.org", "/app/x?y", 200, None, "/x?y"),
        ("GET", "example.org", "/u/7?z", 200, None, "/profile.php?id=7"),
        ("GET", "example.org", "/api/x/", 200, None, "/api/x/"),
    ] {
        let response = send(address, method, host, target);
        assert_eq!(response.status, status, "{method} {host} {target}");
        assert_eq!((response.header("location"), &*response.body), (location, body), "{method} {host} {target}");
    }
    let head = exchange(address, b"HEAD /robots.txt HTTP/1.1\r\nhost: example.org\r\nconnection: close\r\n\r\n");
    assert!(head.contains("content-length: 29\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(send(address, "GET", "other.example", "/").status, 404, "an unknown host is not redirected");
}

#[test]
fn explain_names_the_rule_that_responds() {
    let site = rules();
    for (url, expected) in [
        ("https://www.example.org/a", "result: redirected with 301 to https://example.org/a (canonical_host)"),
        (
            "http://example.org/old/a",
            "result: redirected with 301 to /new/a (redirects: /old/** -> /new/{path} permanent)",
        ),
        ("http://example.org/a/", "result: redirected with 301 to /a (trailing_slash)"),
        ("http://example.org/gone/a", "result: answered with 410 (responses: /gone/** -> 410)"),
        ("http://example.org/app/a", "rewritten, the target is /a\n"),
        ("http://example.org/app/a", "result: forwarded as /a"),
        (
            "http://example.org/a",
            "TargetRules      canonical host example.org, redirects: 3, fixed responses: 2, rewrites: 2",
        ),
    ] {
        let text = site.explain(url);
        assert!(text.contains(expected), "{url}: {text}");
    }
}

#[test]
fn rewrite_reaches_no_blocked_path() {
    let rewrites = "/app/** -> /{path}\n/x/{name} -> /.{name}\n/y/{a}/{b} -> /.{a}{b}";
    let proxy = Proxy::start(backend(), &[("RPROXY_REWRITES", rewrites)]);
    for (target, status, body) in [
        ("/app/page", 200, "/page"),
        ("/app/.env", 404, ""),
        ("/app/%2eenv", 404, ""),
        ("/app/.git/config", 404, ""),
        ("/x/env", 404, ""),
        ("/x/%65nv", 404, ""),
        ("/y/en/v", 404, ""),
        ("/y/gi/t", 404, ""),
        ("/x/well", 200, "/.well"),
        // Not rewritten, because servers resolve these paths differently.
        ("/app//page", 200, "/app//page"),
        ("/app/a%2fb", 200, "/app/a%2fb"),
    ] {
        let response = send(proxy.address, "GET", "a", target);
        assert_eq!(response.status, status, "{target}: {}", response.body);
        assert!(status == 404 || response.body == body, "{target}: {}", response.body);
    }
}

#[test]
fn cache_stores_the_response_to_the_rewritten_path() {
    let settings = [("RPROXY_REWRITES", "/a/** -> /static/{path}"), ("RPROXY_CACHE_PATHS", "/static/**")];
    let proxy = Proxy::start(cacheable_backend(), &settings);
    for (target, hit) in [("/a/x", false), ("/static/x", true), ("/a/x", true), ("/a/y", false)] {
        let response = send(proxy.address, "GET", "a", target);
        let status = response.header("cache-status").unwrap_or_default();
        assert_eq!(status.contains("hit"), hit, "{target}: {status}");
        assert!(response.body.starts_with("/static/"), "{target}: {}", response.body);
    }
}

#[test]
fn canonical_host_has_the_scheme_that_a_trusted_proxy_reports() {
    let settings = [("RPROXY_CANONICAL_HOST", "example.org"), ("RPROXY_TRUSTED_PROXIES", "loopback")];
    let proxy = Proxy::start(backend(), &settings);
    for (proto, location) in [("https", "https://example.org/a"), ("http", "http://example.org/a")] {
        let head = format!(
            "GET /a HTTP/1.1\r\nhost: www.example.org\r\nx-forwarded-proto: {proto}\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(request(proxy.address, &head).header("location"), Some(location));
    }
}

#[test]
fn invalid_rules_are_reported_with_the_rule_and_the_reason() {
    for (setting, value, expected) in [
        ("RPROXY_REDIRECTS", "/a -> //evil.example", "the path of the target contains //"),
        ("RPROXY_REDIRECTS", "/{h} -> https://{h}/", "invalid host \"{h}\"; it must be constant"),
        ("RPROXY_REWRITES", "/a -> https://b.example/", "the target of a rewrite must be a path"),
        ("RPROXY_RESPONSES", "/a -> 301", "expected PATTERN -> STATUS"),
        ("RPROXY_CANONICAL_HOST", "https://example.org", "must be a host name without a port"),
        ("RPROXY_TRAILING_SLASH", "both", "neither add, remove nor as-is"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_rproxy"))
            .arg("--check")
            .env_clear()
            .envs([("RPROXY_LISTEN", "127.0.0.1:0"), (setting, value)])
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(setting) && text.contains(expected), "{setting}: {text}");
    }
}

/// The responses of nginx and of rproxy, with the same backend and equivalent settings.
#[test]
fn target_rules_match_those_of_nginx_except_for_hostile_paths() {
    let backend = backend();
    let server = format!(
        "absolute_redirect off;
         if ($host = www.example.org) {{ return 301 $scheme://example.org$request_uri; }}
         location = /gone {{ return 410; }}
         location = /health {{ default_type text/plain; return 200 'ok'; }}
         rewrite ^/old/(.*)$ /new/$1 permanent;
         rewrite ^/moved/(.*)$ https://other.example/$1 redirect;
         location /app/ {{ rewrite ^/app/(.*)$ /$1 break; proxy_pass http://{backend}; }}
         location / {{ proxy_pass http://{backend}; }}"
    );
    let Some(nginx) = Nginx::start(&server) else { return };
    let site = Site::start(&format!(
        r#"
        [[site]]
        hosts = ["example.org", "www.example.org"]
        upstream = "{backend}"
        canonical_host = "example.org"
        redirects = ["/old/** -> /new/{{path}} permanent", "/moved/** -> https://other.example/{{path}}"]
        responses = ["/gone -> 410", "/health -> 200 text/plain ok"]
        rewrites = "/app/** -> /{{path}}"
        "#
    ));
    let own = site.proxy.address;
    for (host, target) in [
        ("www.example.org", "/a?b"),
        ("example.org", "/a?b"),
        ("example.org", "/old/a/b?c"),
        ("example.org", "/old/"),
        ("example.org", "/moved/x?y"),
        ("example.org", "/gone"),
        ("example.org", "/health"),
        ("example.org", "/app/x?y"),
        ("example.org", "/app/"),
    ] {
        let [nginx, own] = [nginx.address, own].map(|address| {
            let response = send(address, "GET", host, target);
            let location = response.header("location").map(str::to_owned);
            (response.status, location, Some(response.body).filter(|_| response.status == 200))
        });
        assert_eq!(own, nginx, "{host} {target}");
    }
    // nginx matches the decoded path with merged slashes. Here, paths that servers resolve differently are not redirected.
    for target in ["/old//evil.example", "/old/%0d%0aset-cookie:a=b", "/old/%5cevil.example"] {
        assert_eq!(send(own, "GET", "example.org", target).header("location"), None, "{target}");
    }
}
