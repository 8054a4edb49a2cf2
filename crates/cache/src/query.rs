//! Rules for the query in cache keys.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::key::CacheKey;

/// Rules that determine which part of a query belongs to the cache key. By default, that is all of it.
///
/// ```
/// use rproxy_cache::QueryRules;
///
/// let rules = QueryRules::new().sorted().ignore("utm_*").ignore("fbclid");
/// assert_eq!(rules.apply("b=2&utm_source=x&a=1&b=1"), "a=1&b=2&b=1");
/// assert_eq!(rules.apply("fbclid=x"), "");
/// assert_eq!(rules, "sort, drop utm_* fbclid".parse()?);
/// # Ok::<(), rproxy_cache::QueryRulesError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct QueryRules {
    sorted: bool,
    ignored: Vec<ParameterPattern>,
}

/// A name of a query parameter, or a prefix of such names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ParameterPattern {
    Name(Box<str>),
    Prefix(Box<str>),
}

impl QueryRules {
    /// Creates rules that include the entire query in the cache key.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sorts the query parameters by name. Parameters with the same name keep their order.
    pub fn sorted(mut self) -> Self {
        self.sorted = true;
        self
    }

    /// Removes the query parameters with this name from the cache key. A trailing `*` matches all names with this
    /// prefix.
    pub fn ignore(mut self, name: &str) -> Self {
        self.ignored.push(match name.strip_suffix('*') {
            Some(prefix) => ParameterPattern::Prefix(prefix.into()),
            None => ParameterPattern::Name(name.into()),
        });
        self
    }

    /// Returns the part of `query` that belongs to the cache key. A query with a semicolon, or with more than 256
    /// parameters, is unchanged.
    #[must_use]
    pub fn apply<'a>(&self, query: &'a str) -> Cow<'a, str> {
        if !is_unambiguous(query) {
            return Cow::Borrowed(query);
        }
        let is_kept = |parameter: &&str| !self.ignored.iter().any(|ignored| ignored.matches(parameter_name(parameter)));
        let mut kept: Vec<&str> = query.split('&').filter(is_kept).collect();
        if self.sorted {
            kept.sort_by_key(|parameter| parameter_name(parameter));
        }
        if kept.iter().copied().eq(query.split('&')) { Cow::Borrowed(query) } else { Cow::Owned(kept.join("&")) }
    }

    /// Applies the rules to the query in a cache key.
    pub(crate) fn apply_to_key(&self, key: CacheKey) -> CacheKey {
        if *self == Self::default() {
            return key;
        }
        match key.query().map(|query| self.apply(query)) {
            None | Some(Cow::Borrowed(_)) => key,
            Some(Cow::Owned(query)) => key.with_query(&query),
        }
    }
}

/// Parses a comma-separated list of `sort` and `drop NAME ...` rules. A name without a keyword continues the list of
/// the last `drop`: `sort, drop utm_*, fbclid`.
impl FromStr for QueryRules {
    type Err = QueryRulesError;

    fn from_str(list: &str) -> Result<Self, QueryRulesError> {
        let mut rules = Self::new();
        let mut drops = false;
        for rule in list.split(',').map(str::trim).filter(|rule| !rule.is_empty()) {
            let mut words = rule.split_whitespace();
            let names = match rule.split_whitespace().next() {
                Some("sort") if rule == "sort" => {
                    rules = rules.sorted();
                    continue;
                }
                Some("drop") => {
                    drops = true;
                    words.by_ref().next();
                    words
                }
                _ if drops => words,
                _ => return Err(QueryRulesError(rule.to_owned())),
            };
            let mut names = names.peekable();
            // `drop` without a name, and a name that no parameter can have, are mistakes.
            if names.peek().is_none() {
                return Err(QueryRulesError(rule.to_owned()));
            }
            for name in names {
                let stem = name.strip_suffix('*').unwrap_or(name);
                if stem.is_empty() || stem.contains(['*', '&', '=', '#', '?']) {
                    return Err(QueryRulesError(name.to_owned()));
                }
                rules = rules.ignore(name);
            }
        }
        Ok(rules)
    }
}

/// Formats the query rules as text that can be parsed again. The default rules are an empty text.
impl fmt::Display for QueryRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sorted {
            f.write_str(if self.ignored.is_empty() { "sort" } else { "sort, " })?;
        }
        for (number, ignored) in self.ignored.iter().enumerate() {
            f.write_str(if number == 0 { "drop " } else { ", " })?;
            match ignored {
                ParameterPattern::Name(name) => f.write_str(name)?,
                ParameterPattern::Prefix(prefix) => write!(f, "{prefix}*")?,
            }
        }
        Ok(())
    }
}

/// The error for an invalid query rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad query rule {0:?}: expected \"sort\", or \"drop\" and names of parameters, which can end in \"*\"")]
pub struct QueryRulesError(String);

impl ParameterPattern {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(ignored) => **ignored == *name,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
        }
    }
}

/// Whether `query` is unambiguous for all applications, with few enough parameters to sort.
///
/// For some applications a semicolon separates parameters, as `&` does. To them, `utm_source=x;page=2` has two
/// parameters, one of which is not dropped. Such a query is never changed, so that a client cannot hide a parameter and
/// have its response served to others.
pub(crate) fn is_unambiguous(query: &str) -> bool {
    const MAX: usize = 256;
    !query.contains(';') && query.bytes().filter(|&byte| byte == b'&').count() < MAX
}

// Names are compared as written, because an application may distinguish `%61` from `a`.
fn parameter_name(parameter: &str) -> &str {
    parameter.split('=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn leaves_queries_with_a_semicolon_unchanged() {
        // Applications that split at semicolons parse other parameters.
        let rules = QueryRules::new().sorted().ignore("utm_*").ignore("x");
        for query in ["cb=ok&utm_content=x;cb=evil", "x;cb=evil", "b=1;a=2&a=1", "utm_a=1&;", "cb=ok;utm_a=1"] {
            assert_eq!(rules.apply(query), query);
        }
        assert_eq!(rules.apply("cb=ok&utm_content=x%3Bcb=evil"), "cb=ok", "decoding comes after splitting");
    }

    #[test]
    fn leaves_queries_with_too_many_parameters_unchanged() {
        let rules = QueryRules::new().sorted();
        let query = |count: usize| (0..count).rev().map(|n| format!("p{n:04}")).collect::<Vec<_>>().join("&");
        assert!(rules.apply(&query(256)).starts_with("p0000&"));
        assert_eq!(rules.apply(&query(257)), query(257));
    }

    #[test]
    fn removes_only_matching_query_parameters() {
        let rules = QueryRules::new().ignore("a").ignore("x*");
        for (query, expected) in [
            ("", ""),
            ("a=1", ""),
            ("a", ""),
            ("aa=1&b=2", "aa=1&b=2"),
            ("c=1&a=2&b=%61", "c=1&b=%61"),
            ("x=1&xyz&b", "b"),
            ("b&&", "b&&"),
        ] {
            assert_eq!(rules.apply(query), expected, "{query}");
        }
        assert_eq!(QueryRules::new().apply("b&a&"), "b&a&");
    }

    #[test]
    fn query_rules_round_trip_through_text() {
        for (text, rules, written) in [
            ("", QueryRules::new(), ""),
            (" , ", QueryRules::new(), ""),
            ("sort", QueryRules::new().sorted(), "sort"),
            ("drop a", QueryRules::new().ignore("a"), "drop a"),
            (
                "sort, drop utm_*, fbclid",
                QueryRules::new().sorted().ignore("utm_*").ignore("fbclid"),
                "sort, drop utm_*, fbclid",
            ),
            (
                "drop utm_* fbclid,sort",
                QueryRules::new().sorted().ignore("utm_*").ignore("fbclid"),
                "sort, drop utm_*, fbclid",
            ),
            ("drop sort, drop", QueryRules::new(), "!drop"),
            ("drop sort", QueryRules::new().ignore("sort"), "drop sort"),
        ] {
            match written.strip_prefix('!') {
                Some(bad) => assert_eq!(text.parse::<QueryRules>(), Err(QueryRulesError(bad.to_owned()))),
                None => {
                    let parsed: QueryRules = text.parse().unwrap();
                    assert_eq!((&parsed, parsed.to_string().as_str()), (&rules, written), "{text}");
                    assert_eq!(parsed.to_string().parse::<QueryRules>().unwrap(), rules);
                }
            }
        }
        for bad in ["a", "Sort", "sort b", "drop", "drop *", "drop a*b", "drop a=1", "sort drop a"] {
            let error = bad.parse::<QueryRules>().unwrap_err();
            assert!(error.to_string().contains("bad query rule"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn applying_query_rules_is_idempotent(query in "([a-c]{1,2}(=[a-c]{0,2})?&?){0,6}") {
            let rules = QueryRules::new().sorted().ignore("a").ignore("b*");
            let once = rules.apply(&query).into_owned();
            prop_assert_eq!(rules.apply(&once), once.as_str());
        }
    }
}
