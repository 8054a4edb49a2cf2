//! The axum extractor for the client's address.

use axum::extract::FromRequestParts;
use http::StatusCode;
use http::request::Parts;

use crate::extensions::ClientIp;

/// Extracts the client's address, or rejects the request with a message that names the missing layer.
impl<S: Send + Sync> FromRequestParts<S> for ClientIp {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        head.extensions.get().copied().ok_or((
            StatusCode::INTERNAL_SERVER_ERROR,
            "no rproxy_client_ip::ClientIp in the request extensions: add ClientIpLayer to this route\n",
        ))
    }
}
