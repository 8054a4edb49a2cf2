//! The layer in an axum router.
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use http::{HeaderName, Request};
use rproxy_client_cert::{ClientCertificate, ClientCertificateLayer, TlsInfo};
use tower::ServiceExt;

#[tokio::test]
async fn handler_reads_the_subject_of_the_verified_certificate_only() {
    let subject = async |headers: HeaderMap| {
        headers.get("x-subject").cloned().map_or_else(String::new, |subject| subject.to_str().unwrap().to_owned())
    };
    let layer = ClientCertificateLayer::new().subject(HeaderName::from_static("x-subject"));
    let app = Router::new().fallback(subject).layer(layer);
    let mut tls = TlsInfo::default();
    tls.client_certificate = ClientCertificate::new(&[b"leaf"]).map(|leaf| leaf.with_identity("CN=alice", "00ff"));
    for (tls, expected) in [(tls, "CN=alice"), (TlsInfo::default(), "")] {
        let request = Request::get("/").header("x-subject", "CN=root").extension(tls).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(axum::body::to_bytes(response.into_body(), 100).await.unwrap(), expected);
    }
}
