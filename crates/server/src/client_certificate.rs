//! Client certificates (mutual TLS), and a layer that forwards them to the backend (RFC 9440).

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

/// The certificate chain of a client, verified in the TLS handshake.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    inner: Arc<Inner>,
}

#[derive(PartialEq, Eq)]
struct Inner {
    chain: Vec<CertificateDer<'static>>,
    // The field values are created once per connection, and cloned for each request.
    leaf_field: HeaderValue,
    chain_field: Option<HeaderValue>,
    subject_field: Option<HeaderValue>,
    fingerprint_field: Option<HeaderValue>,
    identity: Option<Identity>,
}

impl ClientCertificate {
    /// Creates a client certificate from its chain, or returns `None` if the chain is empty.
    pub(crate) fn new(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let (leaf, issuers) = chain.split_first()?;
        // RFC 9440 §2.1: a byte sequence (RFC 8941); §2.2: a list of byte sequences.
        let item = |certificate: &CertificateDer<'_>| format!(":{}:", STANDARD.encode(certificate));
        let list = issuers.iter().map(item).collect::<Vec<_>>().join(", ");
        let chain_field = if issuers.is_empty() { None } else { HeaderValue::try_from(list).ok() };
        let leaf_field = HeaderValue::try_from(item(leaf)).ok()?;
        let identity = Identity::from_certificate(leaf);
        let field = |text: fn(&Identity) -> &String| HeaderValue::try_from(text(identity.as_ref()?)).ok();
        let subject_field = field(|identity| &identity.subject);
        let fingerprint_field = field(|identity| &identity.fingerprint);
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let inner = Inner { chain, leaf_field, chain_field, subject_field, fingerprint_field, identity };
        Some(Self { inner: Arc::new(inner) })
    }

    /// Returns the subject and fingerprint of the client's certificate.
    ///
    /// It is `None` if the certificate can't be parsed, which is unlikely after verification.
    pub fn identity(&self) -> Option<&Identity> {
        self.inner.identity.as_ref()
    }

    /// Returns the client's certificate chain in DER, starting with the client's own certificate.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.inner.chain
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("certificates", &self.chain().len()).finish()
    }
}

/// A layer that forwards client certificates in the fields `Client-Cert` and `Client-Cert-Chain` (RFC 9440).
///
/// Spoofed values of these fields are removed from requests.
///
/// # Examples
///
/// ```
/// use http::HeaderName;
/// use rproxy_server::ClientCertificateLayer;
///
/// let layer = ClientCertificateLayer::new().subject(HeaderName::from_static("x-client-subject"));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ClientCertificateLayer {
    fields: Option<Arc<Fields>>,
}

/// The names of the optional header fields for the certificate's subject and fingerprint.
#[derive(Clone, Debug, Default)]
struct Fields {
    subject: Option<HeaderName>,
    fingerprint: Option<HeaderName>,
}

impl ClientCertificateLayer {
    /// Creates a layer that sets the fields `Client-Cert` and `Client-Cert-Chain`.
    pub fn new() -> Self {
        Self { fields: Some(Arc::default()) }
    }

    /// Creates a layer that forwards requests unchanged, for servers that do not request client certificates.
    pub fn disabled() -> Self {
        Self { fields: None }
    }

    /// Also sets the header field `field` to the certificate's subject, for backends that do not support RFC 9440.
    ///
    /// The format is that of [`Identity::subject`].
    pub fn subject(self, field: HeaderName) -> Self {
        self.with(|fields| fields.subject = Some(field))
    }

    /// Also sets the header field `field` to the certificate's SHA-256 fingerprint in lower-case hexadecimal.
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

/// A service that forwards the client's certificate in header fields.
#[derive(Clone, Debug)]
pub struct ClientCertificateService<S> {
    inner: S,
    fields: Option<Arc<Fields>>,
}

impl<S> ClientCertificateService<S> {
    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
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
            set_fields(&mut request, fields);
        }
        self.inner.call(request)
    }
}

fn set_fields<B>(request: &mut Request<B>, fields: &Fields) {
    let certificate = request.extensions().get::<TlsInfo>().and_then(|tls| tls.client_certificate.clone());
    let certificate = certificate.as_ref().map(|certificate| &*certificate.inner);
    let headers = request.headers_mut();
    set_field(headers, &CLIENT_CERT, certificate.map(|certificate| &certificate.leaf_field));
    set_field(headers, &CLIENT_CERT_CHAIN, certificate.and_then(|certificate| certificate.chain_field.as_ref()));
    if let Some(name) = &fields.subject {
        set_field(headers, name, certificate.and_then(|certificate| certificate.subject_field.as_ref()));
    }
    if let Some(name) = &fields.fingerprint {
        set_field(headers, name, certificate.and_then(|certificate| certificate.fingerprint_field.as_ref()));
    }
}

/// Replaces a header field, or removes it if `value` is `None`.
fn set_field(headers: &mut HeaderMap, name: &HeaderName, value: Option<&HeaderValue>) {
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

    /// Sends a request with spoofed certificate fields, and returns the certificate fields that the inner service
    /// receives.
    async fn forwarded(layer: ClientCertificateLayer, chain: &[&[u8]]) -> [Option<String>; 2] {
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
    async fn sets_the_verified_certificate_and_removes_spoofed_fields() {
        let layer = ClientCertificateLayer::new();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(forwarded(layer.clone(), &[]).await, [None, None]);
        assert_eq!(forwarded(layer.clone(), &[b"leaf"]).await, [text(":bGVhZg==:"), None]);
        assert_eq!(forwarded(layer, &[b"leaf", b"a", b"b"]).await, [text(":bGVhZg==:"), text(":YQ==:, :Yg==:")]);
        assert_eq!(forwarded(ClientCertificateLayer::disabled(), &[b"leaf"]).await, [text(":bWU=:"), text(":bWU=:")]);
    }

    #[tokio::test]
    async fn sets_subject_and_fingerprint_fields_and_removes_spoofed_values() {
        let layer = ClientCertificateLayer::new()
            .subject(HeaderName::from_static("x-subject"))
            .fingerprint(HeaderName::from_static("x-fingerprint"));
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "alice");
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let forwarded = async |chain: &[CertificateDer<'_>]| {
            let tls = TlsInfo { server_name: None, client_certificate: ClientCertificate::new(chain) };
            let request = Request::get("/").header("x-subject", "CN=root").header("x-fingerprint", "00");
            let service = layer.layer(service_fn(async |request: Request<()>| {
                let field = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
                Ok::<_, Infallible>([field("x-subject"), field("x-fingerprint")])
            }));
            service.oneshot(request.extension(tls).body(()).unwrap()).await.unwrap()
        };
        assert_eq!(forwarded(&[]).await, [None, None]);
        let identity = Identity::from_certificate(certificate.der()).unwrap();
        assert_eq!(
            forwarded(&[certificate.der().clone()]).await,
            [Some("CN=alice".to_owned()), Some(identity.fingerprint)]
        );
    }
}
