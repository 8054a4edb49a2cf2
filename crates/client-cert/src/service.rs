//! A service that sets the fields of the client certificate.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use rproxy_core::{ClientCertificate, TlsInfo};
use tower_service::Service;

use crate::layer::Fields;

/// A service that forwards the client's certificate in header fields, see [`ClientCertificateLayer`](crate::ClientCertificateLayer).
#[derive(Clone, Debug)]
pub struct ClientCertificateService<S> {
    inner: S,
    fields: Option<Arc<Fields>>,
}

impl<S> ClientCertificateService<S> {
    pub(crate) fn new(inner: S, fields: Option<Arc<Fields>>) -> Self {
        Self { inner, fields }
    }

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
    let certificate = certificate.as_ref();
    let headers = request.headers_mut();
    set_field(headers, &CLIENT_CERT, certificate.map(ClientCertificate::leaf_field));
    set_field(headers, &CLIENT_CERT_CHAIN, certificate.and_then(ClientCertificate::chain_field));
    if let Some(name) = &fields.subject {
        set_field(headers, name, certificate.and_then(ClientCertificate::subject));
    }
    if let Some(name) = &fields.fingerprint {
        set_field(headers, name, certificate.and_then(ClientCertificate::fingerprint));
    }
}

/// Replaces a field, or removes it if there is no value.
fn set_field(headers: &mut HeaderMap, name: &HeaderName, value: Option<&HeaderValue>) {
    match value {
        Some(value) => headers.insert(name, value.clone()),
        None => headers.remove(name),
    };
}

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
