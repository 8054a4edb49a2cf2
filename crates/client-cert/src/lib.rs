//! Middleware that forwards verified client certificates to the backend (RFC 9440).
//!
//! [`ClientCertificateLayer`] sets `Client-Cert` and `Client-Cert-Chain` from the TLS session of the connection, and removes
//! spoofed values that the client sent.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http::{Request, Response};
//! use rproxy_client_cert::{ClientCertificate, ClientCertificateLayer, TlsInfo};
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let service = ClientCertificateLayer::new().layer(service_fn(async |request: Request<()>| {
//!         Ok::<_, Infallible>(Response::new(request.headers().get("client-cert").cloned()))
//!     }));
//!
//!     // The server verifies the certificate, and inserts this extension.
//!     let mut tls = TlsInfo::default();
//!     tls.client_certificate = ClientCertificate::new(&[b"certificate in DER"]);
//!     let request = Request::get("/").extension(tls).body(())?;
//!     let response = service.clone().oneshot(request).await?;
//!     assert_eq!(response.into_body().ok_or("no field")?, ":Y2VydGlmaWNhdGUgaW4gREVS:");
//!
//!     let spoofed = Request::get("/").header("client-cert", ":bWU=:").body(())?;
//!     assert_eq!(service.oneshot(spoofed).await?.into_body(), None);
//!     Ok(())
//! }
//! ```
//!
//! # Fields
//!
//! | Field | Value |
//! |---|---|
//! | `Client-Cert` | the certificate of the client, as a byte sequence (RFC 9440 §2.1) |
//! | `Client-Cert-Chain` | the other certificates of the chain that the client sent, as a list of byte sequences (RFC 9440 §2.2) |
//! | [`subject`](ClientCertificateLayer::subject) | the subject in the format of RFC 4514, if this field is configured |
//! | [`fingerprint`](ClientCertificateLayer::fingerprint) | SHA-256 of the certificate in hexadecimal, if this field is configured |
//!
//! A field without a value is removed from the request.
//!
//! # Requirements
//!
//! The server inserts [`TlsInfo`] into each request, as `rproxy-server` does. Without it, the layer only removes the fields.
//!
//! # Order
//!
//! Place the layer outside of a cache, so that `Vary` can compare the fields, and inside of a layer that removes them from
//! requests of untrusted clients, such as `rproxy-forward-headers`.
//!
//! # Performance
//!
//! The values are created once per connection. A request with a certificate costs reference counts, and no allocation
//! outside of the header map.
//!
//! # Errors
//!
//! The layer rejects no request and forwards errors of the inner service.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod layer;
mod service;

pub use rproxy_core::{ClientCertificate, TlsInfo};

pub use self::layer::ClientCertificateLayer;
pub use self::service::ClientCertificateService;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
