//! Tests that compare the strict profile with the recommendations of the OWASP Secure Headers Project.
//!
//! The list is `ci/headers_add.json` as of 2024-09-02 (<https://owasp.org/www-project-secure-headers/>). A comment gives
//! the reason for each difference.

use std::convert::Infallible;

use http::uri::Scheme;
use http::{Request, Response};
use rproxy_security_headers::SecurityHeadersLayer;
use tower::{Layer, ServiceExt, service_fn};

enum Expected {
    /// The header value that OWASP recommends.
    Same,
    /// A header value other than the value that OWASP recommends.
    Different(&'static str),
    /// No header, although OWASP recommends it.
    Absent,
}

use Expected::{Absent, Different, Same};

const ADDED: &[(&str, &str, Expected)] = &[
    // The inner service decides whether a response may be stored. On all assets, this value would disable caching.
    ("cache-control", "no-store, max-age=0", Absent),
    // Useful for the response to a logout only.
    ("clear-site-data", "\"cache\",\"cookies\",\"storage\"", Absent),
    // Adds `base-uri`. Omits `upgrade-insecure-requests`, which breaks a site without TLS and has the same effect as HSTS
    // with TLS, and `block-all-mixed-content`, which browsers no longer support.
    (
        "content-security-policy",
        "default-src 'self'; form-action 'self'; object-src 'none'; frame-ancestors 'none'; \
         upgrade-insecure-requests; block-all-mixed-content",
        Different("default-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"),
    ),
    ("cross-origin-embedder-policy", "require-corp", Same),
    ("cross-origin-opener-policy", "same-origin", Same),
    ("cross-origin-resource-policy", "same-origin", Same),
    // Denies only features that can harm users. `fullscreen`, `autoplay`, `picture-in-picture` and similar ones cannot, and
    // many pages use them. Passkeys (`publickey-credentials-get`) and the clipboard require a user gesture. Browsers no
    // longer support `interest-cohort` and `sync-xhr`.
    (
        "permissions-policy",
        "accelerometer=(), autoplay=(), camera=(), cross-origin-isolated=(), display-capture=(), encrypted-media=(), \
         fullscreen=(), geolocation=(), gyroscope=(), keyboard-map=(), magnetometer=(), microphone=(), midi=(), \
         payment=(), picture-in-picture=(), publickey-credentials-get=(), screen-wake-lock=(), sync-xhr=(self), usb=(), \
         web-share=(), xr-spatial-tracking=(), clipboard-read=(), clipboard-write=(), gamepad=(), hid=(), \
         idle-detection=(), interest-cohort=(), serial=(), unload=()",
        Different(
            "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), hid=(), idle-detection=(), \
             magnetometer=(), microphone=(), midi=(), payment=(), serial=(), usb=(), xr-spatial-tracking=()",
        ),
    ),
    ("referrer-policy", "no-referrer", Same),
    // Preload lists recommend two years.
    (
        "strict-transport-security",
        "max-age=31536000; includeSubDomains",
        Different("max-age=63072000; includeSubDomains"),
    ),
    ("x-content-type-options", "nosniff", Same),
    // The value is case-insensitive (HTML §7.4.1). Most scanners expect it in capitals.
    ("x-frame-options", "deny", Different("DENY")),
    ("x-permitted-cross-domain-policies", "none", Same),
];

#[tokio::test]
async fn strict_profile_follows_owasp_except_for_documented_differences() {
    let page = service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::builder().header("content-type", "text/html").body(()).unwrap())
    });
    let request = Request::get("/").extension(Scheme::HTTPS).body(()).unwrap();
    let response = SecurityHeadersLayer::strict().layer(page).oneshot(request).await.unwrap();
    let headers = response.headers();
    for (name, owasp, expected) in ADDED {
        let expected = match expected {
            Same => Some(*owasp),
            Different(value) => Some(*value),
            Absent => None,
        };
        assert_eq!(headers.get(*name).map(|value| value.to_str().unwrap()), expected, "{name}");
    }
    // No other header is added.
    assert_eq!(headers.len(), 1 + ADDED.iter().filter(|(.., expected)| !matches!(expected, Absent)).count());
}
