//! Rules for redirects, rewrites and fixed responses.

use std::str::FromStr;

use rproxy_target_rules::{TargetRuleError, TargetRulesLayer, TrailingSlash};

use super::rule_list;
use super::value::ParseError;

/// Parses a list of rules with patterns of paths.
pub(crate) fn target_rules<T>(text: &str) -> Result<Box<[T]>, ParseError>
where
    T: FromStr<Err = TargetRuleError>,
{
    if text.trim() == "none" {
        return Ok(Box::default());
    }
    let begins_rule = |text: &str| text.starts_with('/') && text.contains(" -> ");
    let rules = rule_list::rules(text, begins_rule)
        .iter()
        .map(|rule| rule.parse())
        .collect::<Result<Box<[T]>, TargetRuleError>>();
    rules.map_err(|error| ParseError::new("rule", error.rule(), error.reason()))
}

/// Formats rules, one per line.
pub(crate) fn target_rules_text<T: ToString>(rules: &[T]) -> Option<String> {
    let texts: Vec<String> = rules.iter().map(T::to_string).collect();
    (!rules.is_empty()).then(|| rule_list::lines(&texts))
}

/// Parses the canonical host of a site.
pub(crate) fn canonical_host(text: &str) -> Result<String, ParseError> {
    match TargetRulesLayer::builder().canonical_host(text).build() {
        Ok(_) => Ok(text.to_ascii_lowercase()),
        Err(error) => Err(ParseError::new("host", text, error.reason())),
    }
}

/// Parses the form of paths at their end.
pub(crate) fn trailing_slash(text: &str) -> Result<TrailingSlash, ParseError> {
    match text.to_ascii_lowercase().as_str() {
        "as-is" => Ok(TrailingSlash::AsIs),
        "add" => Ok(TrailingSlash::Add),
        "remove" => Ok(TrailingSlash::Remove),
        _ => Err(ParseError::new("form", text, "neither add, remove nor as-is")),
    }
}

/// Returns the text of the form of paths at their end.
pub(crate) fn trailing_slash_text(form: TrailingSlash) -> &'static str {
    match form {
        TrailingSlash::Add => "add",
        TrailingSlash::Remove => "remove",
        _ => "as-is",
    }
}

#[cfg(test)]
mod tests {
    use rproxy_target_rules::{FixedResponse, Redirect};

    use super::*;

    #[test]
    fn splits_target_rules_at_commas_between_rules() {
        for (text, shown) in [
            ("", ""),
            ("none", ""),
            ("/a -> /b, /c/** -> /d/{path} 301", "/a -> /b\n/c/** -> /d/{path} 301"),
            ("/a,b -> /c,d", "/a,b -> /c,d\n"),
        ] {
            let rules = target_rules::<Redirect>(text).unwrap();
            assert_eq!(target_rules_text(&rules).unwrap_or_default(), shown, "{text}");
            let again = target_rules::<Redirect>(shown).unwrap();
            assert_eq!(target_rules_text(&again).unwrap_or_default(), shown, "{text}");
        }
        let rules = target_rules::<FixedResponse>("/a -> 200 text/plain a, /b, c,/d -> 410").unwrap();
        assert_eq!(target_rules_text(&rules).unwrap(), "/a -> 200 text/plain a, /b, c\n/d -> 410");
    }

    #[test]
    fn rejects_invalid_target_rules_with_reason() {
        let error = target_rules::<Redirect>("/a -> /b,/c -> d").unwrap_err().to_string();
        assert_eq!(error, "bad rule \"/c -> d\": the target must begin with /, https:// or http://");
        assert!(canonical_host("example.org:443").is_err() && trailing_slash("both").is_err());
        for text in ["add", "remove", "as-is"] {
            assert_eq!(trailing_slash(text).map(trailing_slash_text), Ok(text));
        }
    }
}
