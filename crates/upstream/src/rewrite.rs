//! Requests in the form that the backend's version of HTTP wants, and responses in that of this side.

use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri, Version};

use crate::backend::{Backend, Protocol};

/// RFC 9112 §3.2: origin-form, and one `Host`.
pub(crate) fn to_http1<B>(request: &mut Request<B>, default_host: &HeaderValue) {
    *request.version_mut() = Version::HTTP_11;
    let authority = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, authority.unwrap_or_else(|| default_host.clone()));
    }
    if request.uri().scheme().is_some() {
        *request.uri_mut() = Uri::from(path_and_query(request.uri()));
    }
}

/// RFC 9113 §8.3.1: the authority is a pseudo-header.
pub(crate) fn to_http2<B>(request: &mut Request<B>, backend: &Backend) -> Result<(), http::Error> {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(HOST);
    let authority = match request.uri().authority() {
        Some(authority) => authority.clone(),
        None => Authority::try_from(host.as_ref().unwrap_or(&backend.host).as_bytes())?,
    };
    let scheme = if backend.protocol == Protocol::Https { Scheme::HTTPS } else { Scheme::HTTP };
    *request.uri_mut() =
        Uri::builder().scheme(scheme).authority(authority).path_and_query(path_and_query(request.uri())).build()?;
    Ok(())
}

fn path_and_query(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// RFC 9112 §6.3: `Transfer-Encoding` overrides `Content-Length`, which then must not be passed on.
pub(crate) fn one_length(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
}
