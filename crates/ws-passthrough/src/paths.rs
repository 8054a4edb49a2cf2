//! The paths that allow WebSockets.

use std::str::FromStr;
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// A set of path globs, such as `/live/**,/_next/webpack-hmr`. `*` matches within a segment, `**` across segments.
///
/// The default is all paths. Other sets contain no path with dot segments, encoded slashes or backslashes, because a backend
/// may resolve such a path to another one.
///
/// # Examples
///
/// ```
/// use rproxy_ws_passthrough::{WsPaths, WsPathsError};
///
/// let paths: WsPaths = "/live/**,/hmr".parse()?;
/// assert!(paths.contains("/live/news"));
/// assert!(!paths.contains("/live/../admin"));
/// # Ok::<_, WsPathsError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct WsPaths {
    // `None`: all paths.
    globs: Option<Arc<GlobSet>>,
}

/// The error for an invalid glob in [`WsPaths`].
#[derive(Clone, Debug, thiserror::Error)]
#[error("bad glob {glob:?}: {reason}")]
pub struct WsPathsError {
    glob: String,
    reason: String,
}

impl WsPaths {
    /// Creates a set that contains all paths.
    #[must_use]
    pub fn all() -> Self {
        Self { globs: None }
    }

    /// Creates a set of all paths that match one of the globs.
    ///
    /// # Errors
    ///
    /// Returns an error if a glob is invalid.
    pub fn new<'a>(globs: impl IntoIterator<Item = &'a str>) -> Result<Self, WsPathsError> {
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            if matches!(glob, "/**" | "**") {
                return Ok(Self::all());
            }
            let parsed = GlobBuilder::new(glob).literal_separator(true).build();
            set.add(parsed.map_err(|error| WsPathsError::new(glob, &error))?);
        }
        let set = set.build().map_err(|error| WsPathsError::new(error.glob().unwrap_or_default(), &error))?;
        Ok(Self { globs: Some(Arc::new(set)) })
    }

    /// Returns whether the set contains `path`, which must be percent-encoded as in the request.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        match &self.globs {
            None => true,
            Some(globs) => globs.is_match(path) && !is_ambiguous(path),
        }
    }
}

/// Parses a comma-separated list of path globs. Commas within braces do not separate globs. An empty list contains no
/// path.
impl FromStr for WsPaths {
    type Err = WsPathsError;

    fn from_str(list: &str) -> Result<Self, WsPathsError> {
        let mut depth = 0_usize;
        let globs = list.split(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        });
        Self::new(globs.map(str::trim).filter(|glob| !glob.is_empty()))
    }
}

impl WsPathsError {
    fn new(glob: &str, error: &globset::Error) -> Self {
        Self { glob: glob.to_owned(), reason: error.kind().to_string() }
    }
}

fn is_ambiguous(path: &str) -> bool {
    if !path.contains(['.', '%', '\\']) {
        return false;
    }
    let lower = path.to_ascii_lowercase();
    let dots = lower.split('/').any(|segment| {
        // Some servers ignore path parameters, so `..;x=1` is a dot segment.
        let plain = segment.split(';').next().unwrap_or_default().replace("%2e", ".");
        matches!(plain.as_str(), "." | "..")
    });
    dots || lower.contains('\\') || ["%2f", "%5c", "%00", "%25"].iter().any(|escape| lower.contains(escape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_set_contains_only_paths_that_match_a_glob_completely() {
        for (list, path, expected) in [
            ("/**", "/any/where", true),
            ("/**", "/a/../b", true),
            ("/ws", "/ws", true),
            ("/ws", "/ws/more", false),
            ("/ws", "/other", false),
            ("/ws/*", "/ws/a", true),
            ("/ws/*", "/ws/a/b", false),
            ("/ws/**", "/ws/a/b", true),
            ("/{live,chat}/**, /hmr", "/chat/room", true),
            ("/{live,chat}/**, /hmr", "/hmr", true),
            ("/{live,chat}/**, /hmr", "/chat", false),
            ("", "/", false),
            ("/ws/**", "/ws/../admin", false),
            ("/ws/**", "/ws/%2E%2e/admin", false),
            ("/ws/**", "/ws/..;x=1/admin", false),
            ("/ws/**", "/ws/%2e%2e%2fadmin", false),
            ("/ws/**", "/ws/..\\admin", false),
            ("/ws/**", "/ws/v1.2/a", true),
        ] {
            assert_eq!(list.parse::<WsPaths>().unwrap().contains(path), expected, "{path} in {list:?}");
        }
    }

    #[test]
    fn path_glob_error_contains_the_glob() {
        let error = "/ok,/{a,b".parse::<WsPaths>().unwrap_err();
        assert!(error.to_string().starts_with("bad glob \"/{a,b\": "), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn parsing_and_matching_path_globs_never_panics(list in ".{0,40}", path in ".{0,40}") {
            if let Ok(paths) = list.parse::<WsPaths>() {
                let _ = paths.contains(&path);
            }
        }
    }
}
