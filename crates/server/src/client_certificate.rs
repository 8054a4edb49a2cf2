//! What a client showed of itself in the TLS handshake, and how the upstream learns of it (RFC 9440).

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use rproxy_tls::Identity;
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
    subject_field: Option<HeaderValue>,
    fingerprint_field: Option<HeaderValue>,
    identity: Option<Identity>,
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
        let identity = Identity::from_certificate(leaf);
        let field = |text: fn(&Identity) -> &String| HeaderValue::try_from(text(identity.as_ref()?)).ok();
        let subject_field = field(|identity| &identity.subject);
        let fingerprint_field = field(|identity| &identity.fingerprint);
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let shared = Shared { chain, leaf_field, chain_field, subject_field, fingerprint_field, identity };
        Some(Self { shared: Arc::new(shared) })
    }

    /// Who the certificate names; `None` where it can't be read, which a verified one can.
    pub fn identity(&self) -> Option<&Identity> {
        self.shared.identity.as_ref()
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
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ClientCertificateLayer {
    fields: Option<Arc<Fields>>,
}

/// Where to say it.
#[derive(Clone, Debug, Default)]
struct Fields {
    subject: Option<HeaderName>,
    fingerprint: Option<HeaderName>,
}

impl ClientCertificateLayer {
    /// Both fields.
    pub fn new() -> Self {
        Self { fields: Some(Arc::default()) }
    }

    /// Neither adds nor drops anything, for servers that ask for no certificates.
    pub fn off() -> Self {
        Self { fields: None }
    }

    /// Says the certificate's subject in this field, too, as [`Identity::subject`] is written: for applications that
    /// do not know RFC 9440.
    pub fn subject(self, field: HeaderName) -> Self {
        self.with(|fields| fields.subject = Some(field))
    }

    /// Says the certificate's fingerprint in this field, too: SHA-256 in lower-case hexadecimal.
    pub fn fingerprint(self, field: HeaderName) -> Self {
        self.with(|fields| fields.fingerprint = Some(field))
    }

    fn with(mut self, change: impl FnOnce(&mut Fields)) -> Self {
        change(Arc::make_mut(self.fields.get_or_insert_default()));
        self
    }
}

impl<S> Layer<S> for ClientCertificateLayer {
    type Service = ClientCertificateService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClientCertificateService { inner, fields: self.fields.clone() }
    }
}

/// Made by [`ClientCertificateLayer`].
#[derive(Clone, Debug)]
pub struct ClientCertificateService<S> {
    inner: S,
    fields: Option<Arc<Fields>>,
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
        if let Some(fields) = &self.fields {
            tell(&mut request, fields);
        }
        self.inner.call(request)
    }
}

fn tell<B>(request: &mut Request<B>, fields: &Fields) {
    let shown = request.extensions().get::<TlsInfo>().and_then(|tls| tls.client_certificate.clone());
    let shown = shown.as_ref().map(|shown| &*shown.shared);
    let headers = request.headers_mut();
    say(headers, &CLIENT_CERT, shown.map(|shown| &shown.leaf_field));
    say(headers, &CLIENT_CERT_CHAIN, shown.and_then(|shown| shown.chain_field.as_ref()));
    if let Some(name) = &fields.subject {
        say(headers, name, shown.and_then(|shown| shown.subject_field.as_ref()));
    }
    if let Some(name) = &fields.fingerprint {
        say(headers, name, shown.and_then(|shown| shown.fingerprint_field.as_ref()));
    }
}

/// In the place of what the request said itself.
fn say(headers: &mut HeaderMap, name: &HeaderName, value: Option<&HeaderValue>) {
    match value {
        Some(value) => headers.insert(name, value.clone()),
        None => headers.remove(name),
    };
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
        assert_eq!(seen(layer.clone(), &[]).await, [None, None]);
        assert_eq!(seen(layer.clone(), &[b"leaf"]).await, [text(":bGVhZg==:"), None]);
        assert_eq!(seen(layer, &[b"leaf", b"a", b"b"]).await, [text(":bGVhZg==:"), text(":YQ==:, :Yg==:")]);
        assert_eq!(seen(ClientCertificateLayer::off(), &[b"leaf"]).await, [text(":bWU=:"), text(":bWU=:")]);
    }

    #[tokio::test]
    async fn fields_of_ones_own_say_who_it_is_and_are_nobody_elses() {
        let layer = ClientCertificateLayer::new()
            .subject(HeaderName::from_static("x-subject"))
            .fingerprint(HeaderName::from_static("x-fingerprint"));
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "alice");
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let ask = async |chain: &[CertificateDer<'_>]| {
            let tls = TlsInfo { server_name: None, client_certificate: ClientCertificate::new(chain) };
            let request = Request::get("/").header("x-subject", "CN=root").header("x-fingerprint", "00");
            let service = layer.layer(service_fn(async |request: Request<()>| {
                let field = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
                Ok::<_, Infallible>([field("x-subject"), field("x-fingerprint")])
            }));
            service.oneshot(request.extension(tls).body(()).unwrap()).await.unwrap()
        };
        assert_eq!(ask(&[]).await, [None, None]);
        let identity = Identity::from_certificate(certificate.der()).unwrap();
        assert_eq!(ask(&[certificate.der().clone()]).await, [Some("CN=alice".to_owned()), Some(identity.fingerprint)]);
    }
}
