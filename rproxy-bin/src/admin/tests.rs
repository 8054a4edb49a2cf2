//! Tests of the admin service, without a listener.

use http_body_util::{BodyExt, Empty};
use rproxy_cache::CacheLayer;
use rproxy_router::RouteTable;
use tower::{Layer, ServiceExt, service_fn};

use super::parameters::FORM_LIMIT;
use super::*;
use crate::config::Shared;
use crate::maintenance::SiteMaintenance;
use crate::site::SiteNames;

const FORM: &str = "application/x-www-form-urlencoded";

fn admin(cache: Option<CacheStore>, ready: Result<(), &'static str>) -> Admin {
    let ready = move || ready.map_err(str::to_owned);
    let sites_in_maintenance = maintenance();
    let maintenance = move || sites_in_maintenance.clone();
    Admin::new(
        |_| "# EOF\n".to_owned(),
        move || cache.clone(),
        ready,
        |name| sites().hosts(name),
        maintenance,
        ProcessState::without_files(),
    )
}

/// Returns the names of the sites `example.org` and `*.example.net` and of the default site.
fn sites() -> SiteNames {
    let mut table = RouteTable::new();
    let mut names = vec![("default".to_owned(), table.add_site())];
    table.set_default(0).unwrap();
    for host in ["example.org", "*.example.net"] {
        let site = table.add_site();
        table.add_host(site, &host.parse().unwrap()).unwrap();
        names.push((host.to_owned(), site));
    }
    SiteNames::new(Arc::new(table), names)
}

/// Returns the maintenance of these sites.
fn maintenance() -> SiteMaintenances {
    let names = ["default", "example.org", "*.example.net"];
    let all = names.map(|name| SiteMaintenance::new(name, Shared::default(), None));
    SiteMaintenances::new(all.into(), sites())
}

async fn send(admin: &Admin, request: Request<Full<Bytes>>) -> (StatusCode, HeaderMap, String) {
    let (parts, body) = admin.clone().answer(request).await.unwrap().into_parts();
    assert_eq!(parts.headers[CACHE_CONTROL], "no-store");
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, String::from_utf8(body.into()).unwrap())
}

fn bare(method: &str, target: &str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(target).body(Full::default()).unwrap()
}

fn post(target: &str, content_type: &str, body: &str) -> Request<Full<Bytes>> {
    let request = Request::post(target).header(CONTENT_TYPE, content_type);
    request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

/// Creates a cache store that contains `/a`, `/b/1`, `/b/2` and `/c?x=1+2` of `http://example.org`.
async fn filled() -> CacheStore {
    let store = CacheStore::in_memory(1 << 20);
    let origin = service_fn(async |_: Request<Empty<Bytes>>| {
        let response = Response::builder().header(CACHE_CONTROL, "max-age=60").header("surrogate-key", "blog news");
        response.body(Full::new(Bytes::from_static(b"hello")))
    });
    let service = CacheLayer::new(store.clone()).layer(origin);
    for path in ["/a", "/b/1", "/b/2", "/c?x=1+2"] {
        let request = Request::get(format!("http://example.org{path}")).body(Empty::new()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    assert_eq!(store.stats().entries, 4);
    store
}

#[tokio::test]
async fn admin_rejects_unsupported_methods_with_405_and_allow_field() {
    let admin = admin(Some(CacheStore::in_memory(1 << 20)), Ok(()));
    for (method, target, status, body, allow) in [
        ("GET", "/healthz", 200, "ok\n", None),
        ("HEAD", "/healthz", 200, "ok\n", None),
        ("GET", "/healthz?verbose", 200, "ok\n", None),
        ("POST", "/healthz", 405, "Method Not Allowed\n", Some("GET, HEAD")),
        ("GET", "/readyz", 200, "ready\n", None),
        ("HEAD", "/readyz", 200, "ready\n", None),
        ("DELETE", "/readyz", 405, "Method Not Allowed\n", Some("GET, HEAD")),
        ("GET", "/metrics", 200, "# EOF\n", None),
        ("PUT", "/metrics", 405, "Method Not Allowed\n", Some("GET, HEAD")),
        ("POST", "/cache/stats", 405, "Method Not Allowed\n", Some("GET, HEAD")),
        ("GET", "/cache/purge?all", 405, "Method Not Allowed\n", Some("POST")),
        ("PUT", "/maintenance?all&on=true", 405, "Method Not Allowed\n", Some("GET, HEAD, POST")),
        ("DELETE", "/upstream", 405, "Method Not Allowed\n", Some("GET, HEAD, POST")),
        ("GET", "/", 404, "Not Found\n", None),
        ("GET", "/healthz/", 404, "Not Found\n", None),
        ("POST", "/cache", 404, "Not Found\n", None),
    ] {
        let (got, headers, text) = send(&admin, bare(method, target)).await;
        assert_eq!((got.as_u16(), &*text), (status, body), "{method} {target}");
        assert_eq!(headers.get(ALLOW).map(|allow| allow.to_str().unwrap()), allow, "{method} {target}");
    }
}

#[tokio::test]
async fn admin_rejects_hosts_outside_of_admin_hosts_with_421() {
    let admin = admin(Some(CacheStore::in_memory(1 << 20)), Ok(()));
    admin.set_hosts(&["Proxy.internal".to_owned()]);
    for (host, status) in [
        (Some("127.0.0.1:9901"), 200),
        (Some("192.0.2.1"), 200),
        (Some("[::1]:9901"), 200),
        (Some("localhost:9901"), 200),
        (Some("LOCALHOST"), 200),
        (Some("localhost."), 200),
        (Some("proxy.internal:9901"), 200),
        (None, 200),
        (Some("evil.example:9901"), 421),
        (Some("127.0.0.1.evil.example"), 421),
        (Some("localhost.evil.example"), 421),
        (Some("a b"), 421),
    ] {
        for target in ["/healthz", "/metrics", "/cache/stats", "/maintenance"] {
            let mut request = bare("GET", target);
            if let Some(host) = host {
                request.headers_mut().insert(HOST, host.parse().unwrap());
            }
            assert_eq!(send(&admin, request).await.0.as_u16(), status, "{host:?} {target}");
        }
    }
}

#[tokio::test]
async fn readyz_reports_the_reason_while_healthz_succeeds() {
    let admin = admin(None, Err("draining"));
    let (status, _, body) = send(&admin, bare("GET", "/readyz")).await;
    assert_eq!((status.as_u16(), &*body), (503, "draining\n"));
    assert_eq!(send(&admin, bare("GET", "/healthz")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn metrics_format_follows_the_accept_field() {
    const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    for (accept, expected) in [
        (None, PROMETHEUS),
        (Some("*/*"), PROMETHEUS),
        (Some("text/plain;version=0.0.4;q=0.5"), PROMETHEUS),
        (Some("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.5"), OPENMETRICS),
    ] {
        let mut request = bare("GET", "/metrics");
        if let Some(accept) = accept {
            request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        }
        let (_, headers, _) = send(&admin(None, Ok(())), request).await;
        assert_eq!(headers[CONTENT_TYPE], expected, "{accept:?}");
    }
}

#[tokio::test]
async fn accepts_purge_parameters_in_query_and_form() {
    for (request, purged) in [
        (bare("POST", "/cache/purge?url=http://example.org/a"), 1),
        (bare("POST", "/cache/purge?url=http%3A%2F%2Fexample.org%2Fa"), 1),
        (bare("POST", "/cache/purge?url=/c?x=1%2B2"), 1),
        (bare("POST", "/cache/purge?url=/c?x=1+2"), 1),
        (bare("POST", "/cache/purge?url=/absent"), 0),
        (bare("POST", "/cache/purge?prefix=http://example.org/b/"), 2),
        (bare("POST", "/cache/purge?prefix=//example.org/b"), 2),
        (bare("POST", "/cache/purge?tag=news"), 4),
        (bare("POST", "/cache/purge?tag=sports"), 0),
        (bare("POST", "/cache/purge?all"), 4),
        (bare("POST", "/cache/purge?all=true"), 4),
        (bare("POST", "/cache/purge?site=Example.org"), 4),
        (bare("POST", "/cache/purge?site=*.example.net"), 0),
        (bare("POST", "/cache/purge?site=default"), 0),
        (bare("POST", "/cache/purge?url=/a&prefix=/b"), 3),
        (post("/cache/purge", FORM, "url=http%3A%2F%2Fexample.org%2Fa"), 1),
        (post("/cache/purge", "Application/X-WWW-Form-Urlencoded; charset=utf-8", "prefix=/b\n"), 2),
        (post("/cache/purge?url=/a", FORM, "prefix=/b"), 3),
    ] {
        let store = filled().await;
        let what = format!("{request:?}");
        let (status, headers, body) = send(&admin(Some(store.clone()), Ok(())), request).await;
        assert_eq!((status.as_u16(), body), (200, format!("{{\"purged\":{purged}}}\n")), "{what}");
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        assert_eq!(store.stats().entries, 4 - purged, "{what}");
    }
}

#[tokio::test]
async fn soft_purge_marks_responses_as_stale() {
    let store = filled().await;
    let admin = admin(Some(store.clone()), Ok(()));
    for (target, purged) in [("url=/a", 1), ("url=/a", 0), ("tag=blog", 3), ("all", 0), ("site=example.org", 0)] {
        let (status, _, body) = send(&admin, bare("POST", &format!("/cache/purge?soft&{target}"))).await;
        assert_eq!((status.as_u16(), body), (200, format!("{{\"purged\":{purged}}}\n")), "{target}");
    }
    assert_eq!(store.stats().entries, 4);
}

#[tokio::test]
async fn invalid_purge_request_is_rejected_and_purges_nothing() {
    let store = filled().await;
    let admin = admin(Some(store.clone()), Ok(()));
    let large = format!("url=/{}", "a".repeat(FORM_LIMIT));
    for (request, status, says) in [
        (bare("POST", "/cache/purge"), 400, "the request has no purge parameter; accepted: ?url=URL"),
        (bare("POST", "/cache/purge?url"), 400, "bad purge target"),
        (bare("POST", "/cache/purge?url=example.org/a"), 400, "bad purge target \"example.org/a\""),
        (bare("POST", "/cache/purge?prefix=%ff"), 400, "the parameter prefix is not valid UTF-8"),
        (bare("POST", "/cache/purge?all=false"), 400, "bad value \"false\" for the parameter all"),
        (bare("POST", "/cache/purge?tag"), 400, "the tag must not be empty"),
        (bare("POST", "/cache/purge?soft"), 400, "the request has no purge parameter"),
        (bare("POST", "/cache/purge?all&site=a.example"), 400, "unknown site \"a.example\""),
        (bare("POST", "/cache/purge?all&soft=maybe"), 400, "unknown parameter \"soft\""),
        (bare("POST", "/cache/purge?uri=/a"), 400, "unknown parameter \"uri\""),
        (bare("POST", "/cache/purge?all&x"), 400, "unknown parameter \"x\""),
        (post("/cache/purge?all", "application/json", "{}"), 415, "application/x-www-form-urlencoded"),
        (post("/cache/purge", FORM, &large), 413, "larger than 65536 bytes"),
    ] {
        let what = format!("{:?}", request.uri());
        let (got, _, body) = send(&admin, request).await;
        assert_eq!(got.as_u16(), status, "{what}");
        assert!(body.contains(says), "{what}: {body}");
    }
    assert_eq!(store.stats().entries, 4);
}

#[tokio::test]
async fn admin_serves_cache_statistics_as_json() {
    let (status, headers, body) = send(&admin(Some(filled().await), Ok(())), bare("GET", "/cache/stats")).await;
    assert_eq!((status, &headers[CONTENT_TYPE]), (StatusCode::OK, &HeaderValue::from_static("application/json")));
    let stats: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&stats["entries"], &stats["misses"], &stats["capacity"]), (&json!(4), &json!(4), &json!(1 << 20)));
}

#[tokio::test]
async fn maintenance_is_switched_for_one_site_or_all() {
    let admin = admin(None, Ok(()));
    let state = async || {
        let (status, headers, body) = send(&admin, bare("GET", "/maintenance")).await;
        assert_eq!((status.as_u16(), &headers[CONTENT_TYPE]), (200, &HeaderValue::from_static("application/json")));
        let state: serde_json::Value = serde_json::from_str(&body).unwrap();
        let sites = state["sites"].as_array().unwrap().iter();
        sites.map(|site| (site["on"].as_bool().unwrap(), site["retry_after"].as_u64())).collect::<Vec<_>>()
    };
    let (on, off) = ((true, Some(300)), (false, None));
    assert_eq!(state().await, [off; 3]);
    for (request, expected) in [
        (bare("POST", "/maintenance?site=example.org&on=true"), [off, on, off]),
        (bare("POST", "/maintenance?site=*.example.net&on=true&retry_after=2m"), [off, on, (true, Some(120))]),
        (bare("POST", "/maintenance?site=example.org&on=false"), [off, off, (true, Some(120))]),
        (post("/maintenance", FORM, "all&on=1\n"), [on; 3]),
        (post("/maintenance?all", FORM, "on=false"), [off; 3]),
    ] {
        let what = format!("{:?}", request.uri());
        assert_eq!(send(&admin, request).await.0, StatusCode::OK, "{what}");
        assert_eq!(state().await, expected, "{what}");
    }
}

#[tokio::test]
async fn invalid_maintenance_request_changes_nothing() {
    let admin = admin(None, Ok(()));
    let cross_site = |name: &str, value: &str| {
        let mut request = bare("POST", "/maintenance?all&on=true");
        request.headers_mut().insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        request
    };
    let large = format!("all&on=true&x={}", "a".repeat(FORM_LIMIT));
    for (request, status, says) in [
        (bare("POST", "/maintenance"), 400, "the request has no site; accepted: ?site=HOST or ?all"),
        (bare("POST", "/maintenance?all"), 400, "the request has no parameter on"),
        (bare("POST", "/maintenance?on=true"), 400, "the request has no site"),
        (bare("POST", "/maintenance?all&on=maybe"), 400, "bad switch \"maybe\""),
        (bare("POST", "/maintenance?all&on=true&on=false"), 400, "the parameter on selects"),
        (bare("POST", "/maintenance?all&site=example.org&on=true"), 400, "the parameter site selects"),
        (bare("POST", "/maintenance?all&on=true&retry_after=0"), 400, "bad duration \"0\""),
        (bare("POST", "/maintenance?site=a.example&on=true"), 400, "unknown site \"a.example\""),
        (bare("POST", "/maintenance?all&on=true&x"), 400, "unknown parameter \"x\""),
        (post("/maintenance?all&on=true", "application/json", "{}"), 415, "application/x-www-form-urlencoded"),
        (post("/maintenance", FORM, &large), 413, "larger than 65536 bytes"),
        (cross_site("sec-fetch-site", "cross-site"), 403, "cross-site requests are not allowed"),
        (cross_site("origin", "https://evil.example"), 403, "cross-site requests are not allowed"),
        (cross_site("host", "evil.example"), 421, "unknown host"),
    ] {
        let what = format!("{:?}", request.uri());
        let (got, _, body) = send(&admin, request).await;
        assert_eq!(got.as_u16(), status, "{what} {body}");
        assert!(body.contains(says), "{what}: {body}");
    }
    assert!(!send(&admin, bare("GET", "/maintenance")).await.2.contains("\"on\":true"));
}

#[tokio::test]
async fn cache_endpoints_return_404_without_a_cache() {
    for (method, target) in [("POST", "/cache/purge?all"), ("GET", "/cache/stats")] {
        let (status, _, body) = send(&admin(None, Ok(())), bare(method, target)).await;
        assert_eq!((status.as_u16(), &*body), (404, "the response cache is disabled\n"), "{method} {target}");
    }
}
