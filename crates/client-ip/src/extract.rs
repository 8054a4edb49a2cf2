//! For handlers of axum.

use axum::extract::FromRequestParts;
use http::StatusCode;
use http::request::Parts;

use crate::ClientIp;

/// As [`Extension`](axum::Extension) does, with a word on what is missing where it is.
impl<S: Send + Sync> FromRequestParts<S> for ClientIp {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        head.extensions.get().copied().ok_or((
            StatusCode::INTERNAL_SERVER_ERROR,
            "no rproxy_client_ip::ClientIp in the request: put ClientIpLayer around this route\n",
        ))
    }
}
