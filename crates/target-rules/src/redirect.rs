//! Redirect and rewrite rules.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::{Method, StatusCode};

use crate::error::TargetRuleError;
use crate::pattern::Pattern;
use crate::template::Template;

/// A rule that redirects requests, such as `/blog/{slug} -> https://blog.example/{slug} permanent`.
///
/// # Examples
///
/// ```
/// use rproxy_target_rules::Redirect;
///
/// let rule: Redirect = "/old/** -> /new/{path} permanent".parse()?;
/// assert_eq!(rule.to_string(), "/old/** -> /new/{path} permanent");
/// # Ok::<(), rproxy_target_rules::TargetRuleError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Redirect {
    rule: Rule,
    status: RedirectStatus,
}

/// A rule that changes the path before a request is forwarded, such as `/app/** -> /{path}`.
///
/// # Examples
///
/// ```
/// use rproxy_target_rules::Rewrite;
///
/// let rule: Rewrite = "/user/{id} -> /profile.php?id={id}".parse()?;
/// assert_eq!(rule.to_string(), "/user/{id} -> /profile.php?id={id}");
/// # Ok::<(), rproxy_target_rules::TargetRuleError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rewrite(Rule);

/// The status of redirects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RedirectStatus {
    /// 302 for GET and HEAD, 307 for other methods.
    Temporary,
    /// 301 for GET and HEAD, 308 for other methods.
    Permanent,
    Code(StatusCode),
}

/// A pattern and the target for paths that it matches.
#[derive(Clone, Debug)]
struct Rule {
    text: Arc<str>,
    pattern: Pattern,
    target: Template,
}

impl Redirect {
    /// Returns the status and the target for a plain path and the query of a request.
    pub(crate) fn apply(&self, method: &Method, path: &str, query: Option<&str>) -> Option<(StatusCode, String)> {
        let target = self.rule.apply(path, query)?;
        Some((self.status.code(method), target))
    }

    pub(crate) fn text(&self) -> &Arc<str> {
        &self.rule.text
    }
}

impl Rewrite {
    /// Returns the new path and query for a plain path and the query of a request.
    pub(crate) fn apply(&self, path: &str, query: Option<&str>) -> Option<String> {
        self.0.apply(path, query)
    }
}

impl Rule {
    fn new(text: &str, from: &str, to: &str) -> Result<Self, TargetRuleError> {
        let error = |reason: String| TargetRuleError::new(text, reason);
        let pattern = Pattern::parse(from).map_err(error)?;
        let target = Template::parse(to, &pattern).map_err(error)?;
        Ok(Self { text: text.into(), pattern, target })
    }

    /// Returns the target, unless it is the target of the request.
    fn apply(&self, path: &str, query: Option<&str>) -> Option<String> {
        let target = self.target.expand(&self.pattern.captures(path)?, query)?;
        let same = match query {
            None => target == path,
            Some(query) => target.split_once('?') == Some((path, query)),
        };
        (!same).then_some(target)
    }
}

impl RedirectStatus {
    fn code(self, method: &Method) -> StatusCode {
        let is_safe = matches!(*method, Method::GET | Method::HEAD);
        match (self, is_safe) {
            (Self::Temporary, true) => StatusCode::FOUND,
            (Self::Temporary, false) => StatusCode::TEMPORARY_REDIRECT,
            (Self::Permanent, true) => StatusCode::MOVED_PERMANENTLY,
            (Self::Permanent, false) => StatusCode::PERMANENT_REDIRECT,
            (Self::Code(code), _) => code,
        }
    }
}

/// Returns the status of a permanent redirect.
pub(crate) fn permanent(method: &Method) -> StatusCode {
    RedirectStatus::Permanent.code(method)
}

impl FromStr for Redirect {
    type Err = TargetRuleError;

    fn from_str(text: &str) -> Result<Self, TargetRuleError> {
        let text = text.trim();
        let (from, to) = split(text)?;
        let mut words = to.split_whitespace();
        let (to, status) = (words.next().unwrap_or_default(), words.next().unwrap_or("temporary"));
        let status = match status {
            "temporary" => RedirectStatus::Temporary,
            "permanent" => RedirectStatus::Permanent,
            "301" | "302" | "303" | "307" | "308" => {
                RedirectStatus::Code(status.parse().map_err(|_| TargetRuleError::new(text, "invalid status"))?)
            }
            _ => {
                return Err(TargetRuleError::new(
                    text,
                    "the status must be temporary, permanent, 301, 302, 303, 307 or 308",
                ));
            }
        };
        if words.next().is_some() {
            return Err(TargetRuleError::new(text, "expected PATTERN -> TARGET or PATTERN -> TARGET STATUS"));
        }
        Ok(Self { rule: Rule::new(text, from, to)?, status })
    }
}

impl FromStr for Rewrite {
    type Err = TargetRuleError;

    fn from_str(text: &str) -> Result<Self, TargetRuleError> {
        let text = text.trim();
        let (from, to) = split(text)?;
        let rule = Rule::new(text, from, to)?;
        match rule.target.is_path() {
            true => Ok(Self(rule)),
            false => Err(TargetRuleError::new(text, "the target of a rewrite must be a path without a fragment")),
        }
    }
}

/// Splits a rule at its arrow.
pub(crate) fn split(text: &str) -> Result<(&str, &str), TargetRuleError> {
    let parts = text.split_once(" -> ").map(|(from, to)| (from.trim(), to.trim()));
    parts.ok_or_else(|| TargetRuleError::new(text, "expected PATTERN -> TARGET"))
}

impl fmt::Display for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rule.text)
    }
}

impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_status_depends_on_the_rule_and_the_method() {
        for (status, get, post) in [
            ("", 302, 307),
            (" temporary", 302, 307),
            (" permanent", 301, 308),
            (" 301", 301, 301),
            (" 302", 302, 302),
            (" 303", 303, 303),
            (" 307", 307, 307),
            (" 308", 308, 308),
        ] {
            let rule: Redirect = format!("/a -> /b{status}").parse().unwrap();
            for (method, expected) in
                [(Method::GET, get), (Method::HEAD, get), (Method::POST, post), (Method::PUT, post)]
            {
                let (code, target) = rule.apply(&method, "/a", None).unwrap();
                assert_eq!((code.as_u16(), target.as_str()), (expected, "/b"), "{rule} {method}");
            }
        }
    }

    #[test]
    fn does_not_redirect_to_the_target_of_the_request() {
        let rule: Redirect = "/** -> /{path}".parse().unwrap();
        for (path, query) in [("/a", None), ("/a", Some("b")), ("/", None)] {
            assert_eq!(rule.apply(&Method::GET, path, query), None, "{path}");
        }
        let rule: Redirect = "/a -> /a?b".parse().unwrap();
        assert_eq!(rule.apply(&Method::GET, "/a", Some("b")), None);
        assert!(rule.apply(&Method::GET, "/a", None).is_some());
    }

    #[test]
    fn rejects_invalid_redirects_and_rewrites_with_reason() {
        for (rule, reason) in [
            ("", "expected PATTERN -> TARGET"),
            ("/a /b", "expected PATTERN -> TARGET"),
            ("/a -> /b 200", "the status must be temporary, permanent, 301, 302, 303, 307 or 308"),
            ("/a -> /b 301 x", "expected PATTERN -> TARGET or PATTERN -> TARGET STATUS"),
            ("a -> /b", "the pattern must begin with /"),
            ("/a -> b", "the target must begin with /, https:// or http://"),
        ] {
            assert_eq!(rule.parse::<Redirect>().unwrap_err().to_string(), format!("bad rule {rule:?}: {reason}"));
        }
        for rule in ["/a -> https://b.example/", "/a -> /b#c"] {
            assert!(rule.parse::<Rewrite>().unwrap_err().reason().contains("must be a path"), "{rule}");
        }
    }
}
