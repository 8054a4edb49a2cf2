//! The form of paths at their end: with or without a slash.

use http::Method;

use crate::safe_path::is_plain;

/// The form of the end of paths, for [`TargetRulesBuilder::trailing_slash`](crate::TargetRulesBuilder::trailing_slash).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrailingSlash {
    /// Paths stay as they are.
    #[default]
    AsIs,
    /// Paths end with a slash, except those whose last segment contains a dot, such as `/style.css`.
    Add,
    /// Paths do not end with a slash, except `/`.
    Remove,
}

impl TrailingSlash {
    /// Returns the path in the other form. Only GET and HEAD requests are redirected.
    pub(crate) fn redirect(self, method: &Method, path: &str) -> Option<String> {
        if self == Self::AsIs || !matches!(*method, Method::GET | Method::HEAD) || !is_plain(path) {
            return None;
        }
        match (self, path.strip_suffix('/')) {
            (Self::Add, None) => {
                let last = path.rsplit('/').next().unwrap_or_default();
                (!last.contains('.')).then(|| format!("{path}/"))
            }
            (Self::Remove, Some(trimmed)) if !trimmed.is_empty() => Some(trimmed.to_owned()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_or_removes_the_slash_of_plain_paths() {
        use TrailingSlash::{Add, AsIs, Remove};
        for (form, path, expected) in [
            (AsIs, "/a", None),
            (AsIs, "/a/", None),
            (Add, "/a", Some("/a/")),
            (Add, "/a.b/c", Some("/a.b/c/")),
            (Add, "/a/", None),
            (Add, "/", None),
            (Add, "/style.css", None),
            (Add, "//evil.example", None),
            (Add, "//evil", None),
            (Add, "/\\evil", None),
            (Add, "/%2fevil", None),
            (Add, "/%5cevil", None),
            (Add, "*", None),
            (Remove, "/a/", Some("/a")),
            (Remove, "/a.b/", Some("/a.b")),
            (Remove, "/a", None),
            (Remove, "/", None),
            (Remove, "//", None),
            (Remove, "//evil/", None),
            (Remove, "/a//", None),
            (Remove, "/%2fevil/", None),
        ] {
            assert_eq!(form.redirect(&Method::GET, path).as_deref(), expected, "{form:?} {path}");
            assert_eq!(form.redirect(&Method::POST, path), None);
        }
    }
}
