//! The target of a redirect of a site or route.

use std::fmt;
use std::str::FromStr;

use http::uri::{Scheme, Uri};

use super::value::ParseError;

/// An absolute URL to which a site or route redirects.
///
/// Without a path, the path and query of the request are appended; with one, the URL is the target of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectTarget {
    url: String,
    appends_target: bool,
}

impl RedirectTarget {
    /// Returns the redirect URL for a request with this path and query.
    pub fn location(&self, path_and_query: &str) -> String {
        match self.appends_target && path_and_query.starts_with('/') {
            true => format!("{}{path_and_query}", self.url),
            false => self.url.clone(),
        }
    }
}

impl FromStr for RedirectTarget {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = |reason: &str| ParseError::new("redirect", text, reason);
        let url: Uri = text.parse().map_err(|_| error("not a URL"))?;
        if !url.scheme().is_some_and(|scheme| *scheme == Scheme::HTTPS || *scheme == Scheme::HTTP) {
            return Err(error("the URL must begin with https:// or http://"));
        }
        let has_user = url.authority().is_none_or(|authority| authority.as_str().contains('@'));
        if has_user {
            return Err(error("a user name and password in the URL are not supported"));
        }
        let appends_target = text.matches('/').count() == 2 && url.query().is_none();
        Ok(Self { url: text.to_owned(), appends_target })
    }
}

impl fmt::Display for RedirectTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_the_request_target_to_a_url_without_a_path() {
        for (url, target, location) in [
            ("https://example.org", "/a?b=c", "https://example.org/a?b=c"),
            ("https://example.org:8443", "//evil.example/", "https://example.org:8443//evil.example/"),
            ("https://example.org/", "/a", "https://example.org/"),
            ("https://example.org/new", "/a?b", "https://example.org/new"),
            ("https://example.org", "*", "https://example.org"),
        ] {
            assert_eq!(url.parse::<RedirectTarget>().unwrap().location(target), location);
        }
    }

    #[test]
    fn rejects_invalid_rate_with_reason() {
        for (text, reason) in [
            ("", "not a URL"),
            ("example.org", "the URL must begin with https:// or http://"),
            ("/path", "the URL must begin with https:// or http://"),
            ("ftp://example.org", "the URL must begin with https:// or http://"),
            ("https://me:secret@example.org", "a user name and password in the URL are not supported"),
        ] {
            let error = text.parse::<RedirectTarget>().unwrap_err().to_string();
            assert!(error.ends_with(reason), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
