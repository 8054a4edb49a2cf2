//! Patterns of request paths, with captures.

use std::borrow::Cow;

/// A pattern of paths, such as `/blog/{year}/{slug}` or `/old/**`.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    segments: Vec<Segment>,
    /// Whether the pattern ends in `/**`, which captures the rest of the path as `path`.
    has_rest: bool,
}

/// A pattern of one segment: literal text, with at most one variable part.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    prefix: String,
    variable: Option<Variable>,
    suffix: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Variable {
    /// `*`
    Any,
    /// `{name}`
    Capture(String),
}

/// The name of the capture of `/**`.
pub(crate) const REST: &str = "path";

/// The maximum number of segments of a pattern.
const MAX_SEGMENTS: usize = 32;

/// The parts of a path that a pattern captured, in the spelling of the path.
#[derive(Debug, Default)]
pub(crate) struct Captures<'r, 'p>(Vec<(&'r str, &'p str)>);

impl<'p> Captures<'_, 'p> {
    pub(crate) fn get(&self, name: &str) -> &'p str {
        self.0.iter().find(|(other, _)| *other == name).map_or("", |(_, value)| value)
    }
}

impl Pattern {
    /// Parses a pattern, or returns the reason why it is invalid.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err("the pattern must begin with /".into());
        };
        let (path, has_rest) = match path.strip_suffix("**") {
            Some("") => return Ok(Self { segments: Vec::new(), has_rest: true }),
            Some(path) if path.ends_with('/') => (&path[..path.len() - 1], true),
            _ => (path, false),
        };
        let segments = path.split('/').map(Segment::parse).collect::<Result<Vec<_>, _>>()?;
        if segments.len() > MAX_SEGMENTS {
            return Err(format!("the pattern has more than {MAX_SEGMENTS} segments"));
        }
        let inner = segments.len() - 1;
        if segments[..inner].iter().any(Segment::is_empty) || (has_rest && segments[inner].is_empty()) {
            return Err("the pattern contains an empty segment".into());
        }
        let pattern = Self { segments, has_rest };
        let names: Vec<&str> = pattern.names().collect();
        match names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
            Some((_, name)) => Err(format!("{{{name}}} is captured twice")),
            None => Ok(pattern),
        }
    }

    /// Returns the names of the captures.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let captured = self.segments.iter().filter_map(|segment| match &segment.variable {
            Some(Variable::Capture(name)) => Some(name.as_str()),
            _ => None,
        });
        captured.chain(self.has_rest.then_some(REST))
    }

    /// Returns the captures if the pattern matches the path, which must be plain.
    pub(crate) fn captures<'r, 'p>(&'r self, path: &'p str) -> Option<Captures<'r, 'p>> {
        let mut captures = Captures::default();
        let mut rest = Some(path.strip_prefix('/')?);
        for segment in &self.segments {
            let text = rest?;
            let (first, after) = text.split_once('/').map_or((text, None), |(first, after)| (first, Some(after)));
            let captured = segment.captured(first)?;
            if let Some(Variable::Capture(name)) = &segment.variable {
                captures.0.push((name, captured));
            }
            rest = after;
        }
        match (self.has_rest, rest) {
            (true, rest) => captures.0.push((REST, rest.unwrap_or_default())),
            (false, None) => {}
            (false, Some(_)) => return None,
        }
        Some(captures)
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, String> {
        let literal = |text: &str| {
            let is_literal =
                |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&byte) || byte >= 0x80;
            match text.bytes().all(is_literal) && !matches!(text, "." | "..") {
                true => Ok(text.to_owned()),
                false => Err(format!(
                    "invalid segment {text:?}; write characters unencoded, and a variable part as * or {{name}}"
                )),
            }
        };
        let Some(at) = text.find(['*', '{']) else {
            return Ok(Self { prefix: literal(text)?, variable: None, suffix: String::new() });
        };
        let (prefix, variable) = text.split_at(at);
        let (variable, suffix) = match variable.strip_prefix('*') {
            Some(suffix) => (Variable::Any, suffix),
            None => {
                let (name, suffix) = variable[1..].split_once('}').ok_or("an opening brace has no closing brace")?;
                let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                if !is_name || ["query", "host"].contains(&name) {
                    return Err(format!("invalid capture {{{name}}}; a name consists of letters, digits and _"));
                }
                (Variable::Capture(name.to_owned()), suffix)
            }
        };
        if suffix.contains(['*', '{']) {
            return Err("a segment has more than one variable part; ** is valid as the last segment only".into());
        }
        Ok(Self { prefix: literal(prefix)?, variable: Some(variable), suffix: literal(suffix)? })
    }

    fn is_empty(&self) -> bool {
        self.variable.is_none() && self.prefix.is_empty()
    }

    /// Returns the variable part of a segment that matches, or an empty text if the pattern has none.
    fn captured<'p>(&self, text: &'p str) -> Option<&'p str> {
        if self.variable.is_none() {
            return (decoded(text) == self.prefix.as_str()).then_some("");
        }
        // A variable part is compared in the spelling of the path, so that its ends are certain.
        let captured = text.strip_prefix(self.prefix.as_str())?.strip_suffix(self.suffix.as_str())?;
        (!captured.is_empty()).then_some(captured)
    }
}

/// Percent-decodes a segment of a plain path. Invalid UTF-8 stays encoded.
fn decoded(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |index: usize| bytes.get(index).and_then(|byte| char::from(*byte).to_digit(16));
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).map_or(Cow::Borrowed(segment), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captures(pattern: &str, path: &str) -> Option<String> {
        let pattern = Pattern::parse(pattern).unwrap();
        let captures = pattern.captures(path)?;
        Some(captures.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn matches_whole_paths_and_captures_segments() {
        for (pattern, path, expected) in [
            ("/", "/", Some("")),
            ("/", "/a", None),
            ("/old", "/old", Some("")),
            ("/old", "/old/", None),
            ("/old/", "/old/", Some("")),
            ("/old", "/Old", None),
            ("/old", "/%6Fld", Some("")),
            ("/café", "/caf%C3%A9", Some("")),
            ("/*", "/a", Some("")),
            ("/*", "/a/b", None),
            ("/*", "/", None),
            ("/blog/{year}/{slug}", "/blog/2024/hello%20world", Some("year=2024 slug=hello%20world")),
            ("/blog/{year}/{slug}", "/blog/2024", None),
            ("/blog/{year}/{slug}", "/blog/2024/a/b", None),
            ("/post-{id}.html", "/post-7.html", Some("id=7")),
            ("/post-{id}.html", "/post-.html", None),
            ("/*.php", "/index.php", Some("")),
            ("/aa{x}aa", "/aaa", None),
            ("/old/**", "/old", Some("path=")),
            ("/old/**", "/old/", Some("path=")),
            ("/old/**", "/old/a/b/", Some("path=a/b/")),
            ("/old/**", "/older", None),
            ("/**", "/", Some("path=")),
            ("/**", "/a/b", Some("path=a/b")),
            ("/u/{id}/**", "/u/7/x/y", Some("id=7 path=x/y")),
        ] {
            assert_eq!(captures(pattern, path).as_deref(), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn rejects_invalid_patterns_with_reason() {
        for (pattern, reason) in [
            ("", "the pattern must begin with /"),
            ("a", "the pattern must begin with /"),
            ("//", "the pattern contains an empty segment"),
            ("/a//b", "the pattern contains an empty segment"),
            ("/a/**/b", "a segment has more than one variable part; ** is valid as the last segment only"),
            ("/a**", "a segment has more than one variable part; ** is valid as the last segment only"),
            ("/{a}-{b}", "a segment has more than one variable part; ** is valid as the last segment only"),
            ("/{a", "an opening brace has no closing brace"),
            ("/{}", "invalid capture {}; a name consists of letters, digits and _"),
            ("/{query}", "invalid capture {query}; a name consists of letters, digits and _"),
            ("/{a}/{a}", "{a} is captured twice"),
            ("/{path}/**", "{path} is captured twice"),
            ("/../a", "invalid segment \"..\"; write characters unencoded, and a variable part as * or {name}"),
            ("/a%20b", "invalid segment \"a%20b\"; write characters unencoded, and a variable part as * or {name}"),
            ("/a?b", "invalid segment \"a?b\"; write characters unencoded, and a variable part as * or {name}"),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap_err(), reason, "{pattern}");
        }
        assert!(Pattern::parse(&"/a".repeat(33)).unwrap_err().contains("more than 32"));
    }
}
