//! Lifetimes of responses without caching fields, by path.

use std::time::Duration;

use rproxy_cache::{CachePaths, DefaultLifetimeLayer};

use super::parsed::Parsed;
use super::value::{ParseError, duration_up_to};

/// The maximum lifetime: a leap year, which is more than the `1y` of 365.25 days.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Parses a list of `GLOB=TIME`; `none` is an empty list.
pub(crate) fn lifetimes(text: &str) -> Result<Parsed<DefaultLifetimeLayer>, ParseError> {
    if matches!(text, "" | "none") {
        return Ok(Parsed::default());
    }
    let mut layer = DefaultLifetimeLayer::new();
    for entry in entries(text) {
        let error = |reason: String| ParseError::new("lifetime", entry, reason);
        let (glob, time) = entry.rsplit_once('=').ok_or_else(|| error("expected GLOB=TIME".into()))?;
        let (glob, time) = (glob.trim(), duration_up_to(time.trim(), LONGEST)?);
        if !glob.starts_with(['/', '*']) {
            return Err(error("the glob must begin with / or *".into()));
        }
        if time.as_secs() == 0 {
            return Err(error("must be 1s or longer".into()));
        }
        let paths = CachePaths::new([glob]).map_err(|cause| error(cause.to_string()))?;
        layer = layer.paths(paths, time);
    }
    match layer.is_empty() {
        true => Err(ParseError::new("list of lifetimes", text, "empty")),
        false => Ok(Parsed::new(text, layer)),
    }
}

/// Splits a list at the commas outside of braces.
fn entries(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let separates = move |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(separates).map(str::trim).filter(|entry| !entry.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_lifetimes_by_path() {
        for text in ["/static/**=1y", "/a/**=10m, **/*.{png,jpg}=30d,/**=60", "/a=b/**=1h"] {
            let lifetimes = lifetimes(text).unwrap();
            assert!(!lifetimes.is_empty() && lifetimes.text() == text, "{text}");
        }
        assert!(lifetimes("none").unwrap().is_empty() && lifetimes("").unwrap().is_empty());
    }

    #[test]
    fn rejects_invalid_lifetimes_with_reason() {
        for (text, reason) in [
            (",", "empty"),
            ("/static/**", "expected GLOB=TIME"),
            ("static/**=1y", "the glob must begin with / or *"),
            ("/static/**=0", "must be 1s or longer"),
            ("/static/**=2y", "longer than a year"),
            ("/static/**=soon", "not a number with a time unit"),
            ("/a,/b=1y", "expected GLOB=TIME"),
        ] {
            let error = lifetimes(text).unwrap_err().to_string();
            assert!(error.ends_with(reason), "{error}");
        }
        assert!(lifetimes("/[a=1y").is_err());
    }
}
