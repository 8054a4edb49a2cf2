//! The selection of stored responses to purge.

use std::str::FromStr;

use http::Uri;

use crate::key::CacheKey;

/// A selection of responses to purge from a [`CacheStore`](crate::CacheStore).
///
/// As text, `*` selects everything, and a trailing `*` makes a prefix. The rest is `https://host/path?query`,
/// `//host/path` for both schemes, or `/path` for every host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purge {
    /// Selects all stored responses.
    All,
    /// Selects all variants of one URL.
    Url(PurgeTarget),
    /// Selects all URLs with a prefix.
    Prefix(PurgeTarget),
    /// Selects all responses with a cache tag: a group in `Cache-Groups` of any origin, or a word of `Surrogate-Key`.
    Tag(String),
}

/// A URL or URL prefix, of one origin or of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeTarget {
    // `None` matches both schemes.
    scheme: Option<String>,
    // `None` matches every host.
    host: Option<String>,
    path: String,
}

/// The error for text that is not a valid purge target.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "bad purge target {0:?}: expected a URL, //host/path or /path, optionally ending with \"*\", or \"*\" for all URLs"
)]
pub struct PurgeError(String);

impl Purge {
    /// Selects all variants of one URL. `//host/path` matches both schemes, and `/path` every host.
    ///
    /// # Errors
    ///
    /// If `url` has none of these forms.
    pub fn url(url: &str) -> Result<Self, PurgeError> {
        PurgeTarget::parse(url).map(Self::Url).ok_or_else(|| PurgeError(url.to_owned()))
    }

    /// Selects all URLs with a prefix, in one of the forms that [`Purge::url`] accepts.
    ///
    /// # Errors
    ///
    /// If `prefix` has none of these forms.
    pub fn prefix(prefix: &str) -> Result<Self, PurgeError> {
        PurgeTarget::parse(prefix).map(Self::Prefix).ok_or_else(|| PurgeError(prefix.to_owned()))
    }

    /// Selects all responses with this cache tag.
    #[must_use]
    pub fn tag(tag: impl Into<String>) -> Self {
        Self::Tag(tag.into())
    }

    /// Returns the selected cache keys, or `None` if they must be searched for in the store.
    pub(crate) fn keys(&self) -> Option<Vec<CacheKey>> {
        let Self::Url(PurgeTarget { scheme, host: Some(host), path }) = self else {
            return None;
        };
        let schemes = scheme.as_deref().map_or(vec!["http", "https"], |scheme| vec![scheme]);
        Some(schemes.iter().map(|scheme| CacheKey::from_origin(&format!("{scheme}://{host}"), path)).collect())
    }

    pub(crate) fn matches(&self, key: &str) -> bool {
        let (target, prefix) = match self {
            Self::All => return true,
            // Tags are matched with responses, not with keys.
            Self::Tag(_) => return false,
            Self::Url(target) => (target, false),
            Self::Prefix(target) => (target, true),
        };
        let Some((scheme, rest)) = key.split_once("://") else {
            return false;
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_same = |wanted: &str| match path.split_once('#') {
            // The response to all equivalent queries is selected by any of them.
            Some((all, _)) => all.split('?').next() == wanted.split('?').next(),
            None => path == wanted,
        };
        target.scheme.as_deref().is_none_or(|wanted| wanted == scheme)
            && target.host.as_deref().is_none_or(|wanted| wanted == host)
            && (is_same(&target.path) || prefix && path.starts_with(&target.path))
    }
}

impl FromStr for Purge {
    type Err = PurgeError;

    fn from_str(text: &str) -> Result<Self, PurgeError> {
        match text.trim().strip_suffix('*') {
            Some("") => Ok(Self::All),
            Some(prefix) => Self::prefix(prefix),
            None => Self::url(text.trim()),
        }
    }
}

impl PurgeTarget {
    fn parse(text: &str) -> Option<Self> {
        if text.starts_with('/') && !text.starts_with("//") {
            return Some(Self { scheme: None, host: None, path: text.to_owned() });
        }
        let both = text.starts_with("//");
        let absolute = if both { format!("http:{text}") } else { text.to_owned() };
        let uri: Uri = absolute.parse().ok()?;
        uri.host().filter(|host| !host.is_empty())?;
        let key = CacheKey::from_uri(&uri)?;
        let (scheme, rest) = key.as_str().split_once("://")?;
        let (host, path) = rest.split_at(rest.find('/')?);
        Some(Self { scheme: (!both).then(|| scheme.to_owned()), host: Some(host.to_owned()), path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_invalid_purge_targets() {
        for text in ["", "example.org/a", "http://", "http:///a", "//", "a b", "mailto:x"] {
            let error = text.parse::<Purge>().unwrap_err();
            assert!(error.to_string().contains("purge target"), "{text}");
        }
    }

    #[test]
    fn normalises_purge_urls_like_cache_keys() {
        let purge: Purge = "https://Example.org:443".parse().unwrap();
        assert_eq!(purge.keys().unwrap().iter().map(CacheKey::as_str).collect::<Vec<_>>(), ["https://example.org/"]);
        assert!(purge.matches("https://example.org/") && !purge.matches("https://example.org/a"));
    }
}
