//! TLS connections to backends: trusted certificates, server name, HTTP version, and client certificates.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Version;
use http_body_util::BodyExt;
use rproxy_upstream::{ProxyErrorKind, Upstream};
use tower::ServiceExt;

use crate::support::{Body, get};
use crate::tls_backend::{Authority, Server, ask, serve, to};

#[tokio::test]
async fn rejects_certificates_for_other_names_or_from_untrusted_authorities() {
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.issue("app.internal");
    let (address, _) = serve(Server::new(&pair)).await;
    let trusting = |authority: &Authority, name: &str| {
        to(address).root_certificates([authority.root()]).server_name(name).unwrap().build().unwrap()
    };
    assert_eq!(ask(&trusting(&authority, "app.internal"), "/").await.unwrap(), "HTTP/1.1 app.internal");
    for (upstream, why) in [
        (trusting(&authority, "other.internal"), "another name"),
        (trusting(&other, "app.internal"), "another authority"),
        (to(address).root_certificates([authority.root()]).build().unwrap(), "the address is not in the certificate"),
        (to(address).server_name("app.internal").unwrap().build().unwrap(), "the system does not know it"),
    ] {
        assert_eq!(ask(&upstream, "/").await, Err(ProxyErrorKind::TlsCertificateError), "{why}");
    }
}

#[tokio::test]
async fn sends_the_client_certificate_to_a_backend_that_requests_one() {
    let authority = Authority::new();
    let pair = authority.issue("127.0.0.1");
    let (address, _) = serve(Server { alpn: &[], client_authority: Some(&authority), ..Server::new(&pair) }).await;
    let builder = to(address).root_certificates([authority.root()]);
    let client = authority.issue("rproxy");
    let known = builder.clone().client_certificate(vec![client.certificate.clone()], client.key()).build().unwrap();
    assert_eq!(ask(&known, "/").await.unwrap(), "HTTP/1.1 nobody");
    assert!(ask(&builder.build().unwrap(), "/").await.is_err());
}

#[tokio::test]
async fn build_rejects_a_client_key_that_does_not_match_its_certificate() {
    let authority = Authority::new();
    let [one, other] = [authority.issue("a"), authority.issue("a")];
    let builder = to(([127, 0, 0, 1], 1).into()).client_certificate(vec![one.certificate.clone()], other.key());
    let error = builder.build_backends().unwrap_err();
    assert_eq!(error.to_string(), "bad client certificate for upstream TLS");
    assert!(std::error::Error::source(&error).is_some(), "the cause is the source");
}

#[tokio::test]
async fn uses_one_http2_connection_if_the_backend_prefers_http2() {
    let authority = Authority::new();
    for (alpn, answer, most) in [
        (&["h2", "http/1.1"][..], "HTTP/2.0 nobody", 1),
        (&["http/1.1", "h2"], "HTTP/1.1 nobody", 4),
        (&[], "HTTP/1.1 nobody", 4),
    ] {
        let pair = authority.issue("127.0.0.1");
        let (address, counters) = serve(Server { alpn, ..Server::new(&pair) }).await;
        let upstream: Upstream<Body> = to(address).root_certificates([authority.root()]).build().unwrap();
        assert_eq!(ask(&upstream, "/").await.unwrap(), answer, "{alpn:?}");
        let (a, b, c, d) =
            tokio::join!(ask(&upstream, "/"), ask(&upstream, "/"), ask(&upstream, "/"), ask(&upstream, "/"));
        for answered in [a, b, c, d] {
            assert_eq!(answered.unwrap(), answer, "{alpn:?}");
        }
        assert!((1..=most).contains(&counters.connections.load(Ordering::SeqCst)), "{alpn:?}");
    }
}

#[tokio::test]
async fn sends_upgrades_over_http1_unless_the_backend_supports_only_http2() {
    for (alpn, answer) in [(&["h2", "http/1.1"][..], "HTTP/1.1 nobody"), (&["h2"], "HTTP/2.0 nobody")] {
        let authority = Authority::new();
        let pair = authority.issue("127.0.0.1");
        let (address, _) = serve(Server { alpn, ..Server::new(&pair) }).await;
        let upstream: Upstream<Body> = to(address).root_certificates([authority.root()]).build().unwrap();
        let mut request = get("/");
        request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
        let response = upstream.oneshot(request).await.unwrap();
        // The version is that of the other hop (RFC 9110 §2.5).
        assert_eq!(response.version(), Version::HTTP_11);
        // The backend does not switch, which is its response.
        let body: Bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, answer);
    }
}
