//! Tests of the precedence between headers of the inner service and rules of the layer.

use std::convert::Infallible;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Request, Response, header};
use rproxy_security_headers::{SecurityHeadersLayer, names};
use tower::{Layer, ServiceExt, service_fn};

const CSP: HeaderName = header::CONTENT_SECURITY_POLICY;
const FRAMES: HeaderName = header::X_FRAME_OPTIONS;

fn value(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

fn recommended() -> SecurityHeadersLayer {
    SecurityHeadersLayer::recommended()
}

/// Returns all values of the header `name` in a response over plain HTTP.
async fn values_of(
    layer: SecurityHeadersLayer,
    inner_fields: &[(HeaderName, &str)],
    status: u16,
    name: &HeaderName,
) -> Vec<String> {
    let inner = service_fn(async |_: Request<()>| {
        let head = inner_fields
            .iter()
            .fold(Response::builder().status(status), |head, (name, value)| head.header(name, *value));
        Ok::<_, Infallible>(head.body(()).unwrap())
    });
    let request = Request::get("/").extension(Scheme::HTTP).body(()).unwrap();
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    response.headers().get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn headers_of_the_inner_service_take_precedence_unless_a_rule_overrides_them() {
    for (row, (layer, inner_fields, name, expected)) in [
        // All values of the inner service are kept.
        (recommended(), &[(FRAMES, "DENY")][..], FRAMES, &["DENY"][..]),
        (recommended().content_security_policy("a"), &[(CSP, "b"), (CSP, "c")], CSP, &["b", "c"]),
        (
            recommended().content_security_policy("a"),
            &[(header::CONTENT_SECURITY_POLICY_REPORT_ONLY, "b")],
            CSP,
            &["a"],
        ),
        // `frame-ancestors` of the inner service replaces `X-Frame-Options`.
        (recommended(), &[(CSP, "frame-ancestors https://a.example")], FRAMES, &[]),
        (recommended(), &[(CSP, "default-src 'self'")], FRAMES, &["SAMEORIGIN"]),
        (recommended().override_header(FRAMES, value("DENY")), &[(CSP, "frame-ancestors *")], FRAMES, &["DENY"]),
        (recommended().content_security_policy("frame-ancestors 'none'"), &[], FRAMES, &["SAMEORIGIN"]),
        // `without` adds nothing.
        (recommended().without(FRAMES), &[], FRAMES, &[]),
        (recommended().without(FRAMES), &[(FRAMES, "DENY")], FRAMES, &["DENY"]),
        (recommended().content_security_policy("a").content_security_policy("  \n"), &[], CSP, &[]),
        (recommended().content_security_policy("a\n  b;\tc"), &[], CSP, &["a b; c"]),
        // `header` adds a header.
        (recommended().header(names::PERMISSIONS_POLICY, value("usb=()")), &[], names::PERMISSIONS_POLICY, &["usb=()"]),
        (
            recommended().content_security_policy_report_only("a"),
            &[],
            header::CONTENT_SECURITY_POLICY_REPORT_ONLY,
            &["a"],
        ),
        // `override_header` and `remove_header` take precedence over the inner service.
        (recommended().override_header(FRAMES, value("DENY")), &[(FRAMES, "a"), (FRAMES, "b")], FRAMES, &["DENY"]),
        (recommended().override_header(FRAMES, value("DENY")), &[(header::CONTENT_TYPE, "a/b")], FRAMES, &["DENY"]),
        (recommended().remove_header(FRAMES), &[(FRAMES, "a"), (FRAMES, "b")], FRAMES, &[]),
        (recommended().remove_header(header::ETAG), &[(header::ETAG, "\"a\"")], header::ETAG, &[]),
        (
            recommended().override_header(header::SERVER, value("custom")),
            &[(header::SERVER, "a")],
            header::SERVER,
            &["custom"],
        ),
        (recommended().header(header::SERVER, value("custom")), &[(header::SERVER, "a")], header::SERVER, &["custom"]),
        (recommended().keep_header(header::SERVER), &[(header::SERVER, "a")], header::SERVER, &["a"]),
        // The last call for a header applies.
        (recommended().override_header(FRAMES, value("DENY")).remove_header(FRAMES), &[(FRAMES, "a")], FRAMES, &[]),
        (
            recommended().remove_header(FRAMES).override_header(FRAMES, value("DENY")),
            &[(FRAMES, "a")],
            FRAMES,
            &["DENY"],
        ),
        (recommended().remove_header(FRAMES).keep_header(FRAMES), &[(FRAMES, "a")], FRAMES, &["a"]),
        (
            recommended().override_header(FRAMES, value("a")).header(FRAMES, value("b")),
            &[(FRAMES, "c")],
            FRAMES,
            &["c"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(values_of(layer, inner_fields, 200, &name).await, expected, "row {row}");
    }
}

#[tokio::test]
async fn header_overrides_apply_to_304_responses() {
    let layer = recommended().override_header(FRAMES, value("DENY"));
    assert_eq!(values_of(layer, &[], 304, &FRAMES).await, ["DENY"]);
}

#[tokio::test]
async fn changing_a_clone_does_not_change_the_original_layer() {
    let layer = recommended();
    let _changed = layer.clone().without(FRAMES);
    assert_eq!(values_of(layer, &[], 200, &FRAMES).await, ["SAMEORIGIN"]);
}

#[tokio::test]
async fn propagates_inner_service_errors() {
    let failing =
        recommended().layer(service_fn(async |_: Request<()>| Err::<Response<()>, _>("inner service failed")));
    assert_eq!(failing.oneshot(Request::new(())).await.unwrap_err(), "inner service failed");
}
