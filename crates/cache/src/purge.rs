//! What to drop from the store.

use std::str::FromStr;

use http::Uri;

use crate::key::Key;

/// What to drop from a [`CacheStore`](crate::CacheStore).
///
/// As text: `*` is all, a trailing `*` makes a prefix, and what comes before is `https://host/path?query`,
/// `//host/path` for both schemes, or `/path` for every host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purge {
    /// Everything.
    All,
    /// One URL, all its variants.
    Url(PurgeTarget),
    /// Every URL that begins so.
    Prefix(PurgeTarget),
    /// Every response with this tag: one of its `Cache-Groups` (RFC 9875), of whatever origin, or a word of its
    /// `Surrogate-Key`.
    Tag(String),
}

/// A URL, or the beginning of one, of one origin or of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeTarget {
    // `None`: both schemes.
    scheme: Option<String>,
    // `None`: every host.
    host: Option<String>,
    path: String,
}

/// Text that names nothing to purge.
#[derive(Clone, Debug, thiserror::Error)]
#[error("bad purge target {0:?}: expected a URL, //host/path, /path, any of these with a trailing *, or *")]
pub struct PurgeError(String);

impl Purge {
    /// One URL, all its variants; `//host/path` means both schemes, `/path` every host.
    ///
    /// # Errors
    ///
    /// If `url` has none of these forms.
    pub fn url(url: &str) -> Result<Self, PurgeError> {
        PurgeTarget::parse(url).map(Self::Url).ok_or_else(|| PurgeError(url.to_owned()))
    }

    /// Every URL that begins with `prefix`, which has a form of [`Purge::url`].
    ///
    /// # Errors
    ///
    /// If `prefix` has none of these forms.
    pub fn prefix(prefix: &str) -> Result<Self, PurgeError> {
        PurgeTarget::parse(prefix).map(Self::Prefix).ok_or_else(|| PurgeError(prefix.to_owned()))
    }

    /// Every response with this tag.
    #[must_use]
    pub fn tag(tag: impl Into<String>) -> Self {
        Self::Tag(tag.into())
    }

    /// The keys meant, where they can be listed.
    pub(crate) fn keys(&self) -> Option<Vec<Key>> {
        let Self::Url(PurgeTarget { scheme, host: Some(host), path }) = self else {
            return None;
        };
        let schemes = scheme.as_deref().map_or(vec!["http", "https"], |scheme| vec![scheme]);
        Some(schemes.iter().map(|scheme| Key::of_origin(&format!("{scheme}://{host}"), path)).collect())
    }

    pub(crate) fn covers(&self, key: &str) -> bool {
        let (target, prefix) = match self {
            Self::All => return true,
            // That is the responses' matter.
            Self::Tag(_) => return false,
            Self::Url(target) => (target, false),
            Self::Prefix(target) => (target, true),
        };
        let Some((scheme, rest)) = key.split_once("://") else {
            return false;
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let means = |wanted: &str| match path.split_once('#') {
            // The one answer to all queries that mean the same, whichever of them is named.
            Some((all, _)) => all.split('?').next() == wanted.split('?').next(),
            None => path == wanted,
        };
        target.scheme.as_deref().is_none_or(|wanted| wanted == scheme)
            && target.host.as_deref().is_none_or(|wanted| wanted == host)
            && (means(&target.path) || prefix && path.starts_with(&target.path))
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
        let key = Key::from_uri(&uri)?;
        let (scheme, rest) = key.as_str().split_once("://")?;
        let (host, path) = rest.split_at(rest.find('/')?);
        Some(Self { scheme: (!both).then(|| scheme.to_owned()), host: Some(host.to_owned()), path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_nothing_is_refused() {
        for text in ["", "example.org/a", "http://", "http:///a", "//", "a b", "mailto:x"] {
            let error = text.parse::<Purge>().unwrap_err();
            assert!(error.to_string().contains("purge target"), "{text}");
        }
    }

    #[test]
    fn urls_are_normalised_as_keys_are() {
        let purge: Purge = "https://Example.org:443".parse().unwrap();
        assert_eq!(purge.keys().unwrap().iter().map(Key::as_str).collect::<Vec<_>>(), ["https://example.org/"]);
        assert!(purge.covers("https://example.org/") && !purge.covers("https://example.org/a"));
    }
}
