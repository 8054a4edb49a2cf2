//! `/api/tls`: responds with the TLS session of the client and the certificate.
//!
//! The proxy ends the session, so it adds its parameters to requests for this path.

use http::header::HeaderMap;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use rproxy_server::TlsInfo;
use rproxy_tls::{CertificateStatus, Certificates};
use serde_json::{Value, json};

use super::{SiteBody, full};

pub(super) const PATH: &str = "/api/tls";

const VERSION: HeaderName = HeaderName::from_static("demo-tls-version");
const CIPHER_SUITE: HeaderName = HeaderName::from_static("demo-tls-cipher-suite");
const KEY_EXCHANGE: HeaderName = HeaderName::from_static("demo-tls-key-exchange");
const ALPN: HeaderName = HeaderName::from_static("demo-tls-alpn");

/// Adds the TLS session of the client to requests for [`PATH`]. Spoofed values are replaced.
pub(crate) fn add_tls_fields<B>(request: &mut Request<B>) {
    if request.uri().path() != PATH {
        return;
    }
    let parameters = request.extensions().get::<TlsInfo>().and_then(|tls| tls.parameters);
    let alpn = match request.version() {
        Version::HTTP_2 => "h2",
        _ => "http/1.1",
    };
    for (name, value) in [
        (VERSION, parameters.and_then(|parameters| parameters.version)),
        (CIPHER_SUITE, parameters.and_then(|parameters| parameters.cipher_suite)),
        (KEY_EXCHANGE, parameters.and_then(|parameters| parameters.key_exchange)),
        (ALPN, parameters.map(|_| alpn)),
    ] {
        match value {
            Some(value) => request.headers_mut().insert(name, HeaderValue::from_static(value)),
            None => request.headers_mut().remove(name),
        };
    }
}

pub(super) fn answer(headers: &HeaderMap, certificates: Option<&Certificates>) -> Response<SiteBody> {
    let field = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let certificate = certificates.and_then(|certificates| certificates.status().into_iter().next());
    let session = json!({
        "version": field(VERSION),
        "cipher_suite": field(CIPHER_SUITE),
        "key_exchange": field(KEY_EXCHANGE),
        "alpn": field(ALPN),
        "certificate": certificate.as_ref().map(to_json),
    });
    full(StatusCode::OK, "application/json", format!("{session:#}\n"))
}

fn to_json(certificate: &CertificateStatus) -> Value {
    json!({
        "names": certificate.names,
        "source": certificate.source.as_str(),
        "key_type": certificate.key_type.map(|key_type| key_type.as_str()),
        "not_after": certificate.not_after.map(httpdate::fmt_http_date),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_spoofed_fields_without_tls() {
        let spoofed = |path: &str| Request::get(path).header(VERSION, "TLSv9").header(ALPN, "h9").body(()).unwrap();
        let mut request = spoofed(PATH);
        add_tls_fields(&mut request);
        assert!(request.headers().is_empty());
        let mut other = spoofed("/api/echo");
        add_tls_fields(&mut other);
        assert_eq!(other.headers().len(), 2);
    }
}
