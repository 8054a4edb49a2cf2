use std::{path::PathBuf, sync::Arc};

use rustls::server::{WebPkiClientVerifier, danger::ClientCertVerifier};

use crate::{Error, config::provider, roots};

/// Whether clients show certificates, and who vouches for them.
///
/// What a client showed is told by the connection ([`rustls::CommonState::peer_certificates`]).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct ClientAuth {
    authorities: PathBuf,
    is_required: bool,
}

impl ClientAuth {
    /// Clients without a certificate get no connection. Those who vouch for one stand in this PEM file.
    pub fn required(authorities: impl Into<PathBuf>) -> Self {
        Self { authorities: authorities.into(), is_required: true }
    }

    /// Clients may show a certificate; one that nobody in this PEM file vouches for gets no connection.
    pub fn optional(authorities: impl Into<PathBuf>) -> Self {
        Self { authorities: authorities.into(), is_required: false }
    }

    pub(crate) fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let refused = |reason: String| Error::ClientCa { path: self.authorities.clone(), reason };
        let roots = roots::read(&self.authorities).map_err(refused)?;
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let builder = if self.is_required { builder } else { builder.allow_unauthenticated() };
        builder.build().map_err(|error| refused(error.to_string()))
    }
}
