//! Who has the last word: the application, but where a rule says otherwise.
#![allow(clippy::unwrap_used)]

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

/// All lines of the header `name` that arrive, over plain HTTP.
async fn arrives(
    layer: SecurityHeadersLayer,
    sent: &[(HeaderName, &str)],
    status: u16,
    name: &HeaderName,
) -> Vec<String> {
    let application = service_fn(async |_: Request<()>| {
        let head =
            sent.iter().fold(Response::builder().status(status), |head, (name, value)| head.header(name, *value));
        Ok::<_, Infallible>(head.body(()).unwrap())
    });
    let request = Request::get("/").extension(Scheme::HTTP).body(()).unwrap();
    let response = layer.layer(application).oneshot(request).await.unwrap();
    response.headers().get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_application_wins_unless_a_rule_says_otherwise() {
    for (number, (layer, sent, name, expected)) in [
        // The application's own, all of its lines.
        (recommended(), &[(FRAMES, "DENY")][..], FRAMES, &["DENY"][..]),
        (recommended().content_security_policy("a"), &[(CSP, "b"), (CSP, "c")], CSP, &["b", "c"]),
        (
            recommended().content_security_policy("a"),
            &[(header::CONTENT_SECURITY_POLICY_REPORT_ONLY, "b")],
            CSP,
            &["a"],
        ),
        // A policy of its own on frames leaves nothing for the older header to say.
        (recommended(), &[(CSP, "frame-ancestors https://a.example")], FRAMES, &[]),
        (recommended(), &[(CSP, "default-src 'self'")], FRAMES, &["SAMEORIGIN"]),
        (recommended().override_header(FRAMES, value("DENY")), &[(CSP, "frame-ancestors *")], FRAMES, &["DENY"]),
        (recommended().content_security_policy("frame-ancestors 'none'"), &[], FRAMES, &["SAMEORIGIN"]),
        // Leaving it to the application.
        (recommended().without(FRAMES), &[], FRAMES, &[]),
        (recommended().without(FRAMES), &[(FRAMES, "DENY")], FRAMES, &["DENY"]),
        (recommended().content_security_policy("a").content_security_policy("  \n"), &[], CSP, &[]),
        (recommended().content_security_policy("a\n  b;\tc"), &[], CSP, &["a b; c"]),
        // One more.
        (recommended().header(names::PERMISSIONS_POLICY, value("usb=()")), &[], names::PERMISSIONS_POLICY, &["usb=()"]),
        (
            recommended().content_security_policy_report_only("a"),
            &[],
            header::CONTENT_SECURITY_POLICY_REPORT_ONLY,
            &["a"],
        ),
        // The last word.
        (recommended().override_header(FRAMES, value("DENY")), &[(FRAMES, "a"), (FRAMES, "b")], FRAMES, &["DENY"]),
        (recommended().override_header(FRAMES, value("DENY")), &[(header::CONTENT_TYPE, "a/b")], FRAMES, &["DENY"]),
        (recommended().remove_header(FRAMES), &[(FRAMES, "a"), (FRAMES, "b")], FRAMES, &[]),
        (recommended().remove_header(header::ETAG), &[(header::ETAG, "\"a\"")], header::ETAG, &[]),
        (
            recommended().override_header(header::SERVER, value("mine")),
            &[(header::SERVER, "a")],
            header::SERVER,
            &["mine"],
        ),
        (recommended().header(header::SERVER, value("mine")), &[(header::SERVER, "a")], header::SERVER, &["mine"]),
        (recommended().keep(header::SERVER), &[(header::SERVER, "a")], header::SERVER, &["a"]),
        // Of two calls, the later.
        (recommended().override_header(FRAMES, value("DENY")).remove_header(FRAMES), &[(FRAMES, "a")], FRAMES, &[]),
        (
            recommended().remove_header(FRAMES).override_header(FRAMES, value("DENY")),
            &[(FRAMES, "a")],
            FRAMES,
            &["DENY"],
        ),
        (recommended().remove_header(FRAMES).keep(FRAMES), &[(FRAMES, "a")], FRAMES, &["a"]),
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
        assert_eq!(arrives(layer, sent, 200, &name).await, expected, "row {number}");
    }
}

#[tokio::test]
async fn an_override_holds_on_304_too() {
    let layer = recommended().override_header(FRAMES, value("DENY"));
    assert_eq!(arrives(layer, &[], 304, &FRAMES).await, ["DENY"]);
}

#[tokio::test]
async fn changing_a_layer_leaves_its_clones_alone() {
    let layer = recommended();
    let _changed = layer.clone().without(FRAMES);
    assert_eq!(arrives(layer, &[], 200, &FRAMES).await, ["SAMEORIGIN"]);
}

#[tokio::test]
async fn the_inner_service_s_error_passes() {
    let broken = recommended().layer(service_fn(async |_: Request<()>| Err::<Response<()>, _>("broken")));
    assert_eq!(broken.oneshot(Request::new(())).await.unwrap_err(), "broken");
}
