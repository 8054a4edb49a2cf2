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

/// RFC 9112 §3.2.1, RFC 9113 §8.3.1: an empty path is sent as `/`, also before a query, where URIs do without.
fn path_and_query(uri: &Uri) -> PathAndQuery {
    match uri.path_and_query() {
        Some(target) if target.as_str().starts_with('?') => {
            // What follows is a query already; a slash before it is a path.
            PathAndQuery::try_from(format!("/{}", target.as_str())).unwrap_or_else(|_| target.clone())
        }
        Some(target) => target.clone(),
        None => PathAndQuery::from_static("/"),
    }
}

/// RFC 9112 §6.3: `Transfer-Encoding` overrides `Content-Length`, which then must not be passed on.
pub(crate) fn one_length(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absolute_target_becomes_its_path_and_query() {
        for (uri, target) in [
            ("http://a.example/x?y", "/x?y"),
            ("http://a.example", "/"),
            ("http://a.example?/x", "/?/x"),
            ("http://a.example?", "/?"),
        ] {
            let mut request = Request::get(uri).body(()).unwrap();
            to_http1(&mut request, &HeaderValue::from_static("b.example"));
            assert_eq!(request.uri().to_string(), target);
            assert_eq!(request.headers()[HOST], "a.example");
        }
    }
}
