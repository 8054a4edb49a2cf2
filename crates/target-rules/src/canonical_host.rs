//! The canonical host of a site, to which requests for other hosts are redirected.

use http::header::HOST;
use http::uri::Scheme;
use http::{HeaderValue, Request};
use rproxy_core::host::{self, HostAndPort};

/// A host name in lower case, without a port.
#[derive(Clone, Debug)]
pub(crate) struct CanonicalHost(String);

impl CanonicalHost {
    /// Parses a host without a port.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let HostAndPort { host, port, .. } = host::parse(text.as_bytes())?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        (port.is_none() && host.bytes().all(is_name)).then(|| Self(host.to_ascii_lowercase()))
    }

    /// Returns the URL of the request at the canonical host, if the request has another host.
    ///
    /// The port of the request stays. A request without a valid host is not redirected.
    pub(crate) fn redirect<B>(&self, request: &Request<B>) -> Option<HeaderValue> {
        let authority = match request.uri().authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => request.headers().get(HOST)?.as_bytes(),
        };
        let HostAndPort { host, port, .. } = host::parse(authority)?;
        if host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case(&self.0) {
            return None;
        }
        let target = request.uri().path_and_query()?.as_str();
        if !target.starts_with('/') {
            // `OPTIONS *`
            return None;
        }
        let scheme = request.extensions().get::<Scheme>().or(request.uri().scheme());
        let (scheme, default_port) = if scheme == Some(&Scheme::HTTPS) { ("https", 443) } else { ("http", 80) };
        let location = match port.filter(|port| *port != default_port) {
            Some(port) => format!("{scheme}://{}:{port}{target}", self.0),
            None => format!("{scheme}://{}{target}", self.0),
        };
        HeaderValue::try_from(location).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_other_hosts_to_the_same_target() {
        let canonical = CanonicalHost::parse("Example.org").unwrap();
        for (host, target, scheme, expected) in [
            ("example.org", "/", Scheme::HTTPS, None),
            ("EXAMPLE.org.", "/", Scheme::HTTPS, None),
            ("example.org:8443", "/", Scheme::HTTPS, None),
            ("www.example.org", "/a?b", Scheme::HTTPS, Some("https://example.org/a?b")),
            ("www.example.org:443", "/", Scheme::HTTPS, Some("https://example.org/")),
            ("www.example.org:443", "/", Scheme::HTTP, Some("http://example.org:443/")),
            ("www.example.org:8080", "/", Scheme::HTTP, Some("http://example.org:8080/")),
            ("www.example.org", "//evil.example/", Scheme::HTTPS, Some("https://example.org//evil.example/")),
            ("192.0.2.1", "/", Scheme::HTTP, Some("http://example.org/")),
            ("u@www.example.org", "/", Scheme::HTTPS, None),
            ("www.example.org", "*", Scheme::HTTPS, None),
        ] {
            let request = Request::builder().uri(target).header(HOST, host).extension(scheme).body(()).unwrap();
            let location = canonical.redirect(&request);
            assert_eq!(location.as_ref().map(|location| location.to_str().unwrap()), expected, "{host} {target}");
        }
        let request = Request::get("https://www.example.org/a").body(()).unwrap();
        assert_eq!(canonical.redirect(&request).unwrap(), "https://example.org/a");
        assert!(canonical.redirect(&Request::get("/").body(()).unwrap()).is_none(), "no host");
    }

    #[test]
    fn canonical_host_is_a_host_without_port() {
        for text in ["example.org", "www.example.org", "[::1]", "192.0.2.1"] {
            assert!(CanonicalHost::parse(text).is_some(), "{text}");
        }
        for text in ["", "example.org:443", "https://example.org", "example.org/", "a b", "a$b", "é.example"] {
            assert!(CanonicalHost::parse(text).is_none(), "{text}");
        }
    }
}
