//! The conversion of requests to the HTTP version of the backend.

use http::header::{HOST, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri, Version};

use crate::backend::{Backend, Protocol};

/// Converts a request to HTTP/1.1: the target in origin-form and one `Host` field (RFC 9112 §3.2).
pub(crate) fn to_http1<B>(request: &mut Request<B>, default_host: &HeaderValue) {
    *request.version_mut() = Version::HTTP_11;
    let authority = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, authority.unwrap_or_else(|| default_host.clone()));
    }
    // A target in authority-form belongs to CONNECT, which opens no tunnel here.
    if request.uri().scheme().is_some() || request.uri().path_and_query().is_none() {
        *request.uri_mut() = Uri::from(path_and_query(request.uri()));
    }
}

/// Converts a request to HTTP/2: the authority as a pseudo-header field (RFC 9113 §8.3.1).
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

/// Returns the path and query, with `/` for an empty path (RFC 9112 §3.2.1, RFC 9113 §8.3.1).
fn path_and_query(uri: &Uri) -> PathAndQuery {
    match uri.path_and_query() {
        Some(target) if target.as_str().starts_with('?') => {
            // The query is not empty, so the slash becomes the path.
            PathAndQuery::try_from(format!("/{}", target.as_str())).unwrap_or_else(|_| target.clone())
        }
        Some(target) => target.clone(),
        None => PathAndQuery::from_static("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_absolute_form_targets_to_origin_form() {
        for (uri, target) in [
            ("http://a.example/x?y", "/x?y"),
            ("http://a.example", "/"),
            ("http://a.example?/x", "/?/x"),
            ("http://a.example?", "/?"),
            ("a.example", "/"),
        ] {
            let mut request = Request::get(uri).body(()).unwrap();
            to_http1(&mut request, &HeaderValue::from_static("b.example"));
            assert_eq!(request.uri().to_string(), target);
            assert_eq!(request.headers()[HOST], "a.example");
        }
    }
}
