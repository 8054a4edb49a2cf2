//! The fields that the inner service receives.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;

use http::{HeaderName, Request};
use rproxy_client_cert::{ClientCertificate, ClientCertificateLayer, TlsInfo};
use tower::{Layer, ServiceExt, service_fn};

const FIELDS: [&str; 4] = ["client-cert", "client-cert-chain", "x-subject", "x-fingerprint"];

/// Returns the fields that the inner service receives from a request with spoofed ones.
async fn forwarded(layer: &ClientCertificateLayer, certificate: Option<ClientCertificate>) -> [Option<String>; 4] {
    let mut tls = TlsInfo::default();
    tls.client_certificate = certificate;
    let request = FIELDS.into_iter().fold(Request::get("/"), |request, name| request.header(name, "spoofed"));
    let service = layer.layer(service_fn(async |request: Request<()>| {
        let field = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        Ok::<_, Infallible>(FIELDS.map(field))
    }));
    service.oneshot(request.extension(tls).body(()).unwrap()).await.unwrap()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test]
async fn sets_the_verified_certificate_and_removes_spoofed_fields() {
    let layer = ClientCertificateLayer::new();
    let spoofed = || text("spoofed");
    assert_eq!(forwarded(&layer, None).await, [None, None, spoofed(), spoofed()]);
    let leaf = ClientCertificate::new(&[b"leaf"]);
    assert_eq!(forwarded(&layer, leaf.clone()).await, [text(":bGVhZg==:"), None, spoofed(), spoofed()]);
    let chain = ClientCertificate::new(&[&b"leaf"[..], b"a", b"b"]);
    assert_eq!(forwarded(&layer, chain).await, [text(":bGVhZg==:"), text(":YQ==:, :Yg==:"), spoofed(), spoofed()]);
    assert_eq!(forwarded(&ClientCertificateLayer::disabled(), leaf).await, [(); 4].map(|()| spoofed()));
}

#[tokio::test]
async fn sets_subject_and_fingerprint_fields_and_removes_spoofed_ones() {
    let layer = ClientCertificateLayer::new()
        .subject(HeaderName::from_static("x-subject"))
        .fingerprint(HeaderName::from_static("x-fingerprint"));
    assert_eq!(forwarded(&layer, None).await, [None, None, None, None]);
    let alice = ClientCertificate::new(&[b"leaf"]).unwrap().with_identity("CN=alice", "00ff");
    assert_eq!(forwarded(&layer, Some(alice)).await, [text(":bGVhZg==:"), None, text("CN=alice"), text("00ff")]);
}
