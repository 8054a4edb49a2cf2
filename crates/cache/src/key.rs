//! The cache key, which is the target URI of a GET request.

use std::borrow::Cow;

use http::uri::{Authority, Scheme, Uri};
use http::{Request, header};

use crate::policy::no_vary_search::SearchVariance;

/// A cache key of the form `scheme://host/path?query`, with a lower-case host and no default port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheKey {
    text: Box<str>,
    origin: usize,
}

impl CacheKey {
    /// Returns the cache key of a request, or `None` if the request has no unambiguous target.
    pub(crate) fn from_request<B>(request: &Request<B>) -> Option<Self> {
        // Outer layers that trust a proxy in front set these extensions, which no client can set.
        let scheme = request.extensions().get::<Scheme>().or_else(|| request.uri().scheme());
        if let Some(authority) = request.extensions().get::<Authority>() {
            let host = without_userinfo(authority);
            return Self::new(scheme.map_or("http", Scheme::as_str), host, path_and_query(request_target(request)));
        }
        let mut hosts = request.headers().get_all(header::HOST).iter();
        // RFC 9112 §3.2.2: the authority of an absolute-form target takes precedence over Host.
        let host = match (request.uri().authority(), hosts.next(), hosts.next()) {
            (_, _, Some(_)) => return None,
            (Some(authority), ..) => without_userinfo(authority),
            (None, Some(host), None) => host.to_str().ok()?,
            (None, None, None) => "",
        };
        Self::new(scheme.map_or("http", Scheme::as_str), host, path_and_query(request_target(request)))
    }

    pub(crate) fn from_uri(uri: &Uri) -> Option<Self> {
        Self::new(uri.scheme_str()?, without_userinfo(uri.authority()?), path_and_query(uri))
    }

    fn new(scheme: &str, host: &str, path: &str) -> Option<Self> {
        // A host that contains a slash would result in the key of another resource.
        if !host.bytes().all(is_host) || !path.starts_with('/') {
            return None;
        }
        let default_port = if scheme == "https" { ":443" } else { ":80" };
        let host = host.strip_suffix(default_port).unwrap_or(host);
        let mut text = String::with_capacity(scheme.len() + 3 + host.len() + path.len());
        text.push_str(scheme);
        text.push_str("://");
        text.push_str(host);
        text.make_ascii_lowercase();
        let origin = text.len();
        text.push_str(path);
        Some(Self { text: text.into(), origin })
    }

    /// Creates a cache key from an origin and a path with query.
    pub(crate) fn from_origin(origin: &str, path: &str) -> Self {
        Self { text: [origin, path].concat().into(), origin: origin.len() }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn into_string(self) -> Box<str> {
        self.text
    }

    /// Returns the origin of the key in the form `scheme://host`.
    pub(crate) fn origin(&self) -> &str {
        &self.text[..self.origin]
    }

    pub(crate) fn path(&self) -> &str {
        let path = &self.text[self.origin..];
        path.split_once('?').map_or(path, |(path, _)| path)
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.text[self.origin..].split_once('?').map(|(_, query)| query)
    }

    /// Replaces the query of the cache key. An empty query has no question mark.
    pub(crate) fn with_query(self, query: &str) -> Self {
        let question_mark = if query.is_empty() { "" } else { "?" };
        Self { text: [self.origin(), self.path(), question_mark, query].concat().into(), origin: self.origin }
    }

    pub(crate) fn without_query(&self) -> &str {
        self.text.split_once('?').map_or(&self.text, |(before, _)| before)
    }

    /// Returns the cache key shared by all queries that are equivalent under `variance`.
    ///
    /// It has a fragment, which no request target has (RFC 9110 §7.1), so it differs from the key of every request.
    /// `epoch` distinguishes it from the keys of earlier variances.
    pub(crate) fn with_variance(&self, variance: &SearchVariance, epoch: u64) -> Self {
        let canonical = variance.canonical(self.query().unwrap_or_default());
        let text = format!("{}?{canonical}#{epoch}", self.without_query());
        Self { text: text.into(), origin: self.origin }
    }

    /// Resolves a URI reference, if the target has the same origin as this key.
    // RFC 3986 §5.2, RFC 9111 §4.4
    pub(crate) fn resolve_same_origin(&self, reference: &str) -> Option<Self> {
        let reference = reference.split('#').next().unwrap_or_default().trim();
        let scheme_end = self.text.find(':')?;
        let resolved = if reference.starts_with("//") {
            Self::from_uri(&format!("{}:{reference}", &self.text[..scheme_end]).parse().ok()?)?
        } else if has_scheme(reference) {
            Self::from_uri(&reference.parse().ok()?)?
        } else {
            let path: Cow<'_, str> = if reference.is_empty() {
                Cow::Borrowed(&self.text[self.origin..])
            } else if reference.starts_with('/') {
                Cow::Borrowed(reference)
            } else if reference.starts_with('?') {
                Cow::Owned(format!("{}{reference}", self.path()))
            } else {
                let directory = self.path().rfind('/').map_or(0, |slash| slash + 1);
                Cow::Owned(format!("{}{reference}", &self.path()[..directory]))
            };
            Self { text: format!("{}{path}", self.origin()).into(), origin: self.origin }
        };
        let resolved = resolved.without_dot_segments();
        (resolved.origin() == self.origin()).then_some(resolved)
    }

    fn without_dot_segments(self) -> Self {
        let mut text = format!("{}{}", self.origin(), remove_dot_segments(self.path()));
        if let Some(query) = self.query() {
            text.push('?');
            text.push_str(query);
        }
        Self { text: text.into(), origin: self.origin }
    }
}

/// Returns the original request target, before a router removed a path prefix.
///
/// axum removes the prefix of `Router::nest` from the URI, and keeps the original in an extension. Without the prefix,
/// two resources would have the same key.
pub(crate) fn request_target<B>(request: &Request<B>) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(original)) = request.extensions().get() {
        return original;
    }
    request.uri()
}

fn path_and_query(uri: &Uri) -> &str {
    match uri.path_and_query().map(|path| path.as_str()) {
        Some(path) if !path.is_empty() => path,
        _ => "/",
    }
}

fn without_userinfo(authority: &Authority) -> &str {
    authority.as_str().rsplit('@').next().unwrap_or_default()
}

/// Whether a byte is valid in a host or port (RFC 3986 §3.2.2 and §3.2.3).
fn is_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%[]:".contains(&byte)
}

fn has_scheme(reference: &str) -> bool {
    reference.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// Removes the dot segments of a path that starts with a slash (RFC 3986 §5.2.4).
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, host: &[&str]) -> Request<()> {
        let mut builder = Request::get(uri);
        for host in host {
            builder = builder.header("host", *host);
        }
        builder.body(()).unwrap()
    }

    #[test]
    fn cache_key_consists_of_scheme_host_path_and_query() {
        for (uri, host, expected) in [
            ("/a?b=c", &["Example.ORG"][..], Some("http://example.org/a?b=c")),
            ("/a", &["example.org:80"], Some("http://example.org/a")),
            ("/a", &["example.org:8080"], Some("http://example.org:8080/a")),
            ("https://example.org:443/A", &["other.example"], Some("https://example.org/A")),
            ("https://u:p@example.org/", &[], Some("https://example.org/")),
            ("http://example.org", &[], Some("http://example.org/")),
            ("/a", &[], Some("http:///a")),
            ("/a", &["one.example", "two.example"], None),
            ("/a", &["example.org/b"], None),
            ("/a", &["example.org?b"], None),
            ("*", &["example.org"], None),
        ] {
            let key = CacheKey::from_request(&request(uri, host));
            assert_eq!(key.as_ref().map(CacheKey::as_str), expected, "{uri} {host:?}");
        }
    }

    #[test]
    fn scheme_of_the_cache_key_comes_from_the_request_extension() {
        let mut request = request("/a", &["example.org:443"]);
        request.extensions_mut().insert(Scheme::HTTPS);
        assert_eq!(CacheKey::from_request(&request).unwrap().as_str(), "https://example.org/a");
    }

    #[test]
    fn resolves_uri_references_only_within_the_same_origin() {
        // RFC 3986 §5.4.1, RFC 9111 §4.4
        let base = CacheKey::from_request(&request("/b/c/d?q", &["a.example"])).unwrap();
        for (reference, expected) in [
            ("g", Some("http://a.example/b/c/g")),
            ("./g/", Some("http://a.example/b/c/g/")),
            ("../g?y/../x", Some("http://a.example/b/g?y/../x")),
            ("../../../g", Some("http://a.example/g")),
            ("..", Some("http://a.example/b/")),
            ("/g#s", Some("http://a.example/g")),
            ("?y", Some("http://a.example/b/c/d?y")),
            ("", Some("http://a.example/b/c/d?q")),
            ("http://A.example:80/x", Some("http://a.example/x")),
            ("//a.example/x", Some("http://a.example/x")),
            ("https://a.example/x", None),
            ("http://b.example/x", None),
            ("//b.example/x", None),
            ("mailto:x", None),
            ("http://[bad/x", None),
        ] {
            assert_eq!(base.resolve_same_origin(reference).as_ref().map(CacheKey::as_str), expected, "{reference}");
        }
    }
}
