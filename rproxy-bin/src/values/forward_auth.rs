//! The URL of an authentication service.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use rproxy_access::ForwardAuthConfig;
use rproxy_upstream::Backend;

use super::value::ParseError;

/// The URL of an authentication service for forward auth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardAuthUrl {
    uri: Uri,
    backend: Backend,
}

impl ForwardAuthUrl {
    /// Returns the URL.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Returns the server of the URL.
    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }
}

impl FromStr for ForwardAuthUrl {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = |reason| ParseError::new("URL", text, reason);
        if text.contains('@') {
            return Err(ParseError::new("URL", "", "a user name and password in the URL are not supported"));
        }
        let uri: Uri = text.parse().map_err(|_| error("not a URL"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(error("does not start with http:// or https://"));
        };
        if ForwardAuthConfig::builder(uri.clone()).build().is_err() {
            return Err(error("does not start with http:// or https://"));
        }
        let backend =
            format!("{scheme}://{authority}").parse().map_err(|_| error("the host or the port is not valid"))?;
        Ok(Self { uri, backend })
    }
}

impl fmt::Display for ForwardAuthUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_server_and_the_path_of_a_url() {
        for (text, backend) in [
            ("http://127.0.0.1:9091/api/authz/forward-auth", "http://127.0.0.1:9091"),
            ("https://auth.example/outpost?x=1", "https://auth.example"),
        ] {
            let url: ForwardAuthUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), text);
            assert_eq!(url.backend(), &backend.parse().unwrap());
        }
        for text in ["127.0.0.1:9091", "/verify", "ftp://auth.example/", "http://", "http://auth.example:99999/"] {
            assert!(text.parse::<ForwardAuthUrl>().is_err(), "{text}");
        }
        let error = "http://alice:hush@auth.example/".parse::<ForwardAuthUrl>().unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
