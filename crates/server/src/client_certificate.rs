//! What a client showed of itself in the TLS handshake, and how the upstream learns of it (RFC 9440).

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Request};
use rustls::pki_types::CertificateDer;
use tower_layer::Layer;
use tower_service::Service;

use crate::TlsInfo;

/// The certificate of a client, which somebody vouches for: it was verified in the handshake.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    shared: Arc<Shared>,
}

#[derive(PartialEq, Eq)]
struct Shared {
    chain: Vec<CertificateDer<'static>>,
    // Made once for a connection, and cloned for a request.
    leaf_field: HeaderValue,
    chain_field: Option<HeaderValue>,
}

impl ClientCertificate {
    /// `None`: the client showed none.
    pub(crate) fn new(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let (leaf, issuers) = chain.split_first()?;
        // RFC 9440 §2.1: a byte sequence of RFC 8941; §2.2: a list of them.
        let item = |certificate: &CertificateDer<'_>| format!(":{}:", STANDARD.encode(certificate));
        let list = issuers.iter().map(item).collect::<Vec<_>>().join(", ");
        let chain_field = if issuers.is_empty() { None } else { HeaderValue::try_from(list).ok() };
        let leaf_field = HeaderValue::try_from(item(leaf)).ok()?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Some(Self { shared: Arc::new(Shared { chain, leaf_field, chain_field }) })
    }

    /// The certificates as the client sent them, its own first, in DER.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.shared.chain
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("certificates", &self.chain().len()).finish()
    }
}

/// Tells the upstream of the client's certificate, in `Client-Cert` and `Client-Cert-Chain` (RFC 9440).
///
/// What requests say of it themselves is dropped: here the connection knows.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct ClientCertificateLayer {
    is_off: bool,
}

impl ClientCertificateLayer {
    /// Both fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Neither adds nor drops anything, for servers that ask for no certificates.
    pub fn off() -> Self {
        Self { is_off: true }
    }
}

impl<S> Layer<S> for ClientCertificateLayer {
    type Service = ClientCertificateService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClientCertificateService { inner, is_off: self.is_off }
    }
}

/// Made by [`ClientCertificateLayer`].
#[derive(Clone, Copy, Debug)]
pub struct ClientCertificateService<S> {
    inner: S,
    is_off: bool,
}

impl<S> ClientCertificateService<S> {
    /// The service inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service inside, to be changed.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service inside, without this one around it.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B> Service<Request<B>> for ClientCertificateService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if !self.is_off {
            tell(&mut request);
        }
        self.inner.call(request)
    }
}

fn tell<B>(request: &mut Request<B>) {
    let shown = request.extensions().get::<TlsInfo>().and_then(|tls| tls.client_certificate.clone());
    let fields = shown.as_ref().map(|shown| (&shown.shared.leaf_field, shown.shared.chain_field.as_ref()));
    let (leaf, chain) = match fields {
        Some((leaf, chain)) => (Some(leaf), chain),
        None => (None, None),
    };
    for (name, value) in [(CLIENT_CERT, leaf), (CLIENT_CERT_CHAIN, chain)] {
        match value {
            Some(value) => request.headers_mut().insert(name, value.clone()),
            None => request.headers_mut().remove(name),
        };
    }
}

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use tower::{ServiceExt, service_fn};

    /// What the service behind the layer sees.
    async fn seen(layer: ClientCertificateLayer, chain: &[&[u8]]) -> [Option<String>; 2] {
        let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(*der)).collect();
        let tls = TlsInfo { server_name: None, client_certificate: ClientCertificate::new(&chain) };
        let request = Request::get("/").header("client-cert", ":bWU=:").header("client-cert-chain", ":bWU=:");
        let request = request.extension(tls).body(()).unwrap();
        let service = layer.layer(service_fn(async |request: Request<()>| {
            let field = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            Ok::<_, Infallible>([field(CLIENT_CERT), field(CLIENT_CERT_CHAIN)])
        }));
        service.oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn the_upstream_sees_what_the_handshake_showed_and_no_claim() {
        let layer = ClientCertificateLayer::new();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(seen(layer, &[]).await, [None, None]);
        assert_eq!(seen(layer, &[b"leaf"]).await, [text(":bGVhZg==:"), None]);
        assert_eq!(seen(layer, &[b"leaf", b"a", b"b"]).await, [text(":bGVhZg==:"), text(":YQ==:, :Yg==:")]);
        assert_eq!(seen(ClientCertificateLayer::off(), &[b"leaf"]).await, [text(":bWU=:"), text(":bWU=:")]);
    }
}
