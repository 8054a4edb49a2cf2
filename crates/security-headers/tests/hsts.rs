//! `Strict-Transport-Security`: what it says, and when it is sent (RFC 6797).
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderValue, Request, Response, header};
use rproxy_security_headers::{Hsts, HstsError, SecurityHeadersLayer};
use tower::{Layer, ServiceExt, service_fn};

const YEAR: Duration = Duration::from_secs(31_536_000);

async fn hsts(layer: SecurityHeadersLayer, scheme: Option<Scheme>, own: Option<&'static str>) -> Option<HeaderValue> {
    let application = service_fn(async |_: Request<()>| {
        let mut response = Response::new(());
        let own = own.map(|own| (header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(own)));
        response.headers_mut().extend(own);
        Ok::<_, Infallible>(response)
    });
    // The scheme of the target is the client's claim, and not believed.
    let mut request = Request::get("https://a.example/").body(()).unwrap();
    if let Some(scheme) = scheme {
        request.extensions_mut().insert(scheme);
    }
    let mut response = layer.layer(application).oneshot(request).await.unwrap();
    response.headers_mut().remove(header::STRICT_TRANSPORT_SECURITY)
}

#[tokio::test]
async fn it_is_sent_over_tls_only() {
    let layer = SecurityHeadersLayer::minimal;
    let own = HeaderValue::from_static("max-age=7");
    for (layer, scheme, expected) in [
        (layer(), Some(Scheme::HTTPS), Some("max-age=31536000")),
        (layer(), Some(Scheme::HTTP), None),
        (layer(), None, None),
        (layer().assume_https(true), None, Some("max-age=31536000")),
        (layer().assume_https(true), Some(Scheme::HTTP), Some("max-age=31536000")),
        (layer().assume_https(true).assume_https(false), Some(Scheme::HTTP), None),
        (layer().without_hsts(), Some(Scheme::HTTPS), None),
        (layer().without(header::STRICT_TRANSPORT_SECURITY), Some(Scheme::HTTPS), None),
        (layer().without_hsts().hsts(Hsts::max_age(YEAR)), Some(Scheme::HTTPS), Some("max-age=31536000")),
        (layer().without_hsts().hsts(Hsts::max_age(YEAR)), Some(Scheme::HTTP), None),
        (
            layer().override_header(header::STRICT_TRANSPORT_SECURITY, own.clone()),
            Some(Scheme::HTTPS),
            Some("max-age=7"),
        ),
        (layer().override_header(header::STRICT_TRANSPORT_SECURITY, own), Some(Scheme::HTTP), None),
    ] {
        let case = format!("{layer:?} {scheme:?}");
        assert_eq!(hsts(layer, scheme, None).await.as_ref().map(|value| value.to_str().unwrap()), expected, "{case}");
    }
}

#[tokio::test]
async fn the_application_s_own_stands() {
    for scheme in [Scheme::HTTPS, Scheme::HTTP] {
        let sent = hsts(SecurityHeadersLayer::strict(), Some(scheme), Some("max-age=0")).await;
        assert_eq!(sent.unwrap(), "max-age=0");
    }
}

#[tokio::test]
async fn it_says_what_it_was_built_of() {
    let preloaded = Hsts::max_age(2 * YEAR).include_subdomains(true).preload(true).unwrap();
    for (built, expected) in [
        (Hsts::max_age(Duration::ZERO), "max-age=0"),
        (Hsts::max_age(Duration::from_millis(300_900)), "max-age=300"),
        (Hsts::max_age(Duration::MAX), "max-age=18446744073709551615"),
        (Hsts::max_age(YEAR).include_subdomains(true), "max-age=31536000; includeSubDomains"),
        (preloaded, "max-age=63072000; includeSubDomains; preload"),
        (preloaded.preload(false).unwrap(), "max-age=63072000; includeSubDomains"),
        (preloaded.include_subdomains(false), "max-age=63072000"),
    ] {
        let layer = SecurityHeadersLayer::minimal().hsts(built);
        assert_eq!(hsts(layer, Some(Scheme::HTTPS), None).await.unwrap(), expected);
    }
}

#[test]
fn preload_is_refused_where_the_lists_would_refuse_it() {
    let almost = YEAR - Duration::from_nanos(1);
    for (built, expected) in [
        (
            Hsts::max_age(almost).include_subdomains(true),
            "HSTS preload needs a max-age of at least 31536000 seconds, not 31535999",
        ),
        (Hsts::max_age(YEAR), "HSTS preload needs includeSubDomains"),
    ] {
        assert_eq!(built.preload(true).unwrap_err().to_string(), expected);
        assert_eq!(built.preload(false), Ok(built));
    }
    let short = Hsts::max_age(Duration::ZERO).preload(true);
    assert_eq!(short, Err(HstsError::PreloadTooShort { max_age: Duration::ZERO }));
}
