//! Queries that mean the same.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::key::Key;

/// What of a query does not tell one resource from another. By default all of it does.
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
    ignored: Vec<Ignored>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ignored {
    Name(Box<str>),
    Prefix(Box<str>),
}

impl QueryRules {
    /// Everything counts.
    pub fn new() -> Self {
        Self::default()
    }

    /// The order of parameters does not count, save that of those with the same name.
    pub fn sorted(mut self) -> Self {
        self.sorted = true;
        self
    }

    /// Parameters of this name do not count; with a `*` at its end, of all names that begin so.
    pub fn ignore(mut self, name: &str) -> Self {
        self.ignored.push(match name.strip_suffix('*') {
            Some(prefix) => Ignored::Prefix(prefix.into()),
            None => Ignored::Name(name.into()),
        });
        self
    }

    /// The part of `query` that counts. Of a query with a semicolon, or with more than 256 parameters, that is all of it.
    #[must_use]
    pub fn apply<'a>(&self, query: &'a str) -> Cow<'a, str> {
        if !has_one_reading(query) {
            return Cow::Borrowed(query);
        }
        let counts = |parameter: &&str| !self.ignored.iter().any(|ignored| ignored.covers(name(parameter)));
        let mut kept: Vec<&str> = query.split('&').filter(counts).collect();
        if self.sorted {
            kept.sort_by_key(|parameter| name(parameter));
        }
        if kept.iter().copied().eq(query.split('&')) { Cow::Borrowed(query) } else { Cow::Owned(kept.join("&")) }
    }

    pub(crate) fn of_key(&self, key: Key) -> Key {
        if *self == Self::default() {
            return key;
        }
        match key.query().map(|query| self.apply(query)) {
            None | Some(Cow::Borrowed(_)) => key,
            Some(Cow::Owned(query)) => key.with_query(&query),
        }
    }
}

/// A comma-separated list of `sort` and `drop NAME ...`; what follows a `drop` without a word before it is dropped, too:
/// `sort, drop utm_*, fbclid`.
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
            // `drop` alone, and what would be dropped although it can't be a name, is a mistake.
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

/// As it is parsed; nothing for everything that counts.
impl fmt::Display for QueryRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sorted {
            f.write_str(if self.ignored.is_empty() { "sort" } else { "sort, " })?;
        }
        for (number, ignored) in self.ignored.iter().enumerate() {
            f.write_str(if number == 0 { "drop " } else { ", " })?;
            match ignored {
                Ignored::Name(name) => f.write_str(name)?,
                Ignored::Prefix(prefix) => write!(f, "{prefix}*")?,
            }
        }
        Ok(())
    }
}

/// A rule that can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad query rule {0:?}: expected sort, or drop and the names of parameters, which may end in *")]
pub struct QueryRulesError(String);

impl Ignored {
    fn covers(&self, name: &str) -> bool {
        match self {
            Self::Name(ignored) => **ignored == *name,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
        }
    }
}

/// Whether all applications see the same parameters in `query`, and few enough to sort.
///
/// To some a semicolon separates parameters, as `&` does: with it, `utm_source=x;page=2` is one parameter that does not count,
/// or two, of which the second does. Such a query is a resource of its own, so that what one client hides in a
/// parameter that does not count is never the answer for others.
pub(crate) fn has_one_reading(query: &str) -> bool {
    const MOST: usize = 256;
    !query.contains(';') && query.bytes().filter(|&byte| byte == b'&').count() < MOST
}

// Names are compared as they are written: an application may well tell `%61` from `a`.
fn name(parameter: &str) -> &str {
    parameter.split('=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_with_a_semicolon_counts_as_it_is() {
        // Its parameters are others to applications that split at semicolons.
        let rules = QueryRules::new().sorted().ignore("utm_*").ignore("x");
        for query in ["cb=ok&utm_content=x;cb=evil", "x;cb=evil", "b=1;a=2&a=1", "utm_a=1&;", "cb=ok;utm_a=1"] {
            assert_eq!(rules.apply(query), query);
        }
        assert_eq!(rules.apply("cb=ok&utm_content=x%3Bcb=evil"), "cb=ok", "decoding comes after splitting");
    }

    #[test]
    fn rules_apply_to_as_many_parameters_as_are_quickly_sorted() {
        let rules = QueryRules::new().sorted();
        let query = |count: usize| (0..count).rev().map(|n| format!("p{n:04}")).collect::<Vec<_>>().join("&");
        assert!(rules.apply(&query(256)).starts_with("p0000&"));
        assert_eq!(rules.apply(&query(257)), query(257));
    }

    #[test]
    fn what_does_not_count_goes_and_the_rest_stays_as_it_is() {
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
    fn rules_are_words() {
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
        fn applying_rules_twice_changes_nothing(query in "([a-c]{1,2}(=[a-c]{0,2})?&?){0,6}") {
            let rules = QueryRules::new().sorted().ignore("a").ignore("b*");
            let once = rules.apply(&query).into_owned();
            prop_assert_eq!(rules.apply(&once), once.as_str());
        }
    }
}
