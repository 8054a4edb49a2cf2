//! The strict profile against what the OWASP Secure Headers Project recommends: `ci/headers_add.json` of its site, as of
//! 2024-09-02 (<https://owasp.org/www-project-secure-headers/>). Where they differ, the reason stands here.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;

use http::uri::Scheme;
use http::{Request, Response};
use rproxy_security_headers::SecurityHeadersLayer;
use tower::{Layer, ServiceExt, service_fn};

enum Verdict {
    /// As OWASP has it.
    Same,
    /// Stricter or newer than OWASP has it.
    Ours(&'static str),
    /// Not sent.
    Nothing,
}

use Verdict::{Nothing, Ours, Same};

const ADDED: &[(&str, &str, Verdict)] = &[
    // Whether an answer may be stored is for who made it to say: on every asset it would cost a site its caches.
    ("cache-control", "no-store, max-age=0", Nothing),
    // For the answer that signs somebody out, and no other.
    ("clear-site-data", "\"cache\",\"cookies\",\"storage\"", Nothing),
    // `base-uri` besides. No `upgrade-insecure-requests`, which breaks a site without TLS and does no more than HSTS on
    // one with it, nor `block-all-mixed-content`, which browsers have given up.
    (
        "content-security-policy",
        "default-src 'self'; form-action 'self'; object-src 'none'; frame-ancestors 'none'; \
         upgrade-insecure-requests; block-all-mixed-content",
        Ours("default-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"),
    ),
    ("cross-origin-embedder-policy", "require-corp", Same),
    ("cross-origin-opener-policy", "same-origin", Same),
    ("cross-origin-resource-policy", "same-origin", Same),
    // What could harm whoever looks at a page. `fullscreen`, `autoplay`, `picture-in-picture` and the like could not, and
    // are wanted by honest pages; passkeys (`publickey-credentials-get`) and the clipboard need a gesture; `interest-cohort`
    // and `sync-xhr` are gone.
    (
        "permissions-policy",
        "accelerometer=(), autoplay=(), camera=(), cross-origin-isolated=(), display-capture=(), encrypted-media=(), \
         fullscreen=(), geolocation=(), gyroscope=(), keyboard-map=(), magnetometer=(), microphone=(), midi=(), \
         payment=(), picture-in-picture=(), publickey-credentials-get=(), screen-wake-lock=(), sync-xhr=(self), usb=(), \
         web-share=(), xr-spatial-tracking=(), clipboard-read=(), clipboard-write=(), gamepad=(), hid=(), \
         idle-detection=(), interest-cohort=(), serial=(), unload=()",
        Ours(
            "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), hid=(), idle-detection=(), \
             magnetometer=(), microphone=(), midi=(), payment=(), serial=(), usb=(), xr-spatial-tracking=()",
        ),
    ),
    ("referrer-policy", "no-referrer", Same),
    // Two years are what preload lists recommend.
    ("strict-transport-security", "max-age=31536000; includeSubDomains", Ours("max-age=63072000; includeSubDomains")),
    ("x-content-type-options", "nosniff", Same),
    // Its value has no case (HTML §7.4.1); in capitals it is what most scanners look for.
    ("x-frame-options", "deny", Ours("DENY")),
    ("x-permitted-cross-domain-policies", "none", Same),
];

#[tokio::test]
async fn strict_sends_what_owasp_recommends_but_for_what_is_explained() {
    let page = service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::builder().header("content-type", "text/html").body(()).unwrap())
    });
    let request = Request::get("/").extension(Scheme::HTTPS).body(()).unwrap();
    let response = SecurityHeadersLayer::strict().layer(page).oneshot(request).await.unwrap();
    let headers = response.headers();
    for (name, owasp, verdict) in ADDED {
        let expected = match verdict {
            Same => Some(*owasp),
            Ours(value) => Some(*value),
            Nothing => None,
        };
        assert_eq!(headers.get(*name).map(|value| value.to_str().unwrap()), expected, "{name}");
    }
    // And nothing that is not on the list.
    assert_eq!(headers.len(), 1 + ADDED.iter().filter(|(.., verdict)| !matches!(verdict, Nothing)).count());
}
