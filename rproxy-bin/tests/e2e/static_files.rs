//! Tests of files that the proxy serves itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::upstream::{Nginx, echo, ok, responding};
use crate::support::{Proxy, Response, curl, exchange, has, request};

const BROWSER: &str = "accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";

/// A folder `www` to serve, beside files that must not be served.
pub(crate) struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        for (name, content) in [
            ("www/index.html", "<p>home"),
            ("www/docs/index.html", "<p>docs"),
            ("www/app.css", &"p { margin: 0 }\n".repeat(100)),
            ("www/app.js", "plain script"),
            ("www/app.js.gz", "gzip script"),
            ("www/photo.png", "png"),
            ("www/.env", "secret"),
            ("www/.git/config", "secret"),
            ("www/.well-known/security.txt", "contact"),
            ("private/report.pdf", "report"),
            ("secret.txt", "secret"),
        ] {
            files.write(name, content);
        }
        symlink("../secret.txt", files.path("www/out.txt")).unwrap();
        symlink("..", files.path("www/up")).unwrap();
        symlink(".git", files.path("www/git")).unwrap();
        symlink("docs", files.path("www/manual")).unwrap();
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    /// Starts a proxy with a configuration file, in which `FOLDER` is the folder.
    pub(crate) fn start(&self, file: &str) -> Proxy {
        self.write("rproxy.toml", &file.replace("FOLDER", self.folder.path().to_str().unwrap()));
        let path = self.path("rproxy.toml");
        Proxy::run(&["--config", path.to_str().unwrap()], &[("RPROXY_LISTEN", "127.0.0.1:0")])
    }

    fn command(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let path = self.path("rproxy.toml");
        let output = Command::new(env!("CARGO_BIN_EXE_rproxy"))
            .args(arguments)
            .args(["--config", path.to_str().unwrap()])
            .env_clear()
            .env("RPROXY_LISTEN", "127.0.0.1:0")
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    }
}

pub(crate) fn send(proxy: &Proxy, target: &str, fields: &str) -> Response {
    request(proxy.address, &format!("GET {target} HTTP/1.1\r\nhost: a.example\r\n{fields}connection: close\r\n\r\n"))
}

#[test]
fn root_without_an_upstream_serves_files_only() {
    let files = Files::new();
    let proxy = files.start("root = 'FOLDER/www'");
    for (target, status, body) in [
        ("/", 200, "<p>home"),
        ("/docs/", 200, "<p>docs"),
        ("/manual/", 200, "<p>docs"),
        ("/app.js?v=1", 200, "plain script"),
        ("/.well-known/security.txt", 200, "contact"),
    ] {
        let response = send(&proxy, target, "");
        assert_eq!((response.status, response.body.as_str()), (status, body), "{target}");
        assert_eq!(response.header("cache-status"), None, "{}", response.head);
    }
    let redirect = send(&proxy, "/docs?a", "");
    assert_eq!((redirect.status, redirect.header("location")), (301, Some("./docs/?a")));
    let missing = send(&proxy, "/missing", BROWSER);
    assert_eq!(missing.status, 404);
    assert!(missing.header("content-type").is_some_and(|text| text.starts_with("text/html")), "{}", missing.head);
    assert!(missing.header("proxy-status").is_some(), "{}", missing.head);
    let post = "POST /app.js HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let post = request(proxy.address, post);
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")));
    let head = exchange(proxy.address, b"HEAD /app.js HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
    assert!(head.contains("content-length: 12\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(!proxy.log().contains("127.0.0.1:3000"), "{}", proxy.log());

    let (code, report) = files.command(&["--check"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("StaticFiles      ") && !report.contains("Upstream         "), "{report}");
    assert!(report.contains("# upstream = ") && !report.contains("\nupstream = "), "{report}");
    for (url, expected) in [
        ("http://a.example/app.js", "result: answered with 200 (a file of root)"),
        ("http://a.example/docs", "result: redirected with 301 to ./docs/ (a folder of root)"),
        ("http://a.example/missing", "result: rejected with 404 (no_file)"),
    ] {
        let (_, explanation) = files.command(&["explain", url]);
        assert!(explanation.contains(expected), "{explanation}");
    }
}

#[test]
fn files_come_before_the_upstream() {
    let files = Files::new();
    let upstream = responding(|head| ok(head.split("\r\n").next().unwrap()));
    let proxy = files.start(&format!(
        "upstream = '{upstream}'\nroot = 'FOLDER/www'\n\
         [[route]]\npaths = '/assets/**'\nstrip_prefix = '/assets'\n\
         [[route]]\npaths = '/api/**'\nroot = 'none'"
    ));
    for (target, body) in [
        ("/app.js", "plain script"),
        ("/missing", "GET /missing HTTP/1.1"),
        ("/app.js/more", "GET /app.js/more HTTP/1.1"),
        ("/git/config", "GET /git/config HTTP/1.1"),
        ("/assets/app.js", "plain script"),
        ("/assets/docs/", "<p>docs"),
        ("/assets/missing", "GET /missing HTTP/1.1"),
        ("/api/app.js", "GET /api/app.js HTTP/1.1"),
    ] {
        assert_eq!(send(&proxy, target, "").body, body, "{target}");
    }
    assert_eq!(send(&proxy, "/assets/docs", "").header("location"), Some("./docs/"));
    let post = "POST /app.js HTTP/1.1\r\nhost: a.example\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
    assert_eq!(request(proxy.address, post).body, "POST /app.js HTTP/1.1");
}

#[test]
fn traversal_never_leads_to_a_file_outside_of_the_root() {
    if !has("curl") {
        return;
    }
    let files = Files::new();
    // Without the filter for sensitive paths, which rejects some of them earlier.
    let proxy = files.start("root = 'FOLDER/www'\nfilter_enabled = false\nrate_limit_enabled = false");
    for target in [
        "/../secret.txt",
        "/docs/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%2fsecret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/%252e%252e/secret.txt",
        "/%252e%252e%252fsecret.txt",
        "/%25252e%25252e/secret.txt",
        "/%c0%ae%c0%ae/secret.txt",
        "/%e0%80%ae%e0%80%ae/secret.txt",
        "/%uff0e%uff0e/secret.txt",
        "/..;/secret.txt",
        "/;/../secret.txt",
        "/docs/..%00/secret.txt",
        "/app.js%00.png",
        "/app.js%0d%0a",
        "//secret.txt",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/out.txt",
        "/up/secret.txt",
        "/up/www/app.js",
        "/git/config",
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/docs/../.env",
        "/.well-known/../.env",
        "/docs%2findex.html",
        "/docs%5cindex.html",
        "/docs/index.html/",
        "/docs/index.html%20",
    ] {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let url = format!("http://{}{target}", proxy.address);
            let text = curl(&[version, "--path-as-is", "-i", &url]);
            let status = text.split(' ').nth(1).unwrap_or_default();
            assert!(matches!(status, "400" | "404"), "{version} {target}: {text}");
            assert!(!text.contains("secret\n") && !text.ends_with("secret") && !text.contains("root:"), "{text}");
        }
    }
}

#[test]
fn fallback_serves_browsers_at_paths_of_the_application() {
    let files = Files::new();
    let upstream = responding(|_| ok("upstream"));
    let file = format!("upstream = '{upstream}'\nroot = 'FOLDER/www'\nroot_fallback = 'index.html'");
    let proxy = files.start(&file);
    for (target, fields, body) in [
        ("/users/7", BROWSER, "<p>home"),
        ("/users/7", "accept: application/json\r\n", "upstream"),
        ("/missing.css", BROWSER, "upstream"),
        ("/app.js", BROWSER, "plain script"),
    ] {
        assert_eq!(send(&proxy, target, fields).body, body, "{target} {fields}");
    }
    let (_, explanation) = files.command(&["explain", "http://a.example/users/7"]);
    assert!(explanation.contains("result: answered with 200 (root_fallback)"), "{explanation}");
    let proxy = files.start("root = 'FOLDER/www'\nroot_fallback = 'index.html'");
    assert_eq!(send(&proxy, "/missing.css", BROWSER).status, 404);
}

#[test]
fn variants_conditions_and_ranges_agree_with_compression() {
    if !has("curl") {
        return;
    }
    let files = Files::new();
    let proxy = files.start("root = 'FOLDER/www'");
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let head = |path: &str, fields: &[&str]| {
            let fields: Vec<&str> = fields.iter().flat_map(|field| ["-H", field]).collect();
            let url = format!("http://{}{path}", proxy.address);
            curl(&[&[version, "-D", "-", "-o", "/dev/null"][..], &fields, &[&url]].concat())
        };
        let field = |head: &str, name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::trim));
            line.unwrap_or_default().to_owned()
        };
        // A variant in the folder.
        let gzip = head("/app.js", &["accept-encoding: gzip, br"]);
        assert_eq!(field(&gzip, "content-encoding"), "gzip", "{gzip}");
        assert_eq!(field(&gzip, "vary"), "accept-encoding", "{gzip}");
        assert_eq!(field(&gzip, "content-length"), "11", "{gzip}");
        let tag = field(&gzip, "etag");
        assert!(tag.ends_with(".gz\""), "{gzip}");
        let same = head("/app.js", &["accept-encoding: gzip, br", &format!("if-none-match: {tag}")]);
        assert!(same.contains(" 304") && field(&same, "etag") == tag, "{same}");
        let other = head("/app.js", &[&format!("if-none-match: {tag}")]);
        assert!(other.contains(" 200") && field(&other, "etag") != tag, "{other}");
        // Compressed by the layer.
        let brotli = head("/app.css", &["accept-encoding: gzip, br"]);
        assert_eq!(field(&brotli, "content-encoding"), "br", "{brotli}");
        assert_eq!(field(&brotli, "vary"), "accept-encoding", "{brotli}");
        let tag = field(&brotli, "etag");
        assert!(tag.ends_with("-br\""), "{brotli}");
        let same = head("/app.css", &["accept-encoding: gzip, br", &format!("if-none-match: {tag}")]);
        assert!(same.contains(" 304") && field(&same, "etag") == tag, "{same}");
        let part = head("/app.css", &["accept-encoding: gzip, br", "range: bytes=0-3"]);
        assert!(part.contains(" 206") && field(&part, "content-range") == "bytes 0-3/1600", "{part}");
        let whole = head("/app.css", &["range: bytes=0-3", &format!("if-range: {tag}")]);
        assert!(whole.contains(" 200") && field(&whole, "content-length") == "1600", "{whole}");
    }
}

#[test]
fn files_get_lifetimes_and_are_not_stored_by_the_cache() {
    let files = Files::new();
    let proxy = files.start(&format!(
        "upstream = '{}'\nroot = 'FOLDER/www'\ncache_paths = '/**'\ncache_ttl = '/**=1h'\ncache_heuristic = true",
        echo()
    ));
    for _ in 0..2 {
        let response = send(&proxy, "/app.css", "");
        assert_eq!(response.header("cache-control"), Some("max-age=3600"), "{}", response.head);
        let status = response.header("cache-status").unwrap_or_default();
        assert!(!status.contains("stored") && !status.contains("hit"), "{}", response.head);
    }
    files.write("www/app.css", "changed");
    assert_eq!(send(&proxy, "/app.css", "").body, "changed");
    assert!(send(&proxy, "/other", "").header("cache-status").unwrap().contains("stored"));
}

#[test]
fn reload_changes_the_root_or_keeps_it_after_an_error() {
    let files = Files::new();
    files.write("next/index.html", "<p>next");
    let proxy = files.start("root = 'FOLDER/www'");
    assert_eq!(send(&proxy, "/", "").body, "<p>home");
    let next = files.path("next");
    files.write("rproxy.toml", &format!("root = '{}'", next.display()));
    proxy.signal("HUP");
    proxy.wait_for_log("reloaded");
    assert_eq!(send(&proxy, "/", "").body, "<p>next");
    files.write("rproxy.toml", "root = '/missing/folder'");
    proxy.signal("HUP");
    let error = proxy.wait_for_log("reload failed");
    assert!(error.contains("root: cannot open the folder /missing/folder"), "{error}");
    assert_eq!(send(&proxy, "/", "").body, "<p>next");
}

#[test]
fn check_names_the_setting_of_an_unusable_root() {
    let files = Files::new();
    for (file, expected) in [
        ("root = 'FOLDER/missing'", "root: cannot open the folder FOLDER/missing: No such file or directory"),
        ("root = 'FOLDER/secret.txt'", "root: cannot open the folder FOLDER/secret.txt: Not a directory"),
        ("root = 'FOLDER/www'\nroot_fallback = 'a.html'", "root_fallback: cannot open the fallback FOLDER/www/a.html"),
        ("root = 'FOLDER/www'\nroot_fallback = '../secret.txt'", "root_fallback: bad fallback \"../secret.txt\""),
        ("sendfile_root = 'FOLDER/missing'", "sendfile_root: cannot open the folder FOLDER/missing"),
        ("sendfile_root = 'FOLDER'\nsendfile_prefix = 'protected'", "the prefix must begin with /"),
    ] {
        let folder = files.folder.path().to_str().unwrap();
        files.write("rproxy.toml", &file.replace("FOLDER", folder));
        let (code, text) = files.command(&["--check"]);
        assert_eq!(code, Some(2), "{file}: {text}");
        assert!(text.contains(&expected.replace("FOLDER", folder)), "{file}: {text}");
    }
}

#[test]
fn large_download_takes_no_memory() {
    if !has("curl") {
        return;
    }
    let files = Files::new();
    fs::File::create(files.path("www/large.bin")).unwrap().set_len(100 << 20).unwrap();
    let proxy = files.start("root = 'FOLDER/www'\nworkers = 1");
    let memory = || {
        let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let url = format!("http://{}", proxy.address);
    curl(&["-o", "/dev/null", &format!("{url}/app.js")]);
    let before = memory();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let size = curl(&[version, "-o", "/dev/null", "-w", "%{size_download}", &format!("{url}/large.bin")]);
        assert_eq!(size, (100 << 20).to_string());
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < 10_000, "{grown} kB more than {before} kB");
}

/// The parts of a response that are compared with nginx.
fn compared(response: &Response) -> String {
    let fields = ["content-length", "content-range", "last-modified", "content-encoding"];
    let fields = fields.map(|name| response.header(name).map_or(String::new(), |value| format!(" {name}={value}")));
    let media_type = response.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
    // RFC 9239 §6
    let media_type = if media_type == "application/javascript" { "text/javascript" } else { media_type };
    let media_type = if response.status < 300 { media_type } else { "" };
    let body = if response.status < 300 { response.body.as_str() } else { "" };
    format!("{} {media_type}{} {body}", response.status, fields.concat())
}

#[test]
fn responses_are_those_of_nginx_except_for_documented_differences() {
    let Some(nginx) = Nginx::start("include /etc/nginx/mime.types; gzip_static on;") else { return };
    let files = Files::new();
    copy(&files.path("www"), nginx.folder.path());
    symlink(files.path("secret.txt"), nginx.folder.path().join("absolute.txt")).unwrap();
    let proxy = files.start(&format!("root = '{}'\ncompression = false", nginx.folder.path().display()));
    let modified = send(&proxy, "/app.js", "").header("last-modified").unwrap().to_owned();
    let since = format!("if-modified-since: {modified}\r\n");
    let unmodified = format!("if-unmodified-since: {modified}\r\n");
    let if_range = format!("range: bytes=0-3\r\nif-range: {modified}\r\n");
    let earlier = "if-unmodified-since: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let same = [
        ("/", ""),
        ("/index.html", ""),
        ("/docs/", ""),
        ("/manual/", ""),
        ("/app.css", ""),
        ("/app.js", ""),
        ("/app.js", "accept-encoding: gzip\r\n"),
        ("/photo.png", ""),
        ("/app.js", "range: bytes=0-3\r\n"),
        ("/app.js", "range: bytes=6-\r\n"),
        ("/app.js", "range: bytes=-6\r\n"),
        ("/app.js", "range: bytes=0-999\r\n"),
        ("/app.js", "if-none-match: \"other\"\r\n"),
        ("/app.js", "if-none-match: *\r\n"),
        ("/app.js", "if-match: \"other\"\r\n"),
        ("/app.js", &since),
        ("/app.js", &unmodified),
        ("/app.js", earlier),
        ("/app.js", &if_range),
        ("/app.js", "range: bytes=0-3\r\nif-range: \"other\"\r\n"),
        ("/missing", ""),
        ("/docs/missing/", ""),
        ("/app.js/", ""),
        ("/app%2ejs", ""),
    ];
    for (target, fields) in same {
        let ours = compared(&send(&proxy, target, fields));
        let line = format!("GET {target} HTTP/1.1\r\nhost: a.example\r\n{fields}connection: close\r\n\r\n");
        let theirs = request(nginx.address, &line);
        // nginx has a body in error responses, and says that ranges of it are possible.
        let is_error = theirs.status >= 300;
        let theirs = if is_error { format!("{} ", theirs.status) } else { compared(&theirs) };
        let ours = if is_error { ours[..4].to_owned() } else { ours };
        assert_eq!(ours, theirs, "{target} {fields}");
    }
    // The page about static files explains each of them.
    for (target, fields, ours, theirs) in [
        ("/docs", "", 301, 301),
        ("/app.js", "range: bytes=0-0,2-2\r\n", 200, 206),
        ("/app.js", "range: bytes=nonsense\r\n", 200, 416),
        ("/app.js", "if-modified-since: Tue, 31 Dec 2999 23:59:59 GMT\r\n", 304, 200),
        ("/absolute.txt", "", 404, 200),
        ("/git/config", "", 404, 200),
        ("/.env", "", 404, 200),
        ("/docs//index.html", "", 404, 200),
        ("/docs%2findex.html", "", 404, 200),
    ] {
        let line = format!("GET {target} HTTP/1.1\r\nhost: a.example\r\n{fields}connection: close\r\n\r\n");
        let statuses = (send(&proxy, target, fields).status, request(nginx.address, &line).status);
        assert_eq!(statuses, (ours, theirs), "{target} {fields}");
    }
}

/// Copies a folder with its symbolic links and times.
fn copy(from: &Path, to: &Path) {
    let from = format!("{}/.", from.display());
    assert!(Command::new("cp").args(["-a", &from, to.to_str().unwrap()]).status().unwrap().success());
}

#[test]
fn response_in_place_of_the_fallback_varies_by_accept() {
    let backend = responding(|_| ok("json"));
    let files = Files::new();
    let proxy = files.start(&format!(
        "upstream = '{backend}'\nroot = 'FOLDER/www'\nroot_fallback = 'index.html'\ncache_paths = '/**'\ncache_ttl = '/**=1h'"
    ));
    // It is stored, and must not be the response to a browser.
    let api = send(&proxy, "/users/7", "accept: */*\r\n");
    assert_eq!((&*api.body, api.header("vary")), ("json", Some("accept")));
    assert_eq!(send(&proxy, "/users/7", BROWSER).body, "<p>home");
    // The fallback is only for paths without a dot.
    assert_eq!(send(&proxy, "/users.json", "accept: */*\r\n").header("vary"), None);
}

#[test]
fn folder_is_served_without_a_redirect_where_the_redirect_would_be_wrong() {
    let files = Files::new();
    let proxy = files.start("root = 'FOLDER/www'\ntrailing_slash = 'remove'");
    let redirect = send(&proxy, "/docs/", "");
    assert_eq!((redirect.status, redirect.header("location")), (301, Some("/docs")));
    let docs = send(&proxy, "/docs", "");
    assert_eq!((docs.status, &*docs.body), (200, "<p>docs"));
    // The client does not see the rewritten path.
    let proxy = files.start("root = 'FOLDER/www'\nrewrites = '/help/{id} -> /docs?id={id}'");
    let docs = send(&proxy, "/help/7", "");
    assert_eq!((docs.status, &*docs.body), (200, "<p>docs"));
    assert_eq!(send(&proxy, "/docs", "").header("location"), Some("./docs/"));
}

#[test]
fn lifetime_and_compression_of_files_do_not_depend_on_credentials() {
    let files = Files::new();
    let proxy = files.start("root = 'FOLDER/www'\ncache_ttl = '/**=1h'\ncompression_private = 'false'");
    for credentials in ["", "cookie: a=b\r\n", "x-api-key: 1\r\n"] {
        let css = send(&proxy, "/app.css", &format!("accept-encoding: gzip\r\n{credentials}"));
        assert_eq!(css.header("cache-control"), Some("max-age=3600"), "{credentials}");
        assert_eq!(css.header("content-encoding"), Some("gzip"), "{credentials}");
    }
}

#[test]
fn file_of_a_reproducible_image_has_no_validators() {
    let files = Files::new();
    for seconds in ["@0", "@1"] {
        let path = files.path("www/photo.png");
        assert!(Command::new("touch").args(["-d", seconds]).arg(&path).status().unwrap().success());
        let proxy = files.start("root = 'FOLDER/www'");
        let photo = send(&proxy, "/photo.png", "if-modified-since: Thu, 01 Jan 2026 00:00:00 GMT\r\n");
        assert_eq!((photo.status, photo.header("etag"), photo.header("last-modified")), (200, None, None));
    }
}

#[test]
fn setting_without_an_effect_in_a_route_is_reported() {
    let files = Files::new();
    drop(files.start("root = 'FOLDER/www'\n[[route]]\npaths = '/a/**'\nbasic_auth_realm = 'Staff'"));
    let (code, text) = files.command(&["--check"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("rproxy.toml:4: basic_auth_realm has no effect: basic_auth is not set"), "{text}");
}
