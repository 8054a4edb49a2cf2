//! Path patterns, and their order by specificity.

use std::borrow::Cow;
use std::cmp::Reverse;

use globset::{GlobBuilder, GlobMatcher};
use rproxy_core::path;

use crate::error::RouterError;

/// A pattern that matches request paths in [comparable] form.
#[derive(Clone, Debug)]
pub(crate) struct PathPattern {
    text: Box<str>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Exact,
    /// A pattern such as `/api/**`, with the length of the prefix `/api`.
    Prefix(usize),
    /// A glob. If it ends in `/**`, also the glob without this ending.
    Glob(Box<GlobMatcher>, Option<Box<GlobMatcher>>),
}

/// The sort key of patterns: the pattern with the lowest rank is tried first.
pub(crate) type Rank = (bool, Reverse<usize>, bool, Reverse<usize>);

impl PathPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, RouterError> {
        let error = |reason: String| RouterError::Path { path: text.to_owned(), reason };
        if !text.starts_with(['/', '*']) {
            return Err(error("a path pattern must begin with / or *".to_owned()));
        }
        if text.contains('%') {
            return Err(error("a path pattern must not contain percent-encoding".to_owned()));
        }
        if text.contains("//") || text.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(error("a path pattern must not contain empty or dot segments".to_owned()));
        }
        let lower = path::normalized(text);
        let lower = match lower.trim_end_matches('/') {
            "" => "/",
            trimmed => trimmed,
        };
        let prefix = lower.strip_suffix("/**").filter(|prefix| !is_glob(prefix));
        let kind = match prefix {
            Some(prefix) => Kind::Prefix(prefix.len()),
            None if !is_glob(lower) => Kind::Exact,
            None => {
                let compile = |glob: &str| {
                    let mut builder = GlobBuilder::new(glob);
                    builder.literal_separator(true).backslash_escape(false).empty_alternates(true);
                    let glob = builder.build().map_err(|cause| error(cause.kind().to_string()))?;
                    Ok(Box::new(glob.compile_matcher()))
                };
                let base = lower.strip_suffix("/**").filter(|base| !matches!(*base, "" | "**" | "*"));
                Kind::Glob(compile(lower)?, base.map(compile).transpose()?)
            }
        };
        Ok(Self { text: lower.into(), kind })
    }

    /// Returns the normalized text of the pattern, which is used to detect duplicates.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        match &self.kind {
            Kind::Exact => path == self.text.as_bytes(),
            Kind::Prefix(length) => {
                let prefix = &self.text.as_bytes()[..*length];
                path.strip_prefix(prefix).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
            }
            Kind::Glob(glob, base) => {
                let path = String::from_utf8_lossy(path);
                glob.is_match(&*path) || base.as_ref().is_some_and(|base| base.is_match(&*path))
            }
        }
    }

    /// Returns the sort key: exact paths, then longer literal prefixes, then patterns without `**`.
    pub(crate) fn rank(&self) -> Rank {
        let is_exact = matches!(self.kind, Kind::Exact);
        let literal = self.text.find(GLOB_CHARACTERS).unwrap_or(self.text.len());
        (!is_exact, Reverse(literal), self.text.contains("**"), Reverse(self.text.len()))
    }
}

const GLOB_CHARACTERS: [char; 4] = ['*', '?', '[', '{'];

fn is_glob(text: &str) -> bool {
    text.contains(GLOB_CHARACTERS)
}

/// Converts a decoded path to the form that patterns match. ASCII is not copied.
pub(crate) fn comparable(decoding: &[u8]) -> Cow<'_, [u8]> {
    let comparable = path::comparable(decoding);
    if comparable.is_empty() { Cow::Borrowed(b"/") } else { comparable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_patterns_match_whole_paths() {
        for (pattern, matching, others) in [
            ("/login", &["/login"][..], &["/", "/login/x", "/loginx"][..]),
            ("/Login/", &["/login"], &["/"]),
            ("/api/**", &["/api", "/api/a", "/api/a/b"], &["/", "/apix", "/x/api"]),
            ("/**", &["/", "/a", "/a/b"], &[]),
            ("**", &["/", "/a", "/a/b"], &[]),
            ("/", &["/"], &["/a"]),
            ("/files/*", &["/files/a"], &["/files", "/files/a/b"]),
            ("**/*.php", &["/a.php", "/a/b.php"], &["/a.phpx", "/a.php/b"]),
            ("/{a,b}/**", &["/a", "/a/x", "/b/x/y"], &["/c/x"]),
            ("/*/files/**", &["/a/files", "/a/files/b"], &["/files", "/a/b/files"]),
            ("**/deep/**", &["/deep/x", "/x/deep", "/x/deep/y"], &["/x"]),
            ("/caf\u{e9}", &["/caf\u{e9}", "/cafe\u{301}", "/CAF\u{c9}"], &["/cafe"]),
            ("/CAFE\u{301}/**", &["/caf\u{e9}/x", "/cafe\u{301}/x"], &["/cafe/x"]),
        ] {
            let parsed = PathPattern::parse(pattern).unwrap();
            for path in matching {
                assert!(parsed.matches(&comparable(path.as_bytes())), "{pattern} {path}");
            }
            for path in others {
                assert!(!parsed.matches(&comparable(path.as_bytes())), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn more_specific_path_patterns_come_first() {
        let sorted =
            ["/api/v1", "/api", "/static/app/**", "/api/v1/**", "/api/*", "/api/**", "/*.html", "/**", "**/*.php"];
        let mut patterns: Vec<_> = sorted.iter().rev().map(|text| PathPattern::parse(text).unwrap()).collect();
        patterns.sort_by_key(PathPattern::rank);
        let texts: Vec<_> = patterns.iter().map(PathPattern::text).collect();
        let position = |text: &str| texts.iter().position(|other| *other == text).unwrap();
        for pair in [
            ("/api/v1", "/api/v1/**"),
            ("/api", "/static/app/**"),
            ("/static/app/**", "/api/v1/**"),
            ("/api/v1/**", "/api/*"),
            ("/api/*", "/api/**"),
            ("/api/**", "/*.html"),
            ("/*.html", "/**"),
            ("/**", "**/*.php"),
        ] {
            assert!(position(pair.0) < position(pair.1), "{pair:?} in {texts:?}");
        }
    }

    #[test]
    fn rejects_invalid_path_patterns_with_a_reason() {
        for (text, reason) in [
            ("", "a path pattern must begin with / or *"),
            ("api/**", "a path pattern must begin with / or *"),
            ("/a%20b", "a path pattern must not contain percent-encoding"),
            ("/a//b", "a path pattern must not contain empty or dot segments"),
            ("/a/../b", "a path pattern must not contain empty or dot segments"),
        ] {
            let error = PathPattern::parse(text).unwrap_err();
            assert_eq!(error, RouterError::Path { path: text.to_owned(), reason: reason.to_owned() });
        }
        assert!(matches!(PathPattern::parse("/a[b"), Err(RouterError::Path { .. })));
    }
}
