//! Tests of the pages of the operator, for rejections and for errors of the backend.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use crate::running::check;
use crate::support::upstream::{Nginx, ok, read_head, responding, scripted};
use crate::support::{Proxy, Response, connect, curl, get, has, read_response_to, request};

/// The field that Chromium sends when it opens a page.
const BROWSER: &str = "accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n";

/// A folder with pages.
fn pages(pages: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in pages {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn get_with(address: SocketAddr, target: &str, fields: &str) -> Response {
    request(address, &format!("GET {target} HTTP/1.1\r\nhost: app.example\r\n{fields}connection: close\r\n\r\n"))
}

/// A backend whose path is the status of its response, which is compressed and can be stored.
fn failing() -> SocketAddr {
    responding(|head| {
        let status = head.split(' ').nth(1).unwrap().split(['/', '?', '.']).nth(1).unwrap().to_owned();
        format!(
            "HTTP/1.1 {status} Custom\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\ncontent-language: de\r\n\
             etag: \"1\"\r\nlast-modified: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-disposition: attachment\r\n\
             set-cookie: a=1\r\nretry-after: 7\r\nwww-authenticate: Basic\r\naccept-ranges: bytes\r\n\
             cache-control: max-age=60\r\ncontent-length: 7\r\n\r\nbackend"
        )
    })
}

#[test]
fn pages_replace_rejections_over_http_1_and_http_2() {
    let folder = pages(&[
        ("404.html", "<h1>::STATUS:: ::REASON::</h1><p>::REQUEST_ID::</p>"),
        ("5xx.html", "<style>h1{color:red}</style><h1>Oops ::STATUS::</h1>"),
        ("notes.txt", "not a page"),
    ]);
    let settings = [
        ("RPROXY_ERROR_PAGES", folder.path().to_str().unwrap()),
        ("RPROXY_CONTENT_SECURITY_POLICY", "default-src 'none'"),
        ("RPROXY_MAX_BODY", "5"),
        ("RPROXY_ACCESS_LOG", "json"),
    ];
    // No backend listens.
    let proxy = Proxy::start(([127, 0, 0, 1], 1).into(), &settings);
    let response = get_with(proxy.address, "/.env", BROWSER);
    assert_eq!((response.status, response.header("content-type")), (404, Some("text/html; charset=utf-8")));
    assert!(response.body.starts_with("<h1>404 Not Found</h1><p>"), "{}", response.body);
    let id = response.body.split(['<', '>']).nth(6).unwrap();
    assert!(id.len() > 16, "{}", response.body);
    // The page and the access log have the same ID.
    proxy.wait_for_output(id);
    assert_eq!((response.header("cache-control"), response.header("vary")), (Some("no-store"), Some("accept")));
    let policy = response.header("content-security-policy").unwrap();
    assert!(policy.contains("style-src 'self' 'unsafe-inline'") && policy.contains("script-src 'none'"), "{policy}");
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(response.header("proxy-status"), Some("rproxy; error=http_request_denied"));

    let response = get_with(proxy.address, "/", BROWSER);
    assert_eq!((response.status, &*response.body), (502, "<style>h1{color:red}</style><h1>Oops 502</h1>"));
    // Other clients, and statuses without a page.
    assert!(get_with(proxy.address, "/", "accept: application/json\r\n").body.starts_with("{\"type\":"));
    assert_eq!(get_with(proxy.address, "/", "").header("content-type"), Some("text/plain; charset=utf-8"));
    let post = format!("POST / HTTP/1.1\r\nhost: a\r\n{BROWSER}content-length: 9\r\nconnection: close\r\n\r\n");
    let built_in = request(proxy.address, &post);
    assert!(built_in.status == 413 && built_in.body.starts_with("<!doctype html>"), "{}", built_in.body);

    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let url = format!("http://{}/", proxy.address);
        let body = curl(&[version, "-H", "accept: text/html", &url]);
        assert_eq!(body, "<style>h1{color:red}</style><h1>Oops 502</h1>", "{version}");
        let head = curl(&[version, "-I", "-H", "accept: text/html", &url]).to_ascii_lowercase();
        assert!(head.contains("content-length: 45\r\n"), "{version} {head}");
    }
}

#[test]
fn pages_replace_only_listed_errors_of_the_backend() {
    let folder = pages(&[("404.html", "<h1>No page</h1>"), ("5xx.html", "<h1>Oops</h1>")]);
    let settings = [
        ("RPROXY_ERROR_PAGES", folder.path().to_str().unwrap()),
        ("RPROXY_ERROR_PAGES_FOR", "401, 404, 502-503"),
        ("RPROXY_RESPONSES", "/404/fixed -> 404 text/plain fixed"),
    ];
    let proxy = Proxy::start(failing(), &settings);
    for (target, page) in [("/404/a", "<h1>No page</h1>"), ("/502/a", "<h1>Oops</h1>"), ("/503/a", "<h1>Oops</h1>")] {
        let response = get_with(proxy.address, target, &format!("{BROWSER}range: bytes=0-1\r\n"));
        assert_eq!((&*response.body, &response.head[9..12]), (page, &target[1..4]));
        assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!((response.header("cache-control"), response.header("vary")), (Some("no-store"), Some("accept")));
        for name in
            ["content-encoding", "content-language", "etag", "last-modified", "content-disposition", "accept-ranges"]
        {
            assert_eq!(response.header(name), None, "{name}: {}", response.head);
        }
        let kept = ["set-cookie", "retry-after", "www-authenticate"].map(|name| response.header(name));
        assert_eq!(kept, [Some("a=1"), Some("7"), Some("Basic")]);
        assert_eq!(response.header("proxy-status"), None, "it is the backend's error");

        let length = page.len().to_string();
        let mut stream = connect(proxy.address);
        write!(stream, "HEAD {target} HTTP/1.1\r\nhost: a\r\n{BROWSER}connection: close\r\n\r\n").unwrap();
        let head = read_response_to(&mut stream, false).unwrap();
        assert_eq!(head.header("content-length"), Some(&*length));
        let url = format!("http://{}{target}", proxy.address);
        assert_eq!(curl(&["--http2-prior-knowledge", "-H", "accept: text/html", &url]), page);
    }
    let grpc = "content-type: application/grpc\r\n";
    let long = format!("accept: {}text/html\r\n", "a/b,".repeat(1000));
    for (target, fields, varies) in [
        ("/200/a", BROWSER, false),
        ("/403/a", BROWSER, false),
        ("/504/a", BROWSER, false),
        // Without a page.
        ("/401/a", BROWSER, false),
        ("/404/a", "", true),
        ("/404/a", "accept: application/json\r\n", true),
        ("/404/a", &long, true),
        ("/404/a", &format!("{BROWSER}connection: upgrade\r\nupgrade: foo\r\n"), false),
    ] {
        let response = get_with(proxy.address, target, fields);
        assert_eq!((&*response.body, response.header("etag")), ("backend", Some("\"1\"")), "{target} {fields}");
        let vary = response.header("vary").is_some_and(|vary| vary.contains("accept"));
        assert_eq!(vary, varies, "{target} {fields} {}", response.head);
    }
    let call =
        format!("POST /502/a HTTP/1.1\r\nhost: a\r\n{BROWSER}{grpc}content-length: 0\r\nconnection: close\r\n\r\n");
    assert_eq!(request(proxy.address, &call).body, "backend");
    assert_eq!(get_with(proxy.address, "/404/fixed", BROWSER).body, "fixed", "a fixed response of the operator");
}

#[test]
fn rejected_websocket_handshake_keeps_the_response_of_the_backend() {
    let folder = pages(&[("4xx.html", "<h1>No</h1>")]);
    let settings = [("RPROXY_ERROR_PAGES", folder.path().to_str().unwrap()), ("RPROXY_ERROR_PAGES_FOR", "4xx")];
    let proxy = Proxy::start(failing(), &settings);
    let handshake = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let head = format!("GET /403/ws HTTP/1.1\r\nhost: a\r\n{BROWSER}{handshake}\r\n");
    let response = request(proxy.address, &head);
    assert_eq!((response.status, &*response.body), (403, "backend"));
}

#[test]
fn response_of_an_authentication_service_is_not_replaced() {
    let folder = pages(&[("4xx.html", "<h1>No</h1>")]);
    let service = responding(|_| {
        "HTTP/1.1 401 Unauthorized\r\ncontent-type: text/html\r\ncontent-length: 5\r\n\r\nlogin".to_owned()
    });
    let url = format!("http://{service}/");
    let settings = [
        ("RPROXY_ERROR_PAGES", folder.path().to_str().unwrap()),
        ("RPROXY_ERROR_PAGES_FOR", "4xx"),
        ("RPROXY_FORWARD_AUTH", &url),
    ];
    let proxy = Proxy::start(failing(), &settings);
    let response = get_with(proxy.address, "/404/a", BROWSER);
    assert_eq!((response.status, &*response.body), (401, "login"));
}

#[test]
fn cache_stores_the_error_of_the_backend_and_not_the_page() {
    let requests = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&requests);
    let backend = responding(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncache-control: max-age=60\r\ncontent-length: 7\r\n\r\nbackend"
            .to_owned()
    });
    let folder = pages(&[("404.html", "<h1>No page</h1>")]);
    let settings = [
        ("RPROXY_ERROR_PAGES", folder.path().to_str().unwrap()),
        ("RPROXY_ERROR_PAGES_FOR", "404"),
        ("RPROXY_CACHE_PATHS", "/**"),
    ];
    let proxy = Proxy::start(backend, &settings);
    // The first response is replaced while it is stored.
    for (fields, body) in
        [(BROWSER, "<h1>No page</h1>"), ("", "backend"), (BROWSER, "<h1>No page</h1>"), ("", "backend")]
    {
        assert_eq!(get_with(proxy.address, "/missing", fields).body, body);
    }
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[test]
fn connection_to_the_backend_is_used_again_after_a_small_error() {
    let connections = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&connections);
    let backend = scripted(move |mut stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        while let Some(head) = read_head(&mut stream) {
            let response = match head.starts_with("GET /large ") {
                true => format!("HTTP/1.1 500 Error\r\ncontent-length: 10000000\r\n\r\n{}", "x".repeat(100)),
                false => "HTTP/1.1 500 Error\r\ncontent-length: 5\r\n\r\nerror".to_owned(),
            };
            if stream.write_all(response.as_bytes()).is_err() {
                return;
            }
        }
    });
    let folder = pages(&[("500.html", "<h1>Oops</h1>")]);
    let settings = [
        ("RPROXY_ERROR_PAGES", folder.path().to_str().unwrap()),
        ("RPROXY_ERROR_PAGES_FOR", "500"),
        ("RPROXY_WORKERS", "1"),
    ];
    let proxy = Proxy::start(backend, &settings);
    for _ in 0..3 {
        assert_eq!(get_with(proxy.address, "/", BROWSER).body, "<h1>Oops</h1>");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    // Content that does not end does not delay the page.
    assert_eq!(get_with(proxy.address, "/large", BROWSER).body, "<h1>Oops</h1>");
    assert_eq!(get_with(proxy.address, "/", BROWSER).body, "<h1>Oops</h1>");
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

#[test]
fn routes_have_pages_of_their_own_and_a_reload_reads_them_again() {
    let (site, route) = (pages(&[("404.html", "site")]), pages(&[("404.html", "route")]));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("rproxy.toml");
    let text = format!(
        "listen = '127.0.0.1:0'\nupstream = '{}'\nerror_pages = '{}'\nerror_pages_for = '404'\n\
         [[route]]\npaths = '/404/own/**'\nerror_pages = '{}'\n\
         [[route]]\npaths = '/404/backend/**'\nerror_pages_for = 'none'\n\
         [[route]]\npaths = '/404/none/**'\nerror_pages = 'none'\n",
        failing(),
        site.path().display(),
        route.path().display()
    );
    fs::write(&config, text).unwrap();
    let proxy = Proxy::run(&["--config", config.to_str().unwrap()], &[]);
    let bodies = || {
        ["/404/", "/404/own/", "/404/backend/", "/404/none/"]
            .map(|target| get_with(proxy.address, target, BROWSER).body)
    };
    assert_eq!(bodies(), ["site", "route", "backend", "backend"]);

    fs::write(site.path().join("404.html"), "changed").unwrap();
    proxy.signal("HUP");
    proxy.wait_for_log("reloaded: changed files of default");
    assert_eq!(bodies(), ["changed", "route", "backend", "backend"]);

    fs::write(site.path().join("50x.html"), "").unwrap();
    proxy.signal("HUP");
    let line = proxy.wait_for_log("reload failed");
    assert!(line.contains("50x.html is not the name of an error page"), "{line}");
    assert_eq!(bodies(), ["changed", "route", "backend", "backend"], "a reload with an error changes nothing");
}

#[test]
fn check_shows_the_pages_and_reports_bad_values() {
    let folder = pages(&[("404.html", ""), ("5xx.html", "")]);
    let path = folder.path().to_str().unwrap();
    let (code, text) = check(&[("RPROXY_ERROR_PAGES", path), ("RPROXY_ERROR_PAGES_FOR", "502-504")]);
    let expected = format!("; pages 404, 5xx of {path}, also for 502-504 of the backend\n");
    assert!(code == Some(0) && text.contains(&expected), "{text}");
    for (name, value, says) in [
        ("RPROXY_ERROR_PAGES", "/missing", "cannot read the folder of error pages /missing"),
        ("RPROXY_ERROR_PAGES_FOR", "302", "bad status \"302\": expected a status from 400 to 599"),
    ] {
        let (code, text) = check(&[(name, value)]);
        assert!(code == Some(2) && text.contains(name) && text.contains(says), "{text}");
    }
}

/// The same pages in nginx and in rproxy, for rejections and errors of the same backend.
#[test]
fn pages_match_those_of_nginx() {
    let folder = pages(&[("404.html", "<h1>No page</h1>"), ("5xx.html", "<h1>Oops</h1>")]);
    let (path, backend) = (folder.path().to_str().unwrap(), failing());
    let server = format!(
        "error_page 404 /errors/404.html;
         error_page 500 502 503 504 /errors/5xx.html;
         location /errors/ {{ internal; alias {path}/; default_type 'text/html; charset=utf-8'; types {{ }} }}
         location / {{ proxy_pass http://{backend}; proxy_intercept_errors on; }}
         location /down/ {{ proxy_pass http://127.0.0.1:1; }}
         location /.env {{ return 404; }}"
    );
    let Some(nginx) = Nginx::start(&server) else { return };
    let config = folder.path().join("rproxy.toml");
    let text = format!(
        "listen = '127.0.0.1:0'\nupstream = '{backend}'\nerror_pages = '{path}'\nerror_pages_for = '404, 500, 502-504'\n\
         [[route]]\npaths = '/down/**'\nupstream = '127.0.0.1:1'\n"
    );
    fs::write(&config, text).unwrap();
    let proxy = Proxy::run(&["--config", config.to_str().unwrap()], &[]);
    for (target, expected) in [
        ("/404/a", "<h1>No page</h1>"),
        ("/500/a", "<h1>Oops</h1>"),
        ("/503/a", "<h1>Oops</h1>"),
        ("/403/a", "backend"),
        ("/200/a", "backend"),
        ("/down/", "<h1>Oops</h1>"),
        ("/.env", "<h1>No page</h1>"),
    ] {
        let [nginx, own] = [nginx.address, proxy.address].map(|address| {
            let response = get_with(address, target, BROWSER);
            (response.status, response.body.clone(), response.header("content-type").map(str::to_owned))
        });
        assert_eq!(own, nginx, "{target}");
        assert_eq!(own.1, expected, "{target}");
    }
    // nginx sends its pages to all clients, rproxy only to those that prefer HTML.
    let json = "accept: application/json\r\n";
    assert_eq!(get_with(nginx.address, "/404/a", json).body, "<h1>No page</h1>");
    assert_eq!(get_with(proxy.address, "/404/a", json).body, "backend");
}

#[test]
fn chromium_applies_the_style_of_a_page_and_runs_no_script() {
    if !has("chromium") {
        return;
    }
    let page = "<!doctype html><style>h1{width:123px}</style><h1>::STATUS::</h1><img src='/style.png'><script>document.title='ran'</script>";
    let folder = pages(&[("404.html", page)]);
    let settings = [
        ("RPROXY_ERROR_PAGES", folder.path().to_str().unwrap()),
        ("RPROXY_CONTENT_SECURITY_POLICY", "default-src 'none'"),
    ];
    let proxy = Proxy::start(responding(|_| ok("")), &settings);
    let screen = tempfile::tempdir().unwrap();
    let open = |arguments: &[&str]| {
        let output = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .arg(format!("--user-data-dir={}", screen.path().display()))
            .args(arguments)
            .arg(format!("http://{}/.env", proxy.address))
            .output()
            .unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let text = open(&["--enable-logging=stderr", "--dump-dom"]);
    assert!(text.contains("<h1>404</h1>"), "{text}");
    assert!(!text.contains("ran</title>"), "{text}");
    assert!(text.contains("inline script violates"), "the console shows what the policy blocks: {text}");
    assert!(!text.contains("inline style"), "the policy of the site blocks the style: {text}");
    assert!(get(proxy.address, "/").status == 200);
}
