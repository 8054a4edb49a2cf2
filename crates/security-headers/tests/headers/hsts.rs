//! Tests of `Strict-Transport-Security`: the value, and the responses that have the field (RFC 6797).

use std::convert::Infallible;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderValue, Request, Response, header};
use rproxy_security_headers::{Hsts, HstsError, SecurityHeadersLayer};
use tower::{Layer, ServiceExt, service_fn};

const YEAR: Duration = Duration::from_secs(31_536_000);

/// Returns the `Strict-Transport-Security` of a response if the inner service sends `inner_value`.
async fn hsts(
    layer: SecurityHeadersLayer,
    scheme: Option<Scheme>,
    inner_value: Option<&'static str>,
) -> Option<HeaderValue> {
    let inner = service_fn(async |_: Request<()>| {
        let mut response = Response::new(());
        let field = inner_value.map(|value| (header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(value)));
        response.headers_mut().extend(field);
        Ok::<_, Infallible>(response)
    });
    // The scheme in the request target comes from the client, so the layer must ignore it.
    let mut request = Request::get("https://a.example/").body(()).unwrap();
    if let Some(scheme) = scheme {
        request.extensions_mut().insert(scheme);
    }
    let mut response = layer.layer(inner).oneshot(request).await.unwrap();
    response.headers_mut().remove(header::STRICT_TRANSPORT_SECURITY)
}

#[tokio::test]
async fn sends_hsts_over_tls_only() {
    let layer = SecurityHeadersLayer::minimal;
    let custom = HeaderValue::from_static("max-age=7");
    for (layer, scheme, expected) in [
        (layer(), Some(Scheme::HTTPS), Some("max-age=31536000")),
        (layer(), Some(Scheme::HTTP), None),
        (layer(), None, None),
        (layer().assume_https(true), None, Some("max-age=31536000")),
        (layer().assume_https(true), Some(Scheme::HTTP), Some("max-age=31536000")),
        (layer().assume_https(true).assume_https(false), Some(Scheme::HTTP), None),
        (layer().without_hsts(), Some(Scheme::HTTPS), None),
        (layer().without(header::STRICT_TRANSPORT_SECURITY), Some(Scheme::HTTPS), None),
        (layer().without_hsts().hsts(Hsts::new(YEAR)), Some(Scheme::HTTPS), Some("max-age=31536000")),
        (layer().without_hsts().hsts(Hsts::new(YEAR)), Some(Scheme::HTTP), None),
        (
            layer().override_header(header::STRICT_TRANSPORT_SECURITY, custom.clone()),
            Some(Scheme::HTTPS),
            Some("max-age=7"),
        ),
        (layer().override_header(header::STRICT_TRANSPORT_SECURITY, custom), Some(Scheme::HTTP), None),
    ] {
        let case = format!("{layer:?} {scheme:?}");
        assert_eq!(hsts(layer, scheme, None).await.as_ref().map(|value| value.to_str().unwrap()), expected, "{case}");
    }
}

#[tokio::test]
async fn keeps_the_hsts_value_of_the_inner_service() {
    for scheme in [Scheme::HTTPS, Scheme::HTTP] {
        let sent = hsts(SecurityHeadersLayer::strict(), Some(scheme), Some("max-age=0")).await;
        assert_eq!(sent.unwrap(), "max-age=0");
    }
}

#[tokio::test]
async fn formats_hsts_max_age_subdomains_and_preload() {
    let preloaded = Hsts::new(2 * YEAR).include_subdomains(true).preload(true).unwrap();
    for (built, expected) in [
        (Hsts::new(Duration::ZERO), "max-age=0"),
        (Hsts::new(Duration::from_millis(300_900)), "max-age=300"),
        (Hsts::new(Duration::MAX), "max-age=18446744073709551615"),
        (Hsts::new(YEAR).include_subdomains(true), "max-age=31536000; includeSubDomains"),
        (preloaded, "max-age=63072000; includeSubDomains; preload"),
        (preloaded.preload(false).unwrap(), "max-age=63072000; includeSubDomains"),
        (preloaded.include_subdomains(false), "max-age=63072000"),
    ] {
        let layer = SecurityHeadersLayer::minimal().hsts(built);
        assert_eq!(hsts(layer, Some(Scheme::HTTPS), None).await.unwrap(), expected);
    }
}

#[test]
fn rejects_hsts_preload_that_browser_preload_lists_would_reject() {
    let almost_a_year = YEAR - Duration::from_nanos(1);
    for (built, expected) in [
        (
            Hsts::new(almost_a_year).include_subdomains(true),
            "HSTS preload requires a max-age of at least 31536000 seconds, not 31535999",
        ),
        (Hsts::new(YEAR), "HSTS preload requires includeSubDomains"),
    ] {
        assert_eq!(built.preload(true).unwrap_err().to_string(), expected);
        assert_eq!(built.preload(false), Ok(built));
    }
    let short = Hsts::new(Duration::ZERO).preload(true);
    assert_eq!(short, Err(HstsError::PreloadMaxAgeTooShort { max_age: Duration::ZERO }));
}
