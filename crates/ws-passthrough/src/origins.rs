//! The origins of pages that may open a WebSocket.

use std::str::FromStr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Request};

/// A set of origins, such as `https://app.example,https://*.example.org,self`.
///
/// Browsers send cookies with a WebSocket handshake from any page (RFC 6455 §10.2). A server that authenticates by cookies
/// must therefore check the origin. Handshakes without an origin are allowed, because they do not come from a browser.
///
/// - `self` is the host of the request.
/// - `https://*.example.org` is any subdomain.
/// - `null` is an opaque origin, such as that of a sandboxed page.
///
/// # Examples
///
/// ```
/// use rproxy_ws_passthrough::{WsOrigins, WsPassthroughLayer};
///
/// let origins: WsOrigins = "https://app.example, self".parse()?;
/// let layer = WsPassthroughLayer::new().origins(origins);
/// # let _ = layer;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WsOrigins {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// `self`: the host of the origin equals the host of the request.
    SameHost,
    /// A single origin, in lower case.
    Exact(String),
    /// `https://*.example.org`: the origins of all subdomains.
    Subdomains { scheme: String, suffix: String },
}

/// The error for an invalid list of [`WsOrigins`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad WebSocket origin {origin:?}: {reason}")]
pub struct WsOriginsError {
    origin: String,
    reason: &'static str,
}

impl WsOrigins {
    /// Returns whether the `Origin` of the request is allowed.
    pub(crate) fn allow<B>(&self, request: &Request<B>) -> bool {
        let mut lines = request.headers().get_all(ORIGIN).iter();
        let Some(origin) = lines.next() else { return true };
        // RFC 6454 §7.3: a browser sends one origin.
        let (None, Ok(origin)) = (lines.next(), origin.to_str()) else { return false };
        let origin = origin.to_ascii_lowercase();
        self.rules.iter().any(|rule| match rule {
            Rule::SameHost => {
                let host = origin.split_once("://").map(|(_, host)| host);
                host.is_some() && host == self::host(request.headers(), request.uri()).as_deref()
            }
            Rule::Exact(allowed) => *allowed == origin,
            Rule::Subdomains { scheme, suffix } => {
                let host = origin.strip_prefix(scheme.as_str()).and_then(|rest| rest.strip_prefix("://"));
                host.and_then(|host| host.strip_suffix(suffix.as_str())).is_some_and(is_name)
            }
        })
    }
}

/// Parses a comma-separated list of origins.
impl FromStr for WsOrigins {
    type Err = WsOriginsError;

    fn from_str(list: &str) -> Result<Self, WsOriginsError> {
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let rules = entries.map(Rule::parse).collect::<Result<Vec<_>, _>>()?;
        match rules.is_empty() {
            true => Err(WsOriginsError { origin: list.to_owned(), reason: "empty" }),
            false => Ok(Self { rules }),
        }
    }
}

impl Rule {
    fn parse(entry: &str) -> Result<Self, WsOriginsError> {
        let invalid = |reason| Err(WsOriginsError { origin: entry.to_owned(), reason });
        let origin = entry.to_ascii_lowercase();
        // RFC 6454 §7: `null` stands for an opaque origin.
        match origin.as_str() {
            "self" => return Ok(Self::SameHost),
            "null" => return Ok(Self::Exact(origin)),
            _ => {}
        }
        let Some((scheme, host)) = origin.split_once("://") else {
            return invalid("expected self, null, or an origin such as https://app.example");
        };
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            return invalid("invalid scheme");
        }
        if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
            return invalid("expected only a scheme, a host and an optional port");
        }
        match (host.strip_prefix('*'), host.contains('*')) {
            (Some(suffix), _) if suffix.starts_with('.') && !suffix.contains('*') && suffix.len() > 1 => {
                Ok(Self::Subdomains { scheme: scheme.to_owned(), suffix: suffix.to_owned() })
            }
            (_, true) => {
                invalid("a wildcard is allowed only as the first label of the host, as in https://*.example.org")
            }
            (_, false) => Ok(Self::Exact(origin)),
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// Returns the host of the request as it appears in an `Origin`, without a default port.
fn host(headers: &HeaderMap, uri: &http::Uri) -> Option<String> {
    let field = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = field.or_else(|| uri.authority().map(|authority| authority.as_str()))?.to_ascii_lowercase();
    let without_port = host.strip_suffix(":443").or_else(|| host.strip_suffix(":80"));
    Some(without_port.map(str::to_owned).unwrap_or(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_only_the_listed_websocket_origins() {
        for (list, host, origin, expected) in [
            ("https://app.example", "a", "https://app.example", true),
            ("https://App.example", "a", "https://aPP.example", true),
            ("https://app.example", "a", "http://app.example", false),
            ("https://app.example", "a", "https://app.example:444", false),
            ("https://app.example", "a", "https://app.example.evil", false),
            ("https://*.example.org", "a", "https://b.example.org", true),
            ("https://*.example.org", "a", "https://b.c.example.org", true),
            ("https://*.example.org", "a", "https://example.org", false),
            ("https://*.example.org", "a", "https://.example.org", false),
            ("https://*.example.org", "a", "https://evil/.example.org", false),
            ("https://*.example.org:8443", "a", "https://b.example.org:8443", true),
            ("https://*.example.org", "a", "http://b.example.org", false),
            ("self", "a.example", "https://a.example", true),
            ("self", "a.example:443", "https://a.example", true),
            ("self", "A.example:8080", "http://a.example:8080", true),
            ("self", "a.example", "https://b.example", false),
            ("self", "a.example", "null", false),
            ("null", "a.example", "null", true),
            ("https://x.example, self", "a.example", "https://a.example", true),
        ] {
            let origins: WsOrigins = list.parse().unwrap();
            let request = Request::get("/").header(HOST, host).header(ORIGIN, origin).body(()).unwrap();
            assert_eq!(origins.allow(&request), expected, "{origin} at {host} in {list:?}");
        }
        let origins: WsOrigins = "https://a.example".parse().unwrap();
        assert!(origins.allow(&Request::get("/").body(()).unwrap()));
        let request = Request::get("/").header(ORIGIN, "https://a.example");
        assert!(!origins.allow(&request.header(ORIGIN, "https://a.example").body(()).unwrap()));
    }

    #[test]
    fn origin_list_errors_contain_the_origin_and_the_reason() {
        for (list, message) in [
            ("", "bad WebSocket origin \"\": empty"),
            (
                "https://a.example,b.example",
                "bad WebSocket origin \"b.example\": expected self, null, or an origin such as https://app.example",
            ),
            (
                "https://a.example/",
                "bad WebSocket origin \"https://a.example/\": expected only a scheme, a host and an optional port",
            ),
            ("://a", "bad WebSocket origin \"://a\": invalid scheme"),
            (
                "https://a.*.b",
                "bad WebSocket origin \"https://a.*.b\": a wildcard is allowed only as the first label of the host, as in https://*.example.org",
            ),
            (
                "https://*",
                "bad WebSocket origin \"https://*\": a wildcard is allowed only as the first label of the host, as in https://*.example.org",
            ),
        ] {
            assert_eq!(list.parse::<WsOrigins>().unwrap_err().to_string(), message);
        }
    }
}
