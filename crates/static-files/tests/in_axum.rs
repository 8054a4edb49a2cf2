//! The layers around an axum router.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::IntoResponse;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use rproxy_core::Rejection;
use rproxy_static_files::{FileDecision, SendFileLayer, StaticFilesError, StaticFilesLayer};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use tower::{Layer, Service, ServiceExt};

struct Received {
    status: u16,
    headers: HeaderMap,
    body: String,
    decision: Option<FileDecision>,
    rejection: Option<Rejection>,
}

impl Received {
    fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

async fn send<S, B>(service: &S, method: Method, target: &str, fields: &[(&str, &str)]) -> Received
where
    S: Service<Request<Body>, Response = Response<B>, Error = std::convert::Infallible> + Clone,
    B: http_body::Body<Data = bytes::Bytes, Error: Into<tower::BoxError>> + Send + 'static,
{
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let response = service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = to_bytes(Body::new(body), 10 << 20).await.unwrap();
    Received {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
        decision: head.extensions.get().copied(),
        rejection: head.extensions.get().cloned(),
    }
}

fn write(folder: &Path, name: &str, content: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn site() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("www");
    for (name, content) in [
        ("index.html", "home"),
        ("docs/index.html", "docs"),
        ("a:b/index.html", "colon"),
        ("empty/file.txt", "file"),
        ("app.js", "plain"),
        ("app.js.br", "brotli"),
        ("app.js.gz", "gzip"),
        ("photo.png", "png"),
        ("photo.png.br", "never"),
        (".env", "secret"),
        (".git/config", "secret"),
        (".well-known/security.txt", "contact"),
        ("zero.txt", ""),
    ] {
        write(&root, name, content);
    }
    write(folder.path(), "outside.txt", "secret");
    for (target, link) in
        [("../outside.txt", "out.txt"), ("..", "up"), (".git", "git"), ("docs", "manual"), ("app.js", "link.js")]
    {
        symlink(target, root.join(link)).unwrap();
    }
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    drop(UnixListener::bind(root.join("socket")).unwrap());
    folder
}

fn inner() -> Router {
    Router::new().fallback(async |request: Request<Body>| format!("inner {} {}", request.method(), request.uri()))
}

#[tokio::test]
async fn files_are_served_first_and_other_requests_are_forwarded() {
    let folder = site();
    let app = StaticFilesLayer::new(folder.path().join("www")).unwrap().layer(inner());
    for (target, status, body) in [
        ("/", 200, "home"),
        ("/?a=b", 200, "home"),
        ("/index.html", 200, "home"),
        ("/docs/", 200, "docs"),
        ("/docs", 301, ""),
        ("/manual/", 200, "docs"),
        ("/link.js", 200, "plain"),
        ("/.well-known/security.txt", 200, "contact"),
        ("/zero.txt", 200, ""),
        ("/empty", 200, "inner GET /empty"),
        ("/empty/", 200, "inner GET /empty/"),
        ("/missing?x", 200, "inner GET /missing?x"),
        ("/app.js/x", 200, "inner GET /app.js/x"),
        ("/.env", 200, "inner GET /.env"),
        ("/a//b", 200, "inner GET /a//b"),
    ] {
        let received = send(&app, Method::GET, target, &[]).await;
        assert_eq!((received.status, received.body.as_str()), (status, body), "{target}");
        assert_eq!(received.decision.is_some(), !body.starts_with("inner"), "{target}");
    }
    let received = send(&app, Method::POST, "/app.js", &[]).await;
    assert_eq!(received.body, "inner POST /app.js");
}

#[tokio::test]
async fn traversal_never_leaves_the_root_or_shows_hidden_files() {
    let folder = site();
    let layer = StaticFilesLayer::builder(folder.path().join("www")).files_only(true).build().unwrap();
    let app = layer.layer(inner());
    for target in [
        "/../outside.txt",
        "/docs/../../outside.txt",
        "/%2e%2e/outside.txt",
        "/%2E%2E%2Foutside.txt",
        "/..%2foutside.txt",
        "/..%5coutside.txt",
        "/%252e%252e/outside.txt",
        "/%252e%252e%252foutside.txt",
        "/..%255coutside.txt",
        "/%c0%ae%c0%ae/outside.txt",
        "/..;/outside.txt",
        "/.../outside.txt",
        "/docs/..%00/outside.txt",
        "/app.js%00.png",
        "/app.js%0a",
        "//outside.txt",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/%2f%2fetc/passwd",
        "/out.txt",
        "/up/outside.txt",
        "/up/www/app.js",
        "/git/config",
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/docs/../.env",
        "/.well-known/../.env",
        "/.well-known/.env",
        "/fifo",
        "/socket",
        "/empty",
        "/empty/",
        "/docs/index.html/",
        "/app.js/",
        "/app.js.",
        "/app.js::$DATA",
        "/APP.JS",
        "/docs%2findex.html",
    ] {
        let received = send(&app, Method::GET, target, &[("accept-encoding", "br")]).await;
        assert_eq!((received.status, received.body.as_str()), (404, "Not Found\n"), "{target}");
        assert_eq!(received.rejection.unwrap().reason(), "no_file", "{target}");
    }
    let received = send(&app, Method::DELETE, "/app.js", &[]).await;
    assert_eq!((received.status, received.field("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn folder_redirect_is_relative_and_stays_on_the_host() {
    let folder = site();
    let root = folder.path().join("www");
    write(&root, "evil.example/x/index.html", "x");
    let app = StaticFilesLayer::new(&root).unwrap().layer(inner());
    for (target, location) in [
        ("/docs", "./docs/"),
        ("/docs?a=//b", "./docs/?a=//b"),
        ("/a:b", "./a:b/"),
        ("/%64ocs", "./%64ocs/"),
        ("/evil.example/x", "./x/"),
    ] {
        let received = send(&app, Method::GET, target, &[]).await;
        assert_eq!((received.status, received.field("location")), (301, Some(location)), "{target}");
    }
    for target in ["//docs", "//evil.example/x", "/\\docs", "/%5cdocs", "/%2fdocs"] {
        let received = send(&app, Method::GET, target, &[]).await;
        assert_eq!(received.field("location"), None, "{target}");
    }
}

#[tokio::test]
async fn head_has_the_fields_of_get_and_no_content() {
    let folder = site();
    let app = StaticFilesLayer::new(folder.path().join("www")).unwrap().layer(inner());
    for (target, fields) in [("/app.js", &[][..]), ("/app.js", &[("accept-encoding", "br")]), ("/docs", &[])] {
        let get = send(&app, Method::GET, target, fields).await;
        let head = send(&app, Method::HEAD, target, fields).await;
        assert_eq!((get.status, &get.headers), (head.status, &head.headers), "{target}");
        assert_eq!(head.body, "");
    }
}

#[tokio::test]
async fn conditions_and_ranges_apply_to_files() {
    let folder = site();
    let app = StaticFilesLayer::new(folder.path().join("www")).unwrap().layer(inner());
    let first = send(&app, Method::GET, "/app.js", &[]).await;
    assert_eq!(first.field("accept-ranges"), Some("bytes"));
    assert_eq!(first.field("content-length"), Some("5"));
    let (tag, date) = (first.field("etag").unwrap(), first.field("last-modified").unwrap());
    assert!(tag.starts_with('"'), "{tag}");
    for (fields, status, body, content_range) in [
        (&[("if-none-match", tag)][..], 304, "", None),
        (&[("if-modified-since", date)], 304, "", None),
        (&[("if-match", "\"other\"")], 412, "", None),
        (&[("range", "bytes=1-2")], 206, "la", Some("bytes 1-2/5")),
        (&[("range", "bytes=-2")], 206, "in", Some("bytes 3-4/5")),
        (&[("range", "bytes=5-")], 416, "", Some("bytes */5")),
        (&[("range", "bytes=0-0,2-2")], 200, "plain", None),
        (&[("range", "bytes=1-2"), ("if-range", tag)], 206, "la", Some("bytes 1-2/5")),
        (&[("range", "bytes=1-2"), ("if-range", "\"old\"")], 200, "plain", None),
    ] {
        let received = send(&app, Method::GET, "/app.js", fields).await;
        assert_eq!((received.status, received.body.as_str()), (status, body), "{fields:?}");
        assert_eq!(received.field("content-range"), content_range, "{fields:?}");
        assert_eq!(received.field("etag"), Some(tag), "{fields:?}");
        assert_eq!(received.field("vary"), Some("accept-encoding"), "{fields:?}");
        let length = if status == 304 { None } else { Some(body.len().to_string()) };
        assert_eq!(received.field("content-length"), length.as_deref(), "{fields:?}");
    }
    write(&folder.path().join("www"), "app.js", "changed");
    let received = send(&app, Method::GET, "/app.js", &[("if-none-match", tag)]).await;
    assert_eq!((received.status, received.body.as_str()), (200, "changed"));
}

#[tokio::test]
async fn precompressed_variant_has_its_own_tag() {
    let folder = site();
    let root = folder.path().join("www");
    let app = StaticFilesLayer::new(&root).unwrap().layer(inner());
    let mut tags = Vec::new();
    for (accepted, body, coding) in [
        ("", "plain", None),
        ("gzip, br, zstd", "brotli", Some("br")),
        ("zstd, gzip", "gzip", Some("gzip")),
        ("zstd", "plain", None),
        ("br;q=0.1, gzip", "gzip", Some("gzip")),
        ("identity, br;q=0.5", "plain", None),
    ] {
        let received = send(&app, Method::GET, "/app.js", &[("accept-encoding", accepted)]).await;
        assert_eq!(received.body, body, "{accepted}");
        assert_eq!(received.field("content-encoding"), coding, "{accepted}");
        assert_eq!(received.field("vary"), Some("accept-encoding"), "{accepted}");
        assert_eq!(received.field("content-type"), Some("text/javascript; charset=utf-8"), "{accepted}");
        tags.push(received.field("etag").unwrap().to_owned());
    }
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 3, "{tags:?}");
    let photo = send(&app, Method::GET, "/photo.png", &[("accept-encoding", "br")]).await;
    assert_eq!((photo.body.as_str(), photo.field("vary")), ("png", None));
    let layer = StaticFilesLayer::builder(&root).precompressed(false).build().unwrap();
    let plain = send(&layer.layer(inner()), Method::GET, "/app.js", &[("accept-encoding", "br")]).await;
    assert_eq!((plain.body.as_str(), plain.field("vary")), ("plain", None));
}

#[tokio::test]
async fn fallback_serves_navigations_only() {
    const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
    let folder = site();
    let layer = StaticFilesLayer::builder(folder.path().join("www")).fallback("index.html").files_only(true);
    let app = layer.build().unwrap().layer(inner());
    for (method, target, accept, status, body) in [
        (Method::GET, "/users/7", BROWSER, 200, "home"),
        (Method::GET, "/users/7/", BROWSER, 200, "home"),
        (Method::HEAD, "/users/7", BROWSER, 200, ""),
        (Method::GET, "/app.js", BROWSER, 200, "plain"),
        (Method::GET, "/missing.js", BROWSER, 404, "Not Found\n"),
        (Method::GET, "/users/7", "*/*", 404, "Not Found\n"),
        (Method::GET, "/users/7", "application/json", 404, "Not Found\n"),
        (Method::GET, "/users/7", "application/json, text/html;q=0.5", 404, "Not Found\n"),
        (Method::GET, "/.git/config", BROWSER, 404, "Not Found\n"),
        (Method::GET, "/a%2fb", BROWSER, 404, "Not Found\n"),
        (Method::POST, "/users/7", BROWSER, 405, "Method Not Allowed\n"),
    ] {
        let received = send(&app, method.clone(), target, &[("accept", accept)]).await;
        assert_eq!((received.status, received.body.as_str()), (status, body), "{method} {target} {accept}");
    }
    let received = send(&app, Method::GET, "/users/7", &[("accept", BROWSER)]).await;
    assert_eq!(received.decision, Some(FileDecision::Fallback));
    assert_eq!(received.field("vary"), Some("accept, accept-encoding"));
    assert_eq!(received.field("content-type"), Some("text/html; charset=utf-8"));
    // A cache must not send these to a browser.
    let received = send(&app, Method::GET, "/users/7", &[("accept", "*/*")]).await;
    assert_eq!((received.status, received.field("vary")), (404, Some("accept")));
    let received = send(&app, Method::GET, "/missing.js", &[("accept", "*/*")]).await;
    assert_eq!(received.field("vary"), None);
}

#[tokio::test]
async fn replaced_root_is_served_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for release in ["1", "2"] {
        write(&folder.path().join(release), "index.html", release);
    }
    let root = folder.path().join("current");
    symlink("1", &root).unwrap();
    let app = StaticFilesLayer::new(&root).unwrap().layer(inner());
    assert_eq!(send(&app, Method::GET, "/", &[]).await.body, "1");
    symlink("2", folder.path().join("next")).unwrap();
    fs::rename(folder.path().join("next"), &root).unwrap();
    assert_eq!(send(&app, Method::GET, "/", &[]).await.body, "2");
    fs::remove_file(&root).unwrap();
    assert_eq!(send(&app, Method::GET, "/", &[]).await.body, "inner GET /");
}

#[tokio::test]
async fn large_file_is_streamed() {
    let folder = site();
    let content = "0123456789".repeat(100_000);
    write(&folder.path().join("www"), "large.txt", &content);
    let app = StaticFilesLayer::new(folder.path().join("www")).unwrap().layer(inner());
    let received = send(&app, Method::GET, "/large.txt", &[]).await;
    assert!(received.body == content);
    let received = send(&app, Method::GET, "/large.txt", &[("range", "bytes=100000-299999")]).await;
    assert!(received.body == content[100_000..300_000]);
}

#[test]
fn build_rejects_unusable_roots_and_fallbacks() {
    let folder = site();
    let root = folder.path().join("www");
    let missing = StaticFilesLayer::new(folder.path().join("missing")).unwrap_err();
    assert!(matches!(missing, StaticFilesError::Root { .. }), "{missing}");
    let file = StaticFilesLayer::new(root.join("app.js")).unwrap_err();
    assert!(matches!(file, StaticFilesError::Root { .. }), "{file}");
    for fallback in ["", "../outside.txt", ".env", "docs/"] {
        let error = StaticFilesLayer::builder(&root).fallback(fallback).build().unwrap_err();
        assert!(matches!(error, StaticFilesError::Fallback(_)), "{fallback}: {error}");
    }
    for fallback in ["missing.html", "docs", "out.txt"] {
        let error = StaticFilesLayer::builder(&root).fallback(fallback).build().unwrap_err();
        assert!(matches!(error, StaticFilesError::UnreadableFallback { .. }), "{fallback}: {error}");
    }
    assert!(StaticFilesLayer::builder(&root).fallback("/docs/index.html").build().is_ok());
    let prefix = SendFileLayer::builder(&root).accel_prefix("protected").build().unwrap_err();
    assert!(matches!(prefix, StaticFilesError::Prefix(_)), "{prefix}");
    assert!(matches!(SendFileLayer::new("/missing/folder").unwrap_err(), StaticFilesError::Root { .. }));
}

/// An application that responds with the fields that the query names, and with the received fields as content.
fn application() -> Router {
    Router::new().fallback(async |request: Request<Body>| {
        let mut response = format!("{:?}", request.headers()).into_response();
        response.headers_mut().remove("content-type");
        for field in request.uri().query().unwrap_or_default().split('&') {
            match field.split_once('=') {
                Some(("status", status)) => *response.status_mut() = status.parse::<StatusCode>().unwrap(),
                Some((name, value)) => {
                    let name: http::HeaderName = name.parse().unwrap();
                    response.headers_mut().append(name, value.parse().unwrap());
                }
                None => {}
            }
        }
        response
    })
}

#[tokio::test]
async fn file_that_the_application_names_is_sent() {
    let folder = site();
    let root = folder.path().join("www");
    let app = SendFileLayer::new(&root).unwrap().layer(application());
    let kept = "content-type=text/x-own&content-disposition=attachment&set-cookie=a&cache-control=private&x-own=1";
    let target = format!("/?x-accel-redirect=/app.js&etag=old&last-modified=x&{kept}");
    let received = send(&app, Method::GET, &target, &[("accept-encoding", "br")]).await;
    assert_eq!((received.status, received.body.as_str()), (200, "plain"));
    assert_eq!(received.decision, Some(FileDecision::SendFile));
    for (name, value) in [
        ("content-type", "text/x-own"),
        ("content-disposition", "attachment"),
        ("set-cookie", "a"),
        ("cache-control", "private"),
        ("x-own", "1"),
        ("content-length", "5"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(received.field(name), Some(value), "{name}");
    }
    let tag = received.field("etag").unwrap().to_owned();
    assert_ne!(tag, "old");
    let not_modified = send(&app, Method::GET, &target, &[("if-none-match", &tag)]).await;
    assert_eq!((not_modified.status, not_modified.field("set-cookie")), (304, Some("a")));

    let sendfile = format!("/?x-sendfile={}", root.join("docs/index.html").display());
    let received = send(&app, Method::GET, &sendfile, &[("range", "bytes=1-")]).await;
    assert_eq!((received.status, received.body.as_str()), (206, "ocs"));
    assert_eq!(received.field("content-type"), Some("text/html; charset=utf-8"));

    for (method, target, status, body) in [
        (Method::GET, "/?x-accel-redirect=/link.js", 200, "plain"),
        (Method::HEAD, "/?x-accel-redirect=/app.js", 200, ""),
        (Method::POST, "/?x-accel-redirect=/app.js", 200, "plain"),
        (Method::GET, "/?x-accel-redirect=/.env", 200, "secret"),
        (Method::GET, "/?x-accel-redirect=/app.js&status=403", 403, "plain"),
        (Method::GET, "/?x-accel-redirect=/app.js&content-encoding=gzip", 200, "plain"),
        (Method::GET, "/?x-accel-redirect=/missing", 404, "Not Found\n"),
        (Method::GET, "/?x-accel-redirect=/docs", 404, "Not Found\n"),
        (Method::GET, "/?x-accel-redirect=/fifo", 404, "Not Found\n"),
        (Method::GET, "/?x-accel-redirect=/out.txt", 404, "Not Found\n"),
        (Method::GET, "/?x-accel-redirect=/up/outside.txt", 404, "Not Found\n"),
        (Method::GET, "/?x-accel-redirect=/../outside.txt", 502, "Bad Gateway\n"),
        (Method::GET, "/?x-sendfile=/etc/passwd", 502, "Bad Gateway\n"),
        (Method::GET, "/?x-sendfile=app.js", 502, "Bad Gateway\n"),
        (Method::GET, "/?x-accel-redirect=/app.js&x-sendfile=/app.js", 502, "Bad Gateway\n"),
        (Method::GET, "/?x-accel-redirect=/app.js&x-accel-redirect=/app.js", 502, "Bad Gateway\n"),
    ] {
        let received = send(&app, method.clone(), target, &[("if-match", "*")]).await;
        assert_eq!((received.status, received.body.as_str()), (status, body), "{method} {target}");
        assert_eq!(received.field("x-accel-redirect").or(received.field("x-sendfile")), None, "{target}");
        assert_eq!(received.rejection.is_some(), status == 404 || status == 502, "{target}");
    }
    for status in ["204", "302", "304"] {
        let received = send(&app, Method::GET, &format!("/?x-sendfile=/a&status={status}"), &[]).await;
        assert_eq!(received.status.to_string(), status);
        assert_eq!((received.field("x-sendfile"), received.decision), (None, None), "{status}");
    }
}

#[tokio::test]
async fn fields_of_the_client_never_select_a_file() {
    let folder = site();
    let app = SendFileLayer::new(folder.path().join("www")).unwrap().layer(application());
    let fields = [
        ("x-accel-redirect", "/app.js"),
        ("X-Sendfile", "/app.js"),
        ("x_sendfile_type", "X-Accel-Redirect"),
        ("x-sendfile-type", "X-Accel-Redirect"),
        ("x-accel-mapping", "/=/"),
        ("x-own", "1"),
    ];
    let received = send(&app, Method::GET, "/", &fields).await;
    assert_eq!((received.status, received.body.as_str()), (200, "{\"x-own\": \"1\"}"));
    assert_eq!(received.decision, None);
}

#[tokio::test]
async fn prefix_of_accel_redirect_is_removed() {
    let folder = site();
    let layer = SendFileLayer::builder(folder.path().join("www")).accel_prefix("/protected/").build().unwrap();
    let app = layer.layer(application());
    for (target, status) in [
        ("/?x-accel-redirect=/protected/app.js", 200),
        ("/?x-accel-redirect=/app.js", 502),
        ("/?x-accel-redirect=/protected", 502),
    ] {
        assert_eq!(send(&app, Method::GET, target, &[]).await.status, status, "{target}");
    }
}
