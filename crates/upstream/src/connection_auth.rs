//! Backend connections that NTLM or Negotiate has authenticated for one client connection.
//!
//! NTLM, and Negotiate in most servers, authenticate the connection and not the request (RFC 4559 §4): the backend
//! serves all further requests on it as the same user. As in HAProxy, such a connection serves a single client
//! connection, and is closed with it.

use std::sync::{Arc, Mutex, PoisonError};

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body::Body;

use crate::backend_state::BackendState;
use crate::error::BoxError;
use crate::extensions::ClientConnection;
use crate::http1::Http1Connection;

/// Returns whether a request contains credentials that authenticate its connection (NTLM, Negotiate).
pub(crate) fn authenticates<B>(request: &Request<B>) -> bool {
    // A pass over the names is faster than two lookups.
    request
        .headers()
        .keys()
        .any(|name| matches!(*name, AUTHORIZATION | PROXY_AUTHORIZATION) && has_scheme(request.headers(), name))
}

/// Returns whether a response contains an NTLM or Negotiate challenge, which authenticates the connection.
pub(crate) fn challenges(response: &Response<()>) -> bool {
    let name = match response.status() {
        StatusCode::UNAUTHORIZED => WWW_AUTHENTICATE,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => PROXY_AUTHENTICATE,
        _ => return false,
    };
    has_scheme(response.headers(), &name)
}

/// Returns whether a header field contains the authentication scheme NTLM or Negotiate.
fn has_scheme(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(name).iter().any(|value| {
        value.as_bytes().split(|&byte| byte == b',').any(|challenge| {
            let scheme = challenge.trim_ascii().split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
            scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
        })
    })
}

/// The idle authenticated backend connections of one client connection, at most one per backend.
struct AuthenticatedConnections<B: Body + 'static>(Arc<Mutex<Vec<Entry<B>>>>);

type Entry<B> = (Arc<BackendState>, Box<Http1Connection<B>>);

impl<B: Body + 'static> Clone for AuthenticatedConnections<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Returns whether an authenticated connection to this backend is stored for the client connection.
pub(crate) fn has_connection<B>(client: &ClientConnection, backend: &Arc<BackendState>) -> bool
where
    B: Body<Data: Send> + Send + 'static,
{
    let Some(connections) = entries::<B>(client) else { return false };
    let entries = connections.0.lock().unwrap_or_else(PoisonError::into_inner);
    entries.iter().any(|(other, _)| Arc::ptr_eq(other, backend))
}

/// Takes the authenticated connection to a backend out of the client connection's state.
pub(crate) fn take<B>(client: &ClientConnection, backend: &Arc<BackendState>) -> Option<Box<Http1Connection<B>>>
where
    B: Body<Data: Send> + Send + 'static,
{
    let connections = entries::<B>(client)?;
    let mut entries = connections.0.lock().unwrap_or_else(PoisonError::into_inner);
    let index = entries.iter().position(|(other, _)| Arc::ptr_eq(other, backend))?;
    Some(entries.swap_remove(index).1)
}

/// Stores an idle backend connection for further requests of the same client connection.
pub(crate) fn put<B>(client: &ClientConnection, backend: &Arc<BackendState>, connection: Box<Http1Connection<B>>)
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    if !connection.is_idle() {
        return;
    }
    let connections = {
        let mut extensions = client.lock().unwrap_or_else(PoisonError::into_inner);
        extensions.get_or_insert_with(|| AuthenticatedConnections::<B>(Arc::default())).clone()
    };
    let mut entries = connections.0.lock().unwrap_or_else(PoisonError::into_inner);
    match entries.iter_mut().find(|(other, _)| Arc::ptr_eq(other, backend)) {
        Some(entry) => entry.1 = connection,
        None => entries.push((Arc::clone(backend), connection)),
    }
}

/// Returns the authenticated backend connections of a client connection.
fn entries<B>(client: &ClientConnection) -> Option<AuthenticatedConnections<B>>
where
    B: Body<Data: Send> + Send + 'static,
{
    client.lock().unwrap_or_else(PoisonError::into_inner).get::<AuthenticatedConnections<B>>().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ntlm_and_negotiate_credentials_authenticate_a_connection() {
        for (value, expected) in [
            ("NTLM", true),
            ("NTLM TlRMTVNTUAAB", true),
            ("negotiate YII=", true),
            ("Basic realm=\"a\", Negotiate", true),
            ("Basic bnRsbQ==", false),
            ("Bearer ntlm", false),
            ("Digest username=\"NTLM\"", false),
        ] {
            let request = Request::builder().header(AUTHORIZATION, value).body(()).unwrap();
            assert_eq!(authenticates(&request), expected, "{value}");
            let response = Response::builder().status(401).header(WWW_AUTHENTICATE, value).body(()).unwrap();
            assert_eq!(challenges(&response), expected, "{value}");
        }
        let response = Response::builder().header(WWW_AUTHENTICATE, "NTLM").body(()).unwrap();
        assert!(!challenges(&response), "a status other than 401 is not a challenge");
    }
}
