//! The configuration that a layer shares with its services.

use std::sync::Arc;

use http::HeaderValue;

use super::verifier::Verifier;
use crate::identity_fields::IdentityFields;

/// The configuration and the state that a layer shares with its services.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) verifier: Arc<Verifier>,
    /// The value of `WWW-Authenticate`.
    pub(crate) challenge: HeaderValue,
    /// The field for the name of the user, if any.
    pub(crate) user_field: IdentityFields,
    pub(crate) removes_credentials: bool,
}
