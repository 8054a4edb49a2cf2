use std::{path::PathBuf, sync::Arc};

use rustls::server::{WebPkiClientVerifier, danger::ClientCertVerifier};

use crate::{Error, crypto::provider, roots};

/// The settings for verifying client certificates (mutual TLS).
///
/// The server finds the certificate of a client in [`rustls::CommonState::peer_certificates`].
///
/// # Examples
///
/// ```no_run
/// # fn main() -> Result<(), rproxy_tls::Error> {
/// use rproxy_tls::{Certificates, ClientAuth};
///
/// let certificates = Certificates::builder()
///     .files("/etc/app/chain.pem", "/etc/app/key.pem")
///     .client_auth(ClientAuth::required("/etc/app/client-ca.pem"))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct ClientAuth {
    ca_file: PathBuf,
    is_required: bool,
}

impl ClientAuth {
    /// Requires a client certificate that was issued by a CA in this PEM file.
    ///
    /// The handshake fails for clients without one.
    pub fn required(ca_file: impl Into<PathBuf>) -> Self {
        Self { ca_file: ca_file.into(), is_required: true }
    }

    /// Verifies client certificates against the CAs in this PEM file, but accepts clients without one.
    ///
    /// The handshake fails for clients with a certificate of another CA.
    pub fn optional(ca_file: impl Into<PathBuf>) -> Self {
        Self { ca_file: ca_file.into(), is_required: false }
    }

    pub(crate) fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let invalid = |reason: String| Error::ClientCa { path: self.ca_file.clone(), reason };
        let roots = roots::read(&self.ca_file).map_err(invalid)?;
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let builder = if self.is_required { builder } else { builder.allow_unauthenticated() };
        builder.build().map_err(|error| invalid(error.to_string()))
    }
}
