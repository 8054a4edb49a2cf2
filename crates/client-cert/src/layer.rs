//! A layer that forwards client certificates.

use std::sync::Arc;

use http::HeaderName;
use tower_layer::Layer;

use crate::service::ClientCertificateService;

/// A layer that forwards client certificates in `Client-Cert` and `Client-Cert-Chain` (RFC 9440).
///
/// Spoofed values of these fields are removed from requests.
///
/// # Examples
///
/// ```
/// use http::HeaderName;
/// use rproxy_client_cert::ClientCertificateLayer;
///
/// let layer = ClientCertificateLayer::new().subject(HeaderName::from_static("x-client-subject"));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ClientCertificateLayer {
    fields: Option<Arc<Fields>>,
}

/// The names of the optional fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    pub(crate) subject: Option<HeaderName>,
    pub(crate) fingerprint: Option<HeaderName>,
}

impl ClientCertificateLayer {
    /// Creates a layer that sets `Client-Cert` and `Client-Cert-Chain`.
    pub fn new() -> Self {
        Self { fields: Some(Arc::default()) }
    }

    /// Creates a layer that does nothing, for servers that do not request client certificates.
    pub fn disabled() -> Self {
        Self { fields: None }
    }

    /// Also sets this field to the subject of the certificate, for backends that do not support RFC 9440.
    ///
    /// The format is that of RFC 4514, such as `CN=alice,OU=staff,O=Example`.
    pub fn subject(self, field: HeaderName) -> Self {
        self.with(|fields| fields.subject = Some(field))
    }

    /// Also sets this field to the fingerprint of the certificate, which is SHA-256 in lower-case hexadecimal.
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
        ClientCertificateService::new(inner, self.fields.clone())
    }
}
