//! Lists of paths, as globs.

use super::value::ParseError;

pub(super) const CACHED: &str =
    "/_next/static/**,/static/**,/assets/**,**/*.{css,js,mjs,woff2,png,jpg,jpeg,gif,svg,webp,avif,ico}";
pub(super) const BLOCKED: &str = "default";
pub(super) const WEBSOCKETS: &str = "/**";

/// A comma-separated list of globs, none of which is empty; a comma in braces belongs to its glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathList {
    text: String,
}

impl PathList {
    pub(super) fn constant(text: &'static str) -> Self {
        Self { text: text.to_owned() }
    }

    /// The list, for the layer that it is for.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A list of plain globs.
pub(super) fn globs(text: &str) -> Result<PathList, ParseError> {
    read(text, |entry| entry.starts_with('/') || entry.starts_with('*'))
}

/// A list that may also have the word `default`, and exemptions behind `!`.
pub(super) fn rules(text: &str) -> Result<PathList, ParseError> {
    read(text, |entry| {
        let glob = entry.strip_prefix('!').unwrap_or(entry);
        entry.eq_ignore_ascii_case("default") || glob.starts_with('/') || glob.starts_with('*')
    })
}

fn read(text: &str, accepts: impl Fn(&str) -> bool) -> Result<PathList, ParseError> {
    let error = |reason: String| ParseError::new("list of paths", text, reason);
    let mut depth = 0_u32;
    let mut entries = vec![String::new()];
    for c in text.chars() {
        depth = match c {
            '{' => depth + 1,
            '}' => depth.checked_sub(1).ok_or_else(|| error("a brace is closed and was not opened".into()))?,
            _ => depth,
        };
        match (c, depth) {
            (',', 0) => entries.push(String::new()),
            _ => entries.last_mut().into_iter().for_each(|entry| entry.push(c)),
        }
    }
    if depth > 0 {
        return Err(error("a brace is not closed".into()));
    }
    let mut entries = entries.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty()).peekable();
    if entries.peek().is_none() {
        return Err(error("empty".into()));
    }
    match entries.find(|entry| !accepts(entry)) {
        Some(entry) => Err(error(format!("{entry:?} does not start with / or *"))),
        None => Ok(PathList { text: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        for text in [CACHED, WEBSOCKETS, "/a/**, **/*.{css,{js,mjs}}"] {
            assert_eq!(globs(text).unwrap().text(), text);
        }
        for text in [BLOCKED, "default,/private/**,!/private/ok", "Default,**/*.bak"] {
            assert_eq!(rules(text).unwrap().text(), text);
        }
    }

    #[test]
    fn what_is_no_list_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "empty"),
            (" , ", "empty"),
            ("static/**", "\"static/**\" does not start with / or *"),
            ("/a,default", "\"default\" does not start with / or *"),
            ("/a,!/b", "\"!/b\" does not start with / or *"),
            ("/*.{css,js", "a brace is not closed"),
            ("/*.css}", "a brace is closed and was not opened"),
        ] {
            assert_eq!(globs(text).unwrap_err().to_string(), format!("bad list of paths {text:?}: {reason}"));
        }
        assert_eq!(
            rules("defualt").unwrap_err().to_string(),
            "bad list of paths \"defualt\": \"defualt\" does not start with / or *",
        );
    }
}
