//! Tests of the headers that each profile adds, and of the fingerprinting headers that all profiles remove.

use std::convert::Infallible;

use http::uri::Scheme;
use http::{HeaderMap, Request, Response};
use rproxy_security_headers::SecurityHeadersLayer;
use tower::{Layer, ServiceExt, service_fn};

/// Returns the response headers if the inner service sends `status` and `inner_fields`.
async fn send(
    layer: SecurityHeadersLayer,
    scheme: Scheme,
    request_fields: &[(&str, &str)],
    status: u16,
    inner_fields: &[(&str, &str)],
) -> HeaderMap {
    let inner = service_fn(async |_: Request<()>| {
        let head = Response::builder().status(status);
        let head = inner_fields.iter().fold(head, |head, (name, value)| head.header(*name, *value));
        Ok::<_, Infallible>(head.body(()).unwrap())
    });
    let request = Request::get("/").extension(scheme);
    let request = request_fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    layer.layer(inner).oneshot(request.body(()).unwrap()).await.unwrap().into_parts().0.headers
}

fn sorted_lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn recommended_profile_adds_headers_by_content_type_and_scheme() {
    const ALL: &[&str] = &[
        "referrer-policy: strict-origin-when-cross-origin",
        "x-content-type-options: nosniff",
        "x-permitted-cross-domain-policies: none",
    ];
    const DOCUMENT: &[&str] = &["x-frame-options: SAMEORIGIN"];
    const HSTS: &[&str] = &["strict-transport-security: max-age=31536000"];
    for (scheme, status, content_type, expected) in [
        (Scheme::HTTPS, 200, Some("text/html"), &[ALL, DOCUMENT, HSTS][..]),
        (Scheme::HTTP, 200, Some("text/html"), &[ALL, DOCUMENT]),
        (Scheme::HTTPS, 200, Some("text/css"), &[ALL, HSTS]),
        (Scheme::HTTP, 200, Some("image/png"), &[ALL]),
        (Scheme::HTTP, 200, Some("image/svg+xml"), &[ALL, DOCUMENT]),
        (Scheme::HTTP, 200, None, &[ALL, DOCUMENT]),
        (Scheme::HTTP, 404, Some("text/html; charset=utf-8"), &[ALL, DOCUMENT]),
        (Scheme::HTTP, 429, Some("text/plain; charset=utf-8"), &[ALL]),
        (Scheme::HTTP, 500, Some("application/json"), &[ALL]),
        (Scheme::HTTPS, 304, None, &[HSTS]),
        (Scheme::HTTPS, 304, Some("text/html"), &[HSTS]),
        (Scheme::HTTP, 304, None, &[]),
        (Scheme::HTTPS, 101, None, &[]),
        (Scheme::HTTPS, 103, None, &[]),
    ] {
        let case = format!("{scheme} {status} {content_type:?}");
        let inner_fields: Vec<_> =
            content_type.into_iter().map(|content_type| ("content-type", content_type)).collect();
        let mut headers = send(SecurityHeadersLayer::recommended(), scheme, &[], status, &inner_fields).await;
        headers.remove("content-type");
        let mut expected = expected.concat();
        expected.sort_unstable();
        assert_eq!(sorted_lines(&headers), expected, "{case}");
    }
}

#[tokio::test]
async fn each_profile_adds_specific_headers_to_documents_and_data() {
    type Row = (fn() -> SecurityHeadersLayer, &'static str, &'static [&'static str]);
    let rows: [Row; 6] = [
        (
            SecurityHeadersLayer::strict,
            "text/html",
            &[
                "content-security-policy: default-src 'self'; base-uri 'self'; form-action 'self'; \
                 frame-ancestors 'none'; object-src 'none'",
                "content-type: text/html",
                "cross-origin-embedder-policy: require-corp",
                "cross-origin-opener-policy: same-origin",
                "cross-origin-resource-policy: same-origin",
                "permissions-policy: accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), \
                 hid=(), idle-detection=(), magnetometer=(), microphone=(), midi=(), payment=(), serial=(), usb=(), \
                 xr-spatial-tracking=()",
                "referrer-policy: no-referrer",
                "strict-transport-security: max-age=63072000; includeSubDomains",
                "x-content-type-options: nosniff",
                "x-frame-options: DENY",
                "x-permitted-cross-domain-policies: none",
            ],
        ),
        (
            SecurityHeadersLayer::strict,
            "image/png",
            &[
                "content-type: image/png",
                "cross-origin-resource-policy: same-origin",
                "referrer-policy: no-referrer",
                "strict-transport-security: max-age=63072000; includeSubDomains",
                "x-content-type-options: nosniff",
                "x-permitted-cross-domain-policies: none",
            ],
        ),
        (
            SecurityHeadersLayer::api,
            "application/json",
            &[
                "content-security-policy: default-src 'none'; frame-ancestors 'none'",
                "content-type: application/json",
                "cross-origin-resource-policy: same-origin",
                "referrer-policy: no-referrer",
                "strict-transport-security: max-age=31536000",
                "x-content-type-options: nosniff",
                "x-frame-options: DENY",
                "x-permitted-cross-domain-policies: none",
            ],
        ),
        // A custom policy keeps the scope that the profile set.
        (
            || SecurityHeadersLayer::api().content_security_policy("sandbox"),
            "application/json",
            &[
                "content-security-policy: sandbox",
                "content-type: application/json",
                "cross-origin-resource-policy: same-origin",
                "referrer-policy: no-referrer",
                "strict-transport-security: max-age=31536000",
                "x-content-type-options: nosniff",
                "x-frame-options: DENY",
                "x-permitted-cross-domain-policies: none",
            ],
        ),
        (
            SecurityHeadersLayer::minimal,
            "text/html",
            &[
                "content-type: text/html",
                "strict-transport-security: max-age=31536000",
                "x-content-type-options: nosniff",
            ],
        ),
        (
            || SecurityHeadersLayer::minimal().without_hsts().content_security_policy("sandbox"),
            "application/json",
            &["content-type: application/json", "x-content-type-options: nosniff"],
        ),
    ];
    for (profile, content_type, expected) in rows {
        let headers = send(profile(), Scheme::HTTPS, &[], 200, &[("content-type", content_type)]).await;
        assert_eq!(sorted_lines(&headers), expected);
    }
}

#[tokio::test]
async fn every_profile_removes_only_fingerprinting_headers() {
    for profile in [
        SecurityHeadersLayer::recommended,
        SecurityHeadersLayer::strict,
        SecurityHeadersLayer::api,
        SecurityHeadersLayer::minimal,
    ] {
        for name in OWASP.split_whitespace() {
            for status in [200, 304, 502] {
                let inner_fields = [(name, "1"), (name, "2"), ("x-own", "1"), ("server-timing", "app;dur=1")];
                let headers = send(profile(), Scheme::HTTP, &[], status, &inner_fields).await;
                assert!(!headers.contains_key(name), "{name} {status}");
                assert!(headers.contains_key("x-own") && headers.contains_key("server-timing"));
            }
        }
        let all: Vec<_> = OWASP.split_whitespace().map(|name| (name, "1")).collect();
        let headers = send(profile(), Scheme::HTTP, &[], 304, &all).await;
        assert!(headers.is_empty(), "{headers:?}");
        let headers = send(profile(), Scheme::HTTP, &[], 101, &[("server", "1")]).await;
        assert!(headers.is_empty(), "a 101 has no fingerprints either: {headers:?}");
    }
}

#[tokio::test]
async fn keeps_nextjs_redirect_headers_for_requests_of_the_nextjs_router() {
    for (layer, request_fields, name, is_kept) in [
        (SecurityHeadersLayer::recommended(), &[("x-nextjs-data", "1")][..], "x-nextjs-redirect", true),
        (SecurityHeadersLayer::recommended(), &[("x-nextjs-data", "1")], "x-nextjs-matched-path", true),
        (SecurityHeadersLayer::recommended(), &[("x-nextjs-data", "1")], "x-nextjs-cache", false),
        (SecurityHeadersLayer::recommended(), &[("x-nextjs-data", "1")], "server", false),
        (SecurityHeadersLayer::recommended(), &[], "x-nextjs-redirect", false),
        (SecurityHeadersLayer::recommended().keep_header(NEXTJS_REDIRECT), &[], "x-nextjs-redirect", true),
        (
            SecurityHeadersLayer::recommended().remove_header(NEXTJS_REDIRECT),
            &[("x-nextjs-data", "1")],
            "x-nextjs-redirect",
            false,
        ),
    ] {
        let headers = send(layer, Scheme::HTTP, request_fields, 200, &[(name, "/login")]).await;
        assert_eq!(headers.contains_key(name), is_kept, "{name} {request_fields:?}");
    }
}

const NEXTJS_REDIRECT: http::HeaderName = http::HeaderName::from_static("x-nextjs-redirect");

/// The header names in `ci/headers_remove.json` of the OWASP Secure Headers Project, as of 2024-09-02.
const OWASP: &str = "
    $wsep Host-Header K-Proxy-Request Liferay-Portal OracleCommerceCloud-Version Pega-Host Powered-By Product Server
    SourceMap X-AspNet-Version X-AspNetMvc-Version X-Atmosphere-error X-Atmosphere-first-request
    X-Atmosphere-tracking-id X-B3-ParentSpanId X-B3-Sampled X-B3-SpanId X-B3-TraceId X-BEServer X-CF-Powered-By X-CMS
    X-CalculatedBETarget X-Cocoon-Version X-Content-Encoded-By X-DiagInfo X-Envoy-Attempt-Count
    X-Envoy-External-Address X-Envoy-Internal X-Envoy-Original-Dst-Host X-Envoy-Upstream-Service-Time X-FEServer
    X-Framework X-Generated-By X-Generator X-Jitsi-Release X-Joomla-Version X-Kubernetes-PF-FlowSchema-UI
    X-Kubernetes-PF-PriorityLevel-UID X-LiteSpeed-Cache X-LiteSpeed-Purge X-LiteSpeed-Tag X-LiteSpeed-Vary
    X-Litespeed-Cache-Control X-Mod-Pagespeed X-Nextjs-Cache X-Nextjs-Matched-Path X-Nextjs-Page X-Nextjs-Redirect
    X-OWA-Version X-Old-Content-Length X-OneAgent-JS-Injection X-Page-Speed X-Php-Version X-Powered-By
    X-Powered-By-Plesk X-Powered-CMS X-Redirect-By X-Server-Powered-By X-SourceFiles X-SourceMap X-Turbo-Charged-By
    X-Umbraco-Version X-Varnish-Backend X-Varnish-Server X-dtAgentId X-dtHealthCheck X-dtInjectedServlet
    X-ruxit-JS-Agent";

#[tokio::test]
async fn sends_no_hsts_for_ip_addresses_and_localhost() {
    for (host, expected) in [
        ("example.org", true),
        ("example.org:8443", true),
        ("localhost.example", true),
        ("localhost", false),
        ("LOCALHOST:8443", false),
        ("app.localhost.", false),
        ("127.0.0.1:8443", false),
        ("[::1]:8443", false),
    ] {
        let headers = send(SecurityHeadersLayer::recommended(), Scheme::HTTPS, &[("host", host)], 200, &[]).await;
        assert_eq!(headers.contains_key("strict-transport-security"), expected, "{host}");
    }
}
