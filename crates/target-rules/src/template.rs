//! The targets of redirects and rewrites, with placeholders for captures.

use rproxy_core::host;

use crate::pattern::{Captures, Pattern};
use crate::safe_path::is_valid_target;

/// A target such as `/new/{slug}`, or for redirects also `https://blog.example/{path}?page={page}`.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// The scheme and the authority, without placeholders: no request can choose the host of a redirect.
    origin: String,
    path: Vec<Part>,
    /// `None`: the query of the request is kept.
    query: Option<Vec<Part>>,
    fragment: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Capture(String),
}

/// The maximum length of a generated target, in bytes.
const MAX_LENGTH: usize = 16 << 10;

/// The maximum number of placeholders in a target.
const MAX_PLACEHOLDERS: usize = 16;

impl Template {
    /// Parses the target of a rule with this pattern, or returns the reason why it is invalid.
    pub(crate) fn parse(text: &str, pattern: &Pattern) -> Result<Self, String> {
        let (rest, fragment) = text.split_once('#').map_or((text, ""), |(rest, _)| (rest, &text[rest.len()..]));
        let (origin, rest) = match rest.split_once("://") {
            Some((scheme @ ("https" | "http"), after)) => {
                let length = after.find(['/', '?']).unwrap_or(after.len());
                let (authority, rest) = after.split_at(length);
                if host::parse(authority.as_bytes()).is_none() {
                    return Err(format!("invalid host {authority:?}; it must be constant"));
                }
                (&text[..scheme.len() + 3 + length], rest)
            }
            _ if rest.starts_with('/') => ("", rest),
            _ => return Err("the target must begin with /, https:// or http://".into()),
        };
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        // RFC 9110 §4.2.3: an empty path is equivalent to `/`.
        let path = if path.is_empty() { "/" } else { path };
        let template = Self {
            origin: origin.to_owned(),
            path: parts(path)?,
            query: query.map(parts).transpose()?,
            fragment: fragment.to_owned(),
        };
        template.check(pattern).map(|()| template)
    }

    fn check(&self, pattern: &Pattern) -> Result<(), String> {
        let parts = || self.path.iter().chain(self.query.iter().flatten());
        let names: Vec<&str> = parts().filter_map(Part::name).collect();
        if let Some(name) = names.iter().find(|name| !pattern.names().any(|other| other == **name)) {
            return Err(format!("the pattern does not capture {{{name}}}"));
        }
        if names.len() > MAX_PLACEHOLDERS {
            return Err(format!("the target has more than {MAX_PLACEHOLDERS} placeholders"));
        }
        // With a letter for each capture, the path must be valid.
        let sample: String = self.path.iter().map(|part| part.literal().unwrap_or("x")).collect();
        if !is_valid_target(&sample) {
            return Err(
                "the path of the target contains //, a dot segment or a character that must be percent-encoded".into(),
            );
        }
        let is_query_byte = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
        let literals = parts().filter_map(Part::literal).chain([self.fragment.get(1..).unwrap_or_default()]);
        match literals.into_iter().all(|text| text.bytes().all(is_query_byte) && !text.contains('#')) {
            true => Ok(()),
            false => Err("the target contains a character that must be percent-encoded".into()),
        }
    }

    /// Returns whether the target is a path, without a scheme and host.
    pub(crate) fn is_path(&self) -> bool {
        self.origin.is_empty() && self.fragment.is_empty()
    }

    /// Returns the target for captures of a plain path and the query of a request.
    ///
    /// Returns `None` if the result is not a valid target of at most 16 KiB.
    pub(crate) fn expand(&self, captures: &Captures<'_, '_>, query: Option<&str>) -> Option<String> {
        let mut target = String::with_capacity(128);
        for part in &self.path {
            target.push_str(part.literal().unwrap_or_else(|| captures.get(part.name().unwrap_or_default())));
        }
        // Captures of plain paths are plain, but two of them can be adjacent.
        if !is_valid_target(&target) {
            return None;
        }
        target.insert_str(0, &self.origin);
        match &self.query {
            None => {
                if let Some(query) = query {
                    target.push('?');
                    push_query(&mut target, query);
                }
            }
            Some(parts) if parts.is_empty() => {}
            Some(parts) => {
                target.push('?');
                for part in parts {
                    match part.literal() {
                        Some(text) => target.push_str(text),
                        None => push_query_value(&mut target, captures.get(part.name().unwrap_or_default())),
                    }
                }
            }
        }
        target.push_str(&self.fragment);
        (target.len() <= MAX_LENGTH).then_some(target)
    }
}

/// Appends a query, encoding the characters that a URI parser of a client or the `http` crate does not accept.
fn push_query(target: &mut String, query: &str) {
    for byte in query.bytes() {
        match byte.is_ascii_graphic() && !b"\"<>#\\^`{|}".contains(&byte) {
            true => target.push(char::from(byte)),
            false => push_encoded(target, byte),
        }
    }
}

/// Appends a part of a path as part of a query, where `&`, `+`, `=` and `;` separate values.
fn push_query_value(target: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~/%:@!$'()*,".contains(&byte) {
            true => target.push(char::from(byte)),
            false => push_encoded(target, byte),
        }
    }
}

fn push_encoded(target: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    target.push('%');
    target.push(char::from(HEX[usize::from(byte >> 4)]));
    target.push(char::from(HEX[usize::from(byte & 15)]));
}

impl Part {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Capture(name) => Some(name),
            Self::Literal(_) => None,
        }
    }

    fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Capture(_) => None,
        }
    }
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((literal, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or("an opening brace has no closing brace")?;
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.to_owned()));
        }
        parts.push(Part::Capture(name.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest.to_owned()));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(pattern: &str, target: &str, path: &str, query: Option<&str>) -> Option<String> {
        let pattern = Pattern::parse(pattern).unwrap();
        Template::parse(target, &pattern).unwrap().expand(&pattern.captures(path)?, query)
    }

    #[test]
    fn expands_captures_and_keeps_the_query() {
        for (pattern, target, path, query, expected) in [
            ("/a", "/b", "/a", None, Some("/b")),
            ("/a", "/b", "/a", Some("x=1&y"), Some("/b?x=1&y")),
            ("/a", "/b?", "/a", Some("x=1"), Some("/b")),
            ("/a", "/b?z", "/a", Some("x=1"), Some("/b?z")),
            ("/a", "https://b.example", "/a", Some("x=1"), Some("https://b.example/?x=1")),
            ("/a", "https://b.example?y=1", "/a", Some("x=1"), Some("https://b.example/?y=1")),
            ("/a", "https://b.example:8443/c#d", "/a", None, Some("https://b.example:8443/c#d")),
            ("/**", "https://b.example/{path}", "/x/y/", None, Some("https://b.example/x/y/")),
            ("/{a}/{b}", "/{b}/{a}", "/x/y", None, Some("/y/x")),
            ("/{id}", "/item?id={id}", "/a&b=c+%26", Some("x"), Some("/item?id=a%26b%3Dc%2B%26")),
            ("/a", "/b", "/a", Some("\"<\\{"), Some("/b?%22%3C%5C%7B")),
            ("/old/**", "/new/{path}", "/old", None, Some("/new/")),
            ("/old/**", "/new/{path}/x", "/old", None, None),
        ] {
            assert_eq!(expand(pattern, target, path, query).as_deref(), expected, "{pattern} {target} {path}");
        }
    }

    #[test]
    fn rejects_invalid_targets_with_reason() {
        let invalid_path =
            "the path of the target contains //, a dot segment or a character that must be percent-encoded";
        for (target, reason) in [
            ("b", "the target must begin with /, https:// or http://"),
            ("javascript:alert(1)", "the target must begin with /, https:// or http://"),
            ("ftp://b.example/", "the target must begin with /, https:// or http://"),
            ("https://{slug}/", "invalid host \"{slug}\"; it must be constant"),
            ("https://{slug}.example/", "invalid host \"{slug}.example\"; it must be constant"),
            ("https://user@b.example/", "invalid host \"user@b.example\"; it must be constant"),
            ("https:///a", "invalid host \"\"; it must be constant"),
            ("//evil.example", invalid_path),
            ("/{slug}//a", invalid_path),
            ("/\\evil.example", invalid_path),
            ("/a b", invalid_path),
            ("/é", invalid_path),
            ("/../{slug}", invalid_path),
            ("/{other}", "the pattern does not capture {other}"),
            ("/{slug", "an opening brace has no closing brace"),
            ("/a?b c", "the target contains a character that must be percent-encoded"),
            ("/a#b c", "the target contains a character that must be percent-encoded"),
        ] {
            let pattern = Pattern::parse("/a/{slug}").unwrap();
            assert_eq!(Template::parse(target, &pattern).unwrap_err(), reason, "{target}");
        }
        let pattern = Pattern::parse("/{a}").unwrap();
        assert!(Template::parse(&"/{a}".repeat(17), &pattern).unwrap_err().contains("more than 16"));
        let template = Template::parse(&"/{a}".repeat(16), &pattern).unwrap();
        let long = format!("/{}", "x".repeat(2000));
        assert_eq!(template.expand(&pattern.captures(&long).unwrap(), None), None, "longer than 16 KiB");
    }
}
