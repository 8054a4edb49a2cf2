//! The rules as an inner service and a client see them.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use rproxy_header_rules::{HeaderRule, HeaderRuleError, HeaderRulesLayer};
use tower::{Layer, ServiceExt, service_fn};

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
        .collect()
}

fn rule(text: &str) -> HeaderRule {
    text.parse().unwrap()
}

/// Sends `request` through the rules; returns the fields that the inner service and the client receive.
async fn exchange(
    layer: &HeaderRulesLayer,
    request: &[(&str, &str)],
    response: Response<()>,
) -> (HeaderMap, HeaderMap) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let inner = service_fn(move |request: Request<()>| {
        sender.send(request.headers().clone()).unwrap();
        let response = response.clone();
        async { Ok::<_, Infallible>(response) }
    });
    let mut head = Request::new(());
    *head.headers_mut() = map(request);
    let response = layer.layer(inner).oneshot(head).await.unwrap();
    (receiver.recv().unwrap(), response.headers().clone())
}

async fn response_after(rules: &[&str], status: StatusCode, fields: &[(&str, &str)]) -> HeaderMap {
    let builder = rules.iter().fold(HeaderRulesLayer::builder(), |builder, text| builder.response(rule(text)));
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = map(fields);
    exchange(&builder.build().unwrap(), &[], response).await.1
}

#[tokio::test]
async fn rules_apply_to_both_directions_in_their_order() {
    type Fields = &'static [(&'static str, &'static str)];
    let cases: [(&[&str], Fields, Fields); 8] = [
        (&["X-A: 1"], &[("x-a", "0"), ("x-a", "00")], &[("x-a", "1")]),
        (&["+X-A: 1"], &[("x-a", "0")], &[("x-a", "0"), ("x-a", "1")]),
        (&["+X-A: 1"], &[], &[("x-a", "1")]),
        (&["?X-A: 1"], &[("x-a", "0")], &[("x-a", "0")]),
        (&["?X-A: 1"], &[], &[("x-a", "1")]),
        (&["-X-A"], &[("x-a", "0"), ("x-a", "1"), ("x-b", "2")], &[("x-b", "2")]),
        (&["-X-Debug-*"], &[("x-debug-a", "0"), ("x-debug", "1"), ("x-debug-", "2")], &[("x-debug", "1")]),
        (&["-X-A", "?X-A: 1", "+X-A: 2"], &[("x-a", "0")], &[("x-a", "1"), ("x-a", "2")]),
    ];
    for (rules, before, after) in cases {
        let response = response_after(rules, StatusCode::OK, before).await;
        assert_eq!(response, map(after), "responses: {rules:?}");
        let builder = rules.iter().fold(HeaderRulesLayer::builder(), |builder, text| builder.request(rule(text)));
        let (request, response) = exchange(&builder.build().unwrap(), before, Response::new(())).await;
        assert_eq!(request, map(after), "requests: {rules:?}");
        assert!(response.is_empty(), "request rules do not change responses");
    }
}

#[tokio::test]
async fn request_rules_remove_the_other_spellings_of_a_field() {
    let before = &[("x_tenant_id", "spoofed"), ("x.tenant-id", "spoofed"), ("xtenantid", "0")];
    for (text, after) in [
        ("X-Tenant-Id: 1", &[("x-tenant-id", "1"), ("xtenantid", "0")][..]),
        ("-X-Tenant-Id", &[("xtenantid", "0")]),
        ("-X-Tenant-*", &[("xtenantid", "0")]),
        (
            "?X-Other: 1",
            &[("x_tenant_id", "spoofed"), ("x.tenant-id", "spoofed"), ("xtenantid", "0"), ("x-other", "1")],
        ),
    ] {
        let layer = HeaderRulesLayer::builder().request(rule(text)).build().unwrap();
        let (request, _) = exchange(&layer, before, Response::new(())).await;
        assert_eq!(request, map(after), "{text}");
    }
    // Browsers and caches tell the fields of responses apart.
    assert_eq!(response_after(&["-X-Tenant-Id"], StatusCode::OK, before).await, map(before));
}

#[tokio::test]
async fn response_rules_apply_to_final_responses_only() {
    for status in [200, 204, 304, 301, 404, 429, 500, 503] {
        let status = StatusCode::from_u16(status).unwrap();
        assert!(response_after(&["X-A: 1"], status, &[]).await.contains_key("x-a"), "{status}");
    }
    for status in [100, 101, 103] {
        let status = StatusCode::from_u16(status).unwrap();
        assert!(response_after(&["X-A: 1", "-X-B"], status, &[("x-b", "1")]).await.contains_key("x-b"), "{status}");
    }
}

#[tokio::test]
async fn removal_by_prefix_keeps_reserved_fields() {
    let kept = map(&[
        ("content-length", "1"),
        ("content-type", "text/html"),
        ("content-encoding", "gzip"),
        ("te", "trailers"),
    ]);
    let mut all = vec![("content-language", "de")];
    all.extend(kept.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())));
    assert_eq!(response_after(&["-content-*", "-t*"], StatusCode::OK, &all).await, kept);

    let layer = HeaderRulesLayer::builder().request(rule("-x-*")).request(rule("-h*")).build().unwrap();
    let request = [("x-forwarded-for", "192.0.2.1"), ("x-real-ip", "192.0.2.1"), ("host", "a"), ("x-debug", "1")];
    assert_eq!(exchange(&layer, &request, Response::new(())).await.0, map(&request[..3]));
}

#[test]
fn rejects_rules_for_reserved_fields_by_name() {
    let both = [
        "Content-Length",
        "Transfer-Encoding",
        "Trailer",
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Upgrade",
        "TE",
    ];
    let requests =
        ["Host", "Expect", "Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Prefix", "X-Real-IP", "X-Request-ID"];
    let texts = |name: &str| [format!("{name}: 1"), format!("+{name}: 1"), format!("?{name}: 1"), format!("-{name}")];
    for name in both.iter().chain(&requests) {
        for text in texts(name) {
            let error = HeaderRulesLayer::builder().request(rule(&text)).build().unwrap_err();
            assert!(
                matches!(&error, HeaderRuleError::RequestField { name: other, .. } if *other == *name.to_ascii_lowercase()),
                "{error}"
            );
            let response = HeaderRulesLayer::builder().response(rule(&text)).build();
            assert_eq!(response.is_err(), both.contains(name), "{text}");
        }
    }
    for name in ["If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range"] {
        let is_valid = |text: &String| HeaderRulesLayer::builder().request(rule(text)).build().is_ok();
        assert_eq!(texts(name).each_ref().map(is_valid), [false, false, false, true], "{name}");
    }
}

#[tokio::test]
async fn full_header_map_does_not_panic() {
    let mut full = HeaderMap::new();
    while full
        .try_append(HeaderName::try_from(format!("x-{}", full.len())).unwrap(), HeaderValue::from_static("1"))
        .is_ok()
    {}
    let mut response = Response::new(());
    *response.headers_mut() = full.clone();
    let layer = ["X-New: 1", "?X-New: 1", "+X-New: 1", "X-0: 2"]
        .iter()
        .fold(HeaderRulesLayer::builder(), |b, text| b.response(rule(text)));
    let (_, response) = exchange(&layer.build().unwrap(), &[], response).await;
    assert_eq!((response.len(), response.contains_key("x-new")), (full.len(), false));
}
