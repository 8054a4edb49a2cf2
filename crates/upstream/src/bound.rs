//! Connections that a backend has authenticated, and the client connections that they belong to.
//!
//! NTLM, and Negotiate as most servers do it, authenticate the connection and not the request (RFC 4559 §4): all that
//! follows on it is served in the name of that user. Such a connection serves one client connection, as with HAProxy, and
//! is closed with it.

use std::sync::{Arc, Mutex, PoisonError};

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body::Body;

use crate::ClientConnection;
use crate::error::BoxError;
use crate::http1::Http1;
use crate::service::Member;

/// Whether a request authenticates the connection that it is sent on.
pub(crate) fn authenticates<B>(request: &Request<B>) -> bool {
    [AUTHORIZATION, PROXY_AUTHORIZATION].iter().any(|name| has_scheme(request.headers(), name))
}

/// Whether a response begins to authenticate its connection.
pub(crate) fn challenges(response: &Response<()>) -> bool {
    let name = match response.status() {
        StatusCode::UNAUTHORIZED => WWW_AUTHENTICATE,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => PROXY_AUTHENTICATE,
        _ => return false,
    };
    has_scheme(response.headers(), &name)
}

fn has_scheme(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(name).iter().any(|value| {
        value.as_bytes().split(|&byte| byte == b',').any(|challenge| {
            let scheme = challenge.trim_ascii().split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
            scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
        })
    })
}

/// The idle connections of one client connection, one for each backend at most.
struct Bound<B: Body + 'static>(Arc<Mutex<Vec<Entry<B>>>>);

type Entry<B> = (Arc<Member>, Box<Http1<B>>);

impl<B: Body + 'static> Clone for Bound<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Whether the client connection has a connection to this backend.
pub(crate) fn is_bound<B>(client: &ClientConnection, member: &Arc<Member>) -> bool
where
    B: Body<Data: Send> + Send + 'static,
{
    let Some(bound) = entries::<B>(client) else { return false };
    let entries = bound.0.lock().unwrap_or_else(PoisonError::into_inner);
    entries.iter().any(|(other, _)| Arc::ptr_eq(other, member))
}

/// Takes the connection of this client connection to a backend.
pub(crate) fn take<B>(client: &ClientConnection, member: &Arc<Member>) -> Option<Box<Http1<B>>>
where
    B: Body<Data: Send> + Send + 'static,
{
    let bound = entries::<B>(client)?;
    let mut entries = bound.0.lock().unwrap_or_else(PoisonError::into_inner);
    let index = entries.iter().position(|(other, _)| Arc::ptr_eq(other, member))?;
    Some(entries.swap_remove(index).1)
}

/// Keeps a connection for further requests of the client connection.
pub(crate) fn put<B>(client: &ClientConnection, member: &Arc<Member>, connection: Box<Http1<B>>)
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    if !connection.is_idle() {
        return;
    }
    let bound = {
        let mut extensions = client.lock().unwrap_or_else(PoisonError::into_inner);
        extensions.get_or_insert_with(|| Bound::<B>(Arc::default())).clone()
    };
    let mut entries = bound.0.lock().unwrap_or_else(PoisonError::into_inner);
    match entries.iter_mut().find(|(other, _)| Arc::ptr_eq(other, member)) {
        Some(entry) => entry.1 = connection,
        None => entries.push((Arc::clone(member), connection)),
    }
}

fn entries<B>(client: &ClientConnection) -> Option<Bound<B>>
where
    B: Body<Data: Send> + Send + 'static,
{
    client.lock().unwrap_or_else(PoisonError::into_inner).get::<Bound<B>>().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntlm_and_negotiate_authenticate_the_connection_and_other_schemes_do_not() {
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
        assert!(!challenges(&response), "only a 401 challenges");
    }
}
