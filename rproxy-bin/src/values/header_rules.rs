//! Rules for header fields of requests or responses.

use rproxy_header_rules::{HeaderRule, HeaderRuleError, HeaderRulesBuilder, HeaderRulesLayer};

use super::parsed::Parsed;
use super::rule_list;
use super::value::ParseError;

/// Parses the rules for requests.
pub(crate) fn request_rules(text: &str) -> Result<Parsed<HeaderRulesLayer>, ParseError> {
    parse(text, HeaderRulesBuilder::request)
}

/// Parses the rules for responses.
pub(crate) fn response_rules(text: &str) -> Result<Parsed<HeaderRulesLayer>, ParseError> {
    parse(text, HeaderRulesBuilder::response)
}

fn parse(
    text: &str,
    add: impl Fn(HeaderRulesBuilder, HeaderRule) -> HeaderRulesBuilder,
) -> Result<Parsed<HeaderRulesLayer>, ParseError> {
    if text.trim() == "none" {
        return Ok(Parsed::default());
    }
    let mut builder = HeaderRulesLayer::builder();
    let mut texts = Vec::new();
    for rule in rule_list::rules(text, begins_rule) {
        let rule: HeaderRule = rule.parse().map_err(|error| bad_rule(&error))?;
        texts.push(rule.to_string());
        builder = add(builder, rule);
    }
    let layer = builder.build().map_err(|error| bad_rule(&error))?;
    Ok(Parsed::new(rule_list::lines(&texts), layer))
}

/// Returns whether the text after a comma is a rule, not the rest of a value: `-NAME`, or `NAME:` after an operator or none.
fn begins_rule(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    match text.strip_prefix('-') {
        Some(name) => is_name(name.trim_end().trim_end_matches('*')),
        None => text.split_once(':').is_some_and(|(name, _)| is_name(name.trim_start_matches(['+', '?']))),
    }
}

/// Returns the error with the name of the field only: the value can be a secret.
fn bad_rule(error: &HeaderRuleError) -> ParseError {
    match error {
        HeaderRuleError::Syntax { name, reason } => ParseError::new("header rule", name, *reason),
        HeaderRuleError::RequestField { name, reason } | HeaderRuleError::ResponseField { name, reason } => {
            ParseError::new("header rule", name.as_str(), format!("no rule can change this field: {reason}"))
        }
        other => ParseError::new("header rule", "", other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_header_rules_at_commas_between_rules() {
        for (text, shown) in [
            ("", ""),
            ("none", ""),
            ("X-A: b", "x-a: b"),
            (
                "Cache-Control: public, max-age=60,-X-Debug-*, ?X-A:b",
                "cache-control: public, max-age=60\n-x-debug-*\n?x-a: b",
            ),
            (
                "Link: </a>; rel=preload, <https://a.example>; rel=x",
                "link: </a>; rel=preload, <https://a.example>; rel=x\n",
            ),
            ("X-A: b, c: d\n-X-E", "x-a: b, c: d\n-x-e"),
        ] {
            let rules = response_rules(text).unwrap();
            assert_eq!(rules.text(), shown, "{text}");
            assert_eq!(response_rules(shown).unwrap().text(), shown, "{text}");
        }
    }

    #[test]
    fn rejects_invalid_header_rules_with_field_name_and_reason() {
        for (text, expected) in [
            ("X-A", "bad header rule \"X-A\": expected NAME: VALUE or -NAME"),
            ("X-A: b\nbearer secret", "bad header rule \"bearer\": expected NAME: VALUE or -NAME"),
            (
                "-Host",
                "bad header rule \"host\": no rule can change this field: it selects the site, the certificate and the cache key",
            ),
        ] {
            assert_eq!(request_rules(text).unwrap_err().to_string(), expected);
        }
        assert!(response_rules("-Host").is_ok() && response_rules("Content-Length: 1").is_err());
    }
}
