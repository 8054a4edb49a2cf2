//! Tests of requests that bypass the cache.

use crate::harness::*;

#[tokio::test]
async fn uncacheable_requests_bypass_the_cache() {
    let harness = Harness::with(|layer| layer.paths("/static/**".parse().unwrap()));
    for (method, path, headers, content, expected) in [
        ("GET", "/elsewhere", &[][..], "", ""),
        ("OPTIONS", "/elsewhere", &[], "", ""),
        ("POST", "/elsewhere", &[], "x", ""),
        ("GET", "/static/x", &[("upgrade", "websocket"), ("connection", "upgrade")], "", ""),
        ("GET", "/static/x", &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")], "", ""),
        ("GET", "/static/x", &[], "content", "rproxy; fwd=bypass"),
        ("GET", "/static/x", &[("if-match", "\"x\"")], "", "rproxy; fwd=bypass"),
        ("GET", "/static/x", &[("if-unmodified-since", MODIFIED.1)], "", "rproxy; fwd=bypass"),
        ("OPTIONS", "/static/x", &[], "", "rproxy; fwd=method"),
        ("GET", "/static/../x", &[], "", ""),
    ] {
        harness.respond(200, &[FRESH], "x");
        let got = harness.try_send(method, path, headers, content).await.unwrap();
        assert_eq!(got.cache_status(), expected, "{method} {path} {headers:?}");
        assert_eq!(got.cache.is_some(), !expected.is_empty());
        assert_eq!(harness.store.stats().entries, 0, "{method} {path} {headers:?}");
    }
}

#[tokio::test]
async fn requests_with_multiple_host_fields_bypass_the_cache() {
    let harness = Harness::new();
    harness.respond(200, &[FRESH], "x");
    let mut request = Request::get("/a").body(Full::<Bytes>::default()).unwrap();
    for host in ["one.example", "two.example"] {
        request.headers_mut().append("host", HeaderValue::from_static(host));
    }
    let response = harness.service.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["cache-status"], "rproxy; fwd=bypass");
}

#[tokio::test]
async fn does_not_store_html_under_a_path_with_a_css_extension() {
    let harness = Harness::with(|layer| layer.paths("**/*.{css,js}".parse().unwrap()));
    harness.respond(200, &[MODIFIED, ETAG, ("content-type", "text/html")], "your balance");
    assert_eq!(harness.send("GET", "/account/x.css", &[]).await.cache_status(), "rproxy; fwd=uri-miss");
    assert_eq!(harness.store.stats().entries, 0);
}

#[tokio::test]
async fn calls_the_inner_service_only_when_it_is_ready() {
    let (mut service, mut handle) =
        tower_test::mock::spawn_with(|inner| CacheLayer::new(CacheStore::in_memory(1 << 20)).layer(inner));
    handle.allow(0);
    assert!(service.poll_ready().is_pending());
    handle.allow(1);
    assert!(service.poll_ready().is_ready());
    let request: Request<Full<Bytes>> = Request::get("/a").body(Full::default()).unwrap();
    let response = service.call(request);
    let (_, send) = handle.next_request().await.unwrap();
    send.send_response(Response::new(Full::<Bytes>::from("x")));
    assert_eq!(response.await.unwrap().into_body().collect().await.unwrap().to_bytes(), "x");
}
