//! Host patterns, and the parser for the host of a request.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use http::{Request, header};

use crate::error::RouterError;

/// A host name, an IP address, or a wildcard such as `*.example.org`, in lower case.
///
/// ```
/// use rproxy_router::HostPattern;
///
/// let wildcard: HostPattern = "*.Example.org".parse()?;
/// assert!(wildcard.matches("www.example.org"));
/// assert!(!wildcard.matches("example.org"));
/// assert!(!wildcard.matches("a.b.example.org"));
/// # Ok::<(), rproxy_router::RouterError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPattern {
    /// The host name in lower case, without the `*.` of a wildcard.
    name: Box<str>,
    is_wildcard: bool,
}

impl HostPattern {
    /// Returns whether the pattern is a wildcard, such as `*.example.org`.
    pub fn is_wildcard(&self) -> bool {
        self.is_wildcard
    }

    /// Returns the host name, without the `*.` of a wildcard.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the pattern matches `host`, which must be in lower case and without a port.
    pub fn matches(&self, host: &str) -> bool {
        match self.is_wildcard {
            true => parent(host) == Some(&self.name),
            false => *self.name == *host,
        }
    }
}

/// Returns the part of a host name after its first label.
pub(crate) fn parent(host: &str) -> Option<&str> {
    host.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| parent)
}

impl FromStr for HostPattern {
    type Err = RouterError;

    fn from_str(text: &str) -> Result<Self, RouterError> {
        let error = |reason| Err(RouterError::Host { host: text.to_owned(), reason });
        let lower = text.to_ascii_lowercase();
        if let Some(address) = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let Ok(address) = address.parse::<Ipv6Addr>() else { return error("not an IPv6 address") };
            return Ok(Self { name: format!("[{address}]").into(), is_wildcard: false });
        }
        if let Ok(IpAddr::V6(address)) = lower.parse() {
            return Ok(Self { name: format!("[{address}]").into(), is_wildcard: false });
        }
        let (name, is_wildcard) = match lower.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (lower.as_str(), false),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() {
            return error("the host name is empty");
        }
        if name.contains("//") || name.contains('/') {
            return error("a host must not contain a scheme or a path");
        }
        if name.contains(':') {
            return error("a host must not contain a port");
        }
        if name.contains('*') {
            return error("a wildcard must replace the whole first label, as in *.example.org");
        }
        if !name.is_ascii() {
            return error("an internationalized host name must be in ASCII form (xn--...)");
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if name.len() > 253 || !name.split('.').all(is_label) {
            return error("not a host name");
        }
        Ok(Self { name: name.into(), is_wildcard })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_wildcard {
            f.write_str("*.")?;
        }
        f.write_str(&self.name)
    }
}

/// Returns the host of a request in lower case, without the port and a trailing dot, or an empty string.
pub fn request_host<B>(request: &Request<B>) -> Cow<'_, str> {
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default(),
    };
    // A user name before the host is not part of it.
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = match host.rfind(':') {
        Some(at) if host[at + 1..].bytes().all(|byte| byte.is_ascii_digit()) && !host[..at].ends_with(':') => {
            &host[..at]
        }
        _ => host,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_host_names_addresses_and_wildcards() {
        for (text, shown) in [
            ("example.org", "example.org"),
            ("Example.ORG.", "example.org"),
            ("*.example.org", "*.example.org"),
            ("localhost", "localhost"),
            ("my_app.internal", "my_app.internal"),
            ("192.0.2.1", "192.0.2.1"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("2001:db8::1", "[2001:db8::1]"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(text.parse::<HostPattern>().map(|host| host.to_string()).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn rejects_invalid_host_patterns_with_a_reason() {
        for (text, reason) in [
            ("", "the host name is empty"),
            ("*.", "the host name is empty"),
            ("https://example.org", "a host must not contain a scheme or a path"),
            ("example.org/blog", "a host must not contain a scheme or a path"),
            ("example.org:8080", "a host must not contain a port"),
            ("*", "a wildcard must replace the whole first label, as in *.example.org"),
            ("www.*.org", "a wildcard must replace the whole first label, as in *.example.org"),
            ("b\u{fc}cher.example", "an internationalized host name must be in ASCII form (xn--...)"),
            ("a..b", "not a host name"),
            ("-a.example", "not a host name"),
            ("a b.example", "not a host name"),
            ("[::1", "a host must not contain a port"),
            ("[example]", "not an IPv6 address"),
        ] {
            let error = text.parse::<HostPattern>().unwrap_err();
            assert_eq!(error, RouterError::Host { host: text.to_owned(), reason }, "{text}");
        }
    }

    #[test]
    fn host_of_the_request_target_takes_precedence_over_the_host_field() {
        for (uri, field, host) in [
            ("/", Some("example.org"), "example.org"),
            ("/", Some("Example.org:8080"), "example.org"),
            ("/", Some("example.org."), "example.org"),
            ("/", Some("[::1]:80"), "[::1]"),
            ("/", Some("[::1]"), "[::1]"),
            ("/", None, ""),
            ("http://a.example:80/x", Some("b.example"), "a.example"),
            ("http://user@a.example/", None, "a.example"),
        ] {
            let mut request = Request::get(uri);
            if let Some(field) = field {
                request = request.header(header::HOST, field);
            }
            assert_eq!(request_host(&request.body(()).unwrap()), host, "{uri} {field:?}");
        }
    }
}
