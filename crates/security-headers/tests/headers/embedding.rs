//! Tests of pages that other sites may embed in frames.

use std::convert::Infallible;

use http::{HeaderValue, Request, Response, header};
use rproxy_security_headers::SecurityHeadersLayer;
use tower::{Layer, ServiceExt, service_fn};

/// Returns the `X-Frame-Options` and `Content-Security-Policy` of a response with these inner service fields.
async fn framing(
    layer: SecurityHeadersLayer,
    path: &str,
    inner: &'static [(header::HeaderName, &'static str)],
) -> [Option<String>; 2] {
    let service = service_fn(move |_: Request<()>| async move {
        let mut response = Response::new(());
        let fields = inner.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        response.headers_mut().extend(fields);
        Ok::<_, Infallible>(response)
    });
    let request = Request::get(path).body(()).unwrap();
    let response = layer.layer(service).oneshot(request).await.unwrap();
    [header::X_FRAME_OPTIONS, header::CONTENT_SECURITY_POLICY]
        .map(|name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()))
}

#[tokio::test]
async fn adds_no_framing_restrictions_on_embeddable_paths() {
    let embeddable = |layer: SecurityHeadersLayer| layer.embeddable_paths(|path| path.starts_with("/embed/"));
    let policy = "default-src 'self'; base-uri 'self'; form-action 'self'; object-src 'none'";
    for (layer, path, inner, expected) in [
        (SecurityHeadersLayer::recommended(), "/embed/1", &[][..], [None, None]),
        (SecurityHeadersLayer::recommended(), "/other", &[], [Some("SAMEORIGIN"), None]),
        (SecurityHeadersLayer::strict(), "/embed/1", &[], [None, Some(policy)]),
        (SecurityHeadersLayer::api(), "/embed/1", &[], [None, Some("default-src 'none'")]),
        (
            SecurityHeadersLayer::recommended().content_security_policy("frame-ancestors 'none'"),
            "/embed/1",
            &[],
            [None, None],
        ),
        // The inner service forbids framing.
        (
            SecurityHeadersLayer::strict(),
            "/embed/1",
            &[(header::X_FRAME_OPTIONS, "DENY"), (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'")],
            [Some("DENY"), Some("frame-ancestors 'none'")],
        ),
        (
            SecurityHeadersLayer::recommended()
                .override_header(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
            "/embed/1",
            &[],
            [Some("DENY"), None],
        ),
    ] {
        let found = framing(embeddable(layer), path, inner).await;
        assert_eq!(found.each_ref().map(Option::as_deref), expected, "{path} {inner:?}");
    }
    let nonce = SecurityHeadersLayer::recommended()
        .content_security_policy("script-src 'nonce-{nonce}'; frame-ancestors 'self'");
    let [_, policy] = framing(embeddable(nonce), "/embed/1", &[]).await;
    let policy = policy.unwrap();
    assert!(policy.starts_with("script-src 'nonce-") && !policy.contains('{') && !policy.contains("frame"), "{policy}");
}
