//! The cache key: scheme, host, path and query of a GET.

use std::borrow::Cow;

use http::uri::{Authority, Scheme, Uri};
use http::{Request, header};

use crate::no_vary_search::SearchVariance;

/// `scheme://host/path?query`: the target URI, the host in lower case and without a default port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    text: Box<str>,
    origin: usize,
}

impl Key {
    /// `None` where it can't be told for certain which resource is meant.
    pub(crate) fn of<B>(request: &Request<B>) -> Option<Self> {
        // Layers that know better than the connection, because they trust who is in front, say so in extensions, which
        // no client can send.
        let scheme = request.extensions().get::<Scheme>().or_else(|| request.uri().scheme());
        if let Some(authority) = request.extensions().get::<Authority>() {
            let host = without_userinfo(authority);
            return Self::new(scheme.map_or("http", Scheme::as_str), host, path_and_query(target(request)));
        }
        let mut hosts = request.headers().get_all(header::HOST).iter();
        // RFC 9112 §3.2.2: the authority of an absolute-form target wins over Host.
        let host = match (request.uri().authority(), hosts.next(), hosts.next()) {
            (_, _, Some(_)) => return None,
            (Some(authority), ..) => without_userinfo(authority),
            (None, Some(host), None) => host.to_str().ok()?,
            (None, None, None) => "",
        };
        Self::new(scheme.map_or("http", Scheme::as_str), host, path_and_query(target(request)))
    }

    pub(crate) fn from_uri(uri: &Uri) -> Option<Self> {
        Self::new(uri.scheme_str()?, without_userinfo(uri.authority()?), path_and_query(uri))
    }

    fn new(scheme: &str, host: &str, path: &str) -> Option<Self> {
        // A host with a slash in it would be another resource's key.
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

    /// `path`: with the query.
    pub(crate) fn of_origin(origin: &str, path: &str) -> Self {
        Self { text: [origin, path].concat().into(), origin: origin.len() }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn into_text(self) -> Box<str> {
        self.text
    }

    /// `scheme://host`
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

    /// An empty one leaves no question mark.
    pub(crate) fn with_query(self, query: &str) -> Self {
        let question_mark = if query.is_empty() { "" } else { "?" };
        Self { text: [self.origin(), self.path(), question_mark, query].concat().into(), origin: self.origin }
    }

    pub(crate) fn without_query(&self) -> &str {
        self.text.split_once('?').map_or(&self.text, |(before, _)| before)
    }

    /// The one key of all that mean the same by `variance`. It has a fragment, as no target has (RFC 9110 §7.1), so that
    /// it is never a request's own; `era` tells it from those of other times.
    pub(crate) fn under(&self, variance: &SearchVariance, era: u64) -> Self {
        let canonical = variance.canonical(self.query().unwrap_or_default());
        let text = format!("{}?{canonical}#{era}", self.without_query());
        Self { text: text.into(), origin: self.origin }
    }

    /// The resource that `reference` names, as seen from this one, if it is of the same origin.
    // RFC 3986 §5.2, RFC 9111 §4.4
    pub(crate) fn same_origin(&self, reference: &str) -> Option<Self> {
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

/// The URI of a request as it was before a router changed it: axum strips the prefix of `Router::nest` from the URI, and
/// keeps the whole in an extension. Below two prefixes, the same rest is two resources.
pub(crate) fn target<B>(request: &Request<B>) -> &Uri {
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

/// RFC 3986 §3.2.2 and §3.2.3
fn is_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%[]:".contains(&byte)
}

fn has_scheme(reference: &str) -> bool {
    reference.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// RFC 3986 §5.2.4, for a path that begins with a slash.
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
    fn the_key_is_scheme_host_path_and_query() {
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
            let key = Key::of(&request(uri, host));
            assert_eq!(key.as_ref().map(Key::as_str), expected, "{uri} {host:?}");
        }
    }

    #[test]
    fn the_scheme_is_the_servers_word() {
        let mut request = request("/a", &["example.org:443"]);
        request.extensions_mut().insert(Scheme::HTTPS);
        assert_eq!(Key::of(&request).unwrap().as_str(), "https://example.org/a");
    }

    #[test]
    fn references_of_the_same_origin_resolve() {
        // RFC 3986 §5.4.1, RFC 9111 §4.4
        let base = Key::of(&request("/b/c/d?q", &["a.example"])).unwrap();
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
            assert_eq!(base.same_origin(reference).as_ref().map(Key::as_str), expected, "{reference}");
        }
    }
}
