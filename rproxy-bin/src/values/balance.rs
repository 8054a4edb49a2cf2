//! The load balancing policy of the upstream.

use std::fmt;
use std::str::FromStr;

use http::header::{self, HeaderMap, HeaderName};
use rproxy_client_ip::ClientIp;
use rproxy_upstream::Balance;

use super::value::ParseError;

/// The load balancing policy, which selects the backend for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpstreamBalance {
    /// Selects the backends in round-robin order, according to their weights.
    #[default]
    RoundRobin,
    /// Selects the backend with fewer in-flight requests of two random backends.
    LeastPending,
    /// Selects the backend by consistent hashing of the client address.
    Client,
    /// Selects the backend by consistent hashing of the path and query.
    Path,
    /// Selects the backend by consistent hashing of a request header field.
    Header(HeaderName),
    /// Selects the backend by consistent hashing of a cookie.
    Cookie(String),
}

impl UpstreamBalance {
    /// Returns the policy as a type of the `rproxy-upstream` crate.
    pub fn to_balance(&self) -> Balance {
        match self {
            Self::RoundRobin => Balance::RoundRobin,
            Self::LeastPending => Balance::LeastPending,
            Self::Client => Balance::by_key(|head| head.extensions.get::<ClientIp>().map(|client| client.0)),
            Self::Path => Balance::by_key(|head| head.uri.path_and_query().cloned()),
            Self::Header(name) => {
                let name = name.clone();
                Balance::by_key(move |head| head.headers.get(&name).cloned())
            }
            Self::Cookie(name) => {
                let name = name.clone();
                Balance::by_key(move |head| cookie(&head.headers, &name).map(<[u8]>::to_vec))
            }
        }
    }
}

/// Returns the value of the cookie with this name (RFC 6265 §5.4).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let fields = headers.get_all(header::COOKIE).into_iter();
    let mut pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

impl FromStr for UpstreamBalance {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = |reason| ParseError::new("balance", text, reason);
        match text.split_once(':') {
            Some(("header", name)) => match HeaderName::try_from(name.trim()) {
                Ok(name) => Ok(Self::Header(name)),
                Err(_) => Err(error("not a valid header name")),
            },
            // The name of a cookie is a token (RFC 6265 §4.1.1), like a header field name.
            Some(("cookie", name)) => match HeaderName::try_from(name.trim()) {
                Ok(_) => Ok(Self::Cookie(name.trim().to_owned())),
                Err(_) => Err(error("not a valid cookie name")),
            },
            _ => match text.to_ascii_lowercase().replace('-', "_").as_str() {
                "round_robin" => Ok(Self::RoundRobin),
                "least_pending" => Ok(Self::LeastPending),
                "client" => Ok(Self::Client),
                "path" => Ok(Self::Path),
                _ => Err(error("unknown policy")),
            },
        }
    }
}

impl fmt::Display for UpstreamBalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobin => f.write_str("round_robin"),
            Self::LeastPending => f.write_str("least_pending"),
            Self::Client => f.write_str("client"),
            Self::Path => f.write_str("path"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints_balancing_policies() {
        for (text, written) in [
            ("round_robin", "round_robin"),
            ("Least-Pending", "least_pending"),
            ("client", "client"),
            ("path", "path"),
            ("header:X-Tenant", "header:x-tenant"),
            ("cookie:JSESSIONID", "cookie:JSESSIONID"),
        ] {
            let balance: UpstreamBalance = text.parse().unwrap();
            assert_eq!(balance.to_string(), written);
            assert_eq!(written.parse(), Ok(balance));
        }
        for (text, reason) in [
            ("random", "unknown policy"),
            ("", "unknown policy"),
            ("header:", "not a valid header name"),
            ("header:a b", "not a valid header name"),
            ("cookie:a;b", "not a valid cookie name"),
        ] {
            assert_eq!(
                text.parse::<UpstreamBalance>().unwrap_err().to_string(),
                format!("bad balance {text:?}: {reason}")
            );
        }
    }

    #[test]
    fn finds_cookie_by_its_full_name() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "xid=1; id2=2;id=three".parse().unwrap());
        headers.append(header::COOKIE, "other=4".parse().unwrap());
        for (name, value) in [("id", Some("three")), ("other", Some("4")), ("i", None), ("xid", Some("1"))] {
            assert_eq!(cookie(&headers, name), value.map(str::as_bytes), "{name}");
        }
    }
}
