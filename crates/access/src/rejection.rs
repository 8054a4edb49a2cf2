//! The rejection that all layers share.

use http::{Response, StatusCode};
use rproxy_core::Rejection;

/// Returns the response to a request without the extension [`ClientIp`](rproxy_client_ip::ClientIp).
///
/// It is a mistake in the program, such as a missing `ClientIpLayer`. Access is not granted.
pub(crate) fn unknown_address() -> Response<&'static str> {
    Rejection::new("access", "access_denied", StatusCode::INTERNAL_SERVER_ERROR)
        .with_cause("unknown_address")
        .into_response("Internal Server Error: the address of the client is not known\n")
}
