//! Parsers of path lists, whose entries are globs.

use std::fmt::Display;
use std::str::FromStr;

use rproxy_path_filter::{PathRules, PathRulesError};

use super::parsed::Parsed;
use super::value::ParseError;

pub(crate) const CACHED: &str =
    "/_next/static/**,/static/**,/assets/**,**/*.{css,js,mjs,woff2,png,jpg,jpeg,gif,svg,webp,avif,ico}";
const BLOCKED: &str = "default";
pub(crate) const WEBSOCKETS: &str = "/**";
const LIST: &str = "list of paths";

/// Returns the default rules of the path filter, which block known secrets.
pub(crate) fn blocked() -> Parsed<PathRules> {
    Parsed::new(BLOCKED, PathRules::sensitive())
}

/// Parses a non-empty list of path globs.
pub(crate) fn globs<T>(text: &str) -> Result<Parsed<T>, String>
where
    T: FromStr<Err: Display>,
{
    check(text, is_path).map_err(|error| error.to_string())?;
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// Parses a non-empty list of path filter rules.
pub(crate) fn rules(text: &str) -> Result<Parsed<PathRules>, String> {
    // An empty list would block nothing; filter_enabled turns the filter off.
    if text.split(',').all(|entry| entry.trim().is_empty()) {
        return Err(ParseError::new(LIST, text, "empty").to_string());
    }
    text.parse().map_err(|error: PathRulesError| error.to_string())
}

/// A list of path globs. A path that servers resolve differently matches none.
pub type PathGlobs = rproxy_ws_passthrough::WsPaths;

/// Parses a list of path globs; `none` is an empty list.
pub(crate) fn embed_paths(text: &str) -> Result<Parsed<PathGlobs>, String> {
    match text.trim() {
        "none" => Ok(Parsed::new("none", PathGlobs::new([]).map_err(|error| error.to_string())?)),
        globs => self::globs(globs),
    }
}

fn is_path(glob: &str) -> bool {
    glob.starts_with('/') || glob.starts_with('*')
}

/// Rejects globs that match no path because they start with neither a slash nor an asterisk. Glob libraries accept
/// them.
fn check(text: &str, accepts: impl Fn(&str) -> bool) -> Result<(), ParseError> {
    let error = |reason: String| ParseError::new(LIST, text, reason);
    let mut depth = 0_u32;
    let mut entries = vec![String::new()];
    for c in text.chars() {
        depth = match c {
            '{' => depth + 1,
            '}' => depth.checked_sub(1).ok_or_else(|| error("a closing brace has no opening brace".into()))?,
            _ => depth,
        };
        match (c, depth) {
            (',', 0) => entries.push(String::new()),
            _ => entries.last_mut().into_iter().for_each(|entry| entry.push(c)),
        }
    }
    if depth > 0 {
        return Err(error("an opening brace has no closing brace".into()));
    }
    let mut entries = entries.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty()).peekable();
    if entries.peek().is_none() {
        return Err(error("empty".into()));
    }
    match entries.find(|entry| !accepts(entry)) {
        Some(entry) => Err(error(format!("{entry:?} does not start with / or *"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rproxy_cache::CachePaths;
    use rproxy_ws_passthrough::WsPaths;

    use super::*;

    #[test]
    fn parses_lists_of_globs_and_rules() {
        for text in [CACHED, WEBSOCKETS, "/a/**, **/*.{css,{js,mjs}}"] {
            assert_eq!(globs::<CachePaths>(text).unwrap().text(), text);
        }
        for text in [BLOCKED, "strict", "default,strict", "default,/private/**,!/private/ok"] {
            assert_eq!(rules(text).unwrap().text(), text);
        }
    }

    #[test]
    fn default_path_lists_are_valid_and_match_their_examples() {
        let cached: CachePaths = CACHED.parse().unwrap();
        assert!(cached.contains("/static/x") && cached.contains("/a.css") && !cached.contains("/"));
        assert!(WEBSOCKETS.parse::<WsPaths>().unwrap().contains("/live"));
        assert!(blocked().blocking_rule("/.git/config").is_some());
    }

    #[test]
    fn rejects_invalid_path_list_with_reason() {
        for (text, reason) in [
            ("", "empty"),
            (" , ", "empty"),
            ("static/**", "\"static/**\" does not start with / or *"),
            ("/a,default", "\"default\" does not start with / or *"),
            ("/a,!/b", "\"!/b\" does not start with / or *"),
            ("/*.{css,js", "an opening brace has no closing brace"),
            ("/*.css}", "a closing brace has no opening brace"),
        ] {
            assert_eq!(globs::<CachePaths>(text).unwrap_err(), format!("bad list of paths {text:?}: {reason}"));
        }
        assert!(globs::<CachePaths>("/ok,/x/[").unwrap_err().starts_with("bad path glob \"/x/[\": "));
        assert_eq!(rules(" ,").unwrap_err(), "bad list of paths \" ,\": empty");
        assert!(rules("/ok/**,/x/[").unwrap_err().contains("\"/x/[\""));
        for entry in ["strickt", "!default", "private/**"] {
            let error = rules(&format!("default,{entry}")).unwrap_err();
            assert!(error.starts_with(&format!("bad path rule {entry:?}: ")), "{error}");
        }
    }
}
