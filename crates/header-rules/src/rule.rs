//! One rule for a header field.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue};
use rproxy_core::spelling::{has_prefix, is_spelling_of};

use crate::error::HeaderRuleError;
use crate::reserved;

/// A rule that sets, appends or removes a header field.
///
/// # Examples
///
/// ```
/// use http::{HeaderValue, header};
/// use rproxy_header_rules::HeaderRule;
///
/// let rule: HeaderRule = "X-Frame-Options: DENY".parse()?;
/// assert_eq!(rule, HeaderRule::set(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")));
/// assert_eq!(rule.to_string(), "x-frame-options: DENY");
/// # Ok::<(), rproxy_header_rules::HeaderRuleError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderRule(Action);

#[derive(Clone, PartialEq, Eq)]
enum Action {
    Set(HeaderName, HeaderValue),
    Append(HeaderName, HeaderValue),
    SetIfAbsent(HeaderName, HeaderValue),
    Remove(HeaderName),
    /// The prefix is in lower case and not empty.
    RemovePrefix(Arc<str>),
}

/// The rules that a layer shares with its services.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) request: Box<[HeaderRule]>,
    pub(crate) response: Box<[HeaderRule]>,
}

/// The direction of a message, which determines the fields that rules cannot change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    Response,
}

impl HeaderRule {
    /// Creates a rule that sets a field and replaces all its lines.
    pub fn set(name: HeaderName, value: HeaderValue) -> Self {
        Self(Action::Set(name, value))
    }

    /// Creates a rule that appends a line to a field.
    pub fn append(name: HeaderName, value: HeaderValue) -> Self {
        Self(Action::Append(name, value))
    }

    /// Creates a rule that sets a field if the message does not have it.
    pub fn set_if_absent(name: HeaderName, value: HeaderValue) -> Self {
        Self(Action::SetIfAbsent(name, value))
    }

    /// Creates a rule that removes all lines of a field.
    pub fn remove(name: HeaderName) -> Self {
        Self(Action::Remove(name))
    }

    /// Creates a rule that removes the fields whose names begin with `prefix`, such as `x-debug-`.
    ///
    /// [Reserved fields](crate#reserved-fields) stay.
    ///
    /// # Errors
    ///
    /// Returns an error if the prefix is empty or cannot begin a field name.
    pub fn remove_prefix(prefix: &str) -> Result<Self, HeaderRuleError> {
        match HeaderName::from_bytes(prefix.as_bytes()) {
            Ok(name) if !prefix.contains('*') => Ok(Self(Action::RemovePrefix(name.as_str().into()))),
            _ => Err(syntax(prefix, "the prefix is not the beginning of a field name")),
        }
    }

    /// Returns an error if no rule can change the field in messages of this direction.
    pub(crate) fn check(&self, direction: Direction) -> Result<(), HeaderRuleError> {
        let (name, is_added) = match &self.0 {
            Action::Set(name, _) | Action::Append(name, _) | Action::SetIfAbsent(name, _) => (name, true),
            Action::Remove(name) => (name, false),
            Action::RemovePrefix(_) => return Ok(()),
        };
        let name = name.clone();
        match direction {
            Direction::Request => {
                let added = || reserved::added_to_requests(&name).filter(|_| is_added);
                match reserved::in_requests(&name).or_else(added) {
                    Some(reason) => Err(HeaderRuleError::RequestField { name, reason }),
                    None => Ok(()),
                }
            }
            Direction::Response => match reserved::in_messages(&name) {
                Some(reason) => Err(HeaderRuleError::ResponseField { name, reason }),
                None => Ok(()),
            },
        }
    }

    /// Changes the header section of a message of this direction. A full map, which no server accepts, does not grow.
    pub(crate) fn apply(&self, headers: &mut HeaderMap, direction: Direction) {
        match &self.0 {
            Action::Set(name, value) => {
                remove_spellings(headers, name, direction);
                let _ = headers.try_insert(name, value.clone());
            }
            Action::Append(name, value) => {
                let _ = headers.try_append(name, value.clone());
            }
            Action::SetIfAbsent(name, value) => {
                if let Ok(Entry::Vacant(entry)) = headers.try_entry(name) {
                    let _ = entry.try_insert(value.clone());
                }
            }
            Action::Remove(name) => {
                headers.remove(name);
                remove_spellings(headers, name, direction);
            }
            Action::RemovePrefix(prefix) => remove_prefix(headers, prefix, direction),
        }
    }
}

/// Removes the other spellings of a field of a request, such as `x_tenant` for `x-tenant`.
///
/// CGI, WSGI, PHP and others map these to the same variable, so a client could send one in place of the field.
fn remove_spellings(headers: &mut HeaderMap, name: &HeaderName, direction: Direction) {
    let is_other = |other: &HeaderName| other != name && is_spelling_of(other.as_str(), name.as_str());
    if direction == Direction::Request {
        remove_all(headers, is_other);
    }
}

fn remove_all(headers: &mut HeaderMap, is_removed: impl Fn(&HeaderName) -> bool) {
    let removed: Vec<HeaderName> = headers.keys().filter(|name| is_removed(name)).cloned().collect();
    for name in removed {
        headers.remove(name);
    }
}

fn remove_prefix(headers: &mut HeaderMap, prefix: &str, direction: Direction) {
    let is_reserved = |name: &HeaderName| {
        let reason = match direction {
            Direction::Request => reserved::in_requests(name),
            Direction::Response => reserved::in_messages(name),
        };
        reason.is_some() || reserved::describes_content(name)
    };
    let begins = |name: &str| match direction {
        Direction::Request => has_prefix(name, prefix),
        Direction::Response => name.starts_with(prefix),
    };
    remove_all(headers, |name| begins(name.as_str()) && !is_reserved(name));
}

impl FromStr for HeaderRule {
    type Err = HeaderRuleError;

    fn from_str(text: &str) -> Result<Self, HeaderRuleError> {
        let text = text.trim();
        if let Some(name) = text.strip_prefix('-') {
            return match name.strip_suffix('*') {
                _ if name.contains(':') => Err(syntax(name, "a removed field has no value")),
                Some(prefix) => Self::remove_prefix(prefix),
                None => field_name(name).map(Self::remove),
            };
        }
        let (name, value) = text.split_once(':').ok_or_else(|| syntax(text, "expected NAME: VALUE or -NAME"))?;
        let (create, name): (fn(HeaderName, HeaderValue) -> Self, _) = match name.split_at_checked(1) {
            Some(("+", name)) => (Self::append, name),
            Some(("?", name)) => (Self::set_if_absent, name),
            _ => (Self::set, name),
        };
        let value = value.trim();
        if value.is_empty() {
            return Err(syntax(name, "the value is empty; write -NAME to remove the field"));
        }
        let value = HeaderValue::from_str(value).map_err(|_| syntax(name, "the value contains a control character"))?;
        Ok(create(field_name(name)?, value))
    }
}

fn field_name(name: &str) -> Result<HeaderName, HeaderRuleError> {
    // A valid character of a name, but more likely a misplaced wildcard.
    if name.contains('*') {
        return Err(syntax(name, "a wildcard is valid at the end of a removed name only"));
    }
    name.parse().map_err(|_| syntax(name, "not a valid header field name"))
}

fn syntax(name: &str, reason: &'static str) -> HeaderRuleError {
    const LONGEST: usize = 60;
    // Text without a colon can be a secret that was pasted into the wrong place.
    let shown: String = name.split_whitespace().next().unwrap_or_default().chars().take(LONGEST).collect();
    HeaderRuleError::Syntax { name: shown, reason }
}

/// Formats the rule in its text form, including the value.
impl fmt::Display for HeaderRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (operator, name, value) = match &self.0 {
            Action::Set(name, value) => ("", name, value),
            Action::Append(name, value) => ("+", name, value),
            Action::SetIfAbsent(name, value) => ("?", name, value),
            Action::Remove(name) => return write!(f, "-{name}"),
            Action::RemovePrefix(prefix) => return write!(f, "-{prefix}*"),
        };
        write!(f, "{operator}{name}: {}", String::from_utf8_lossy(value.as_bytes()))
    }
}

/// Formats the rule without its value, which can be a secret.
impl fmt::Debug for HeaderRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Action::Set(name, _) => write!(f, "Set({name})"),
            Action::Append(name, _) => write!(f, "Append({name})"),
            Action::SetIfAbsent(name, _) => write!(f, "SetIfAbsent({name})"),
            Action::Remove(name) => write!(f, "Remove({name})"),
            Action::RemovePrefix(prefix) => write!(f, "RemovePrefix({prefix}*)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_and_prints_each_kind_of_rule() {
        for (text, shown) in [
            ("X-A: b", "x-a: b"),
            (" x-a :b", ""),
            ("X-A:b, c: d", "x-a: b, c: d"),
            ("+Link: </a>; rel=preload", "+link: </a>; rel=preload"),
            ("?Cache-Control: no-cache", "?cache-control: no-cache"),
            ("-X-Powered-By", "-x-powered-by"),
            ("-X-Debug-*", "-x-debug-*"),
            ("X-Name: é", "x-name: é"),
        ] {
            match text.parse::<HeaderRule>() {
                Ok(rule) => {
                    assert_eq!(rule.to_string(), shown);
                    assert_eq!(shown.parse(), Ok(rule));
                }
                Err(error) => assert!(shown.is_empty(), "{text}: {error}"),
            }
        }
    }

    #[test]
    fn rejects_invalid_header_rules_with_reason() {
        for (text, reason) in [
            ("", "expected NAME: VALUE or -NAME"),
            ("X-A", "expected NAME: VALUE or -NAME"),
            ("-*", "the prefix is not the beginning of a field name"),
            ("-X-*-A", "a wildcard is valid at the end of a removed name only"),
            ("-X-A: b", "a removed field has no value"),
            ("X A: b", "not a valid header field name"),
            (": b", "not a valid header field name"),
            ("+: b", "not a valid header field name"),
            ("X-A:", "the value is empty; write -NAME to remove the field"),
            ("X-A: b\r\nX-C: d", "the value contains a control character"),
        ] {
            let error = text.parse::<HeaderRule>().unwrap_err().to_string();
            assert!(error.ends_with(reason), "{text:?}: {error}");
        }
    }

    #[test]
    fn errors_and_debug_output_contain_no_values() {
        let error = "X-A: se\u{1}cret".parse::<HeaderRule>().unwrap_err().to_string();
        assert!(!error.contains("cret"), "{error}");
        let rule: HeaderRule = "Authorization: secret".parse().unwrap();
        assert_eq!(format!("{rule:?}"), "Set(authorization)");
    }

    proptest! {
        #[test]
        fn printed_header_rule_parses_to_the_same_rule(text in "[-+?]?[a-zA-Z*-]{1,8}(: ?[ -~é]{0,12})?") {
            if let Ok(rule) = text.parse::<HeaderRule>() {
                prop_assert_eq!(rule.to_string().parse(), Ok(rule));
            }
        }

        #[test]
        fn header_rule_parser_never_panics(text in ".{0,40}") {
            let _ = text.parse::<HeaderRule>();
        }
    }
}
