//! `No-Vary-Search`, with which a response lists the query parameters that it does not depend on.
//!
//! <https://www.ietf.org/archive/id/draft-ietf-httpbis-no-vary-search-04.html>

use std::fmt::Write;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use crate::memory_size::allocation;

/// The query parameters that a response depends on, from `No-Vary-Search`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SearchVariance {
    ignores_order: bool,
    parameters: Parameters,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Parameters {
    /// The response depends on all query parameters except those listed.
    AllBut(Box<[Box<[u8]>]>),
    /// The response depends only on the listed query parameters.
    Only(Box<[Box<[u8]>]>),
}

impl SearchVariance {
    /// Parses the `No-Vary-Search` field of a response. `None` means that the whole query counts, as the field is
    /// absent or invalid.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key(NO_VARY_SEARCH) {
            return None;
        }
        let values: Vec<&[u8]> = headers.get_all(NO_VARY_SEARCH).iter().map(HeaderValue::as_bytes).collect();
        let text = values.join(&b", "[..]);
        // The names are compared at each lookup of a path, so their length is limited.
        if text.len() > MAX_LENGTH {
            return None;
        }
        let dictionary = Parser::new(&text).parse::<Dictionary>().ok()?;
        // A later version can give other words any meaning.
        if dictionary.keys().any(|key| !matches!(key.as_str(), "key-order" | "params" | "except")) {
            return None;
        }
        let ignores_order = match dictionary.get("key-order") {
            None => false,
            Some(member) => boolean(member)?,
        };
        let params = dictionary.get("params");
        let parameters = match (params, dictionary.get("except")) {
            (None, None) => Parameters::AllBut(Box::default()),
            (Some(params), None) => match boolean(params) {
                Some(true) => Parameters::Only(Box::default()),
                Some(false) => Parameters::AllBut(Box::default()),
                None => Parameters::AllBut(names(params)?),
            },
            (params, Some(except)) => match params.and_then(boolean) {
                Some(true) => Parameters::Only(names(except)?),
                _ => return None,
            },
        };
        let variance = Self { ignores_order, parameters };
        (variance != Self { ignores_order: false, parameters: Parameters::AllBut(Box::default()) }).then_some(variance)
    }

    /// Returns the canonical form of a query, which is the same for all equivalent queries.
    pub(crate) fn canonical(&self, query: &str) -> String {
        let parameters = query.split('&').filter(|parameter| !parameter.is_empty()).map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (decoded(name), decoded(value))
        });
        let mut counted: Vec<_> = parameters.filter(|(name, _)| self.counts(name)).collect();
        if self.ignores_order {
            // The sort is stable, so that several values of one name keep their order.
            counted.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        let mut canonical = String::with_capacity(query.len());
        for (name, value) in &counted {
            if !canonical.is_empty() {
                canonical.push('&');
            }
            encode(&mut canonical, name);
            canonical.push('=');
            encode(&mut canonical, value);
        }
        canonical
    }

    pub(crate) fn weight(&self) -> usize {
        let (Parameters::AllBut(names) | Parameters::Only(names)) = &self.parameters;
        allocation(size_of_val(&**names)) + names.iter().map(|name| allocation(name.len())).sum::<usize>()
    }

    fn counts(&self, name: &[u8]) -> bool {
        match &self.parameters {
            Parameters::AllBut(names) => !names.iter().any(|ignored| **ignored == *name),
            Parameters::Only(names) => names.iter().any(|counted| **counted == *name),
        }
    }
}

const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");
const MAX_LENGTH: usize = 2048;

fn boolean(member: &ListEntry) -> Option<bool> {
    match member {
        ListEntry::Item(item) => item.bare_item.as_boolean(),
        ListEntry::InnerList(_) => None,
    }
}

/// Parses a structured-field list of strings, each of which is the name of a query parameter.
fn names(member: &ListEntry) -> Option<Box<[Box<[u8]>]>> {
    let ListEntry::InnerList(list) = member else {
        return None;
    };
    let names = list.items.iter().map(|item| match &item.bare_item {
        BareItem::String(name) => Some(decoded(name.as_str()).into()),
        _ => None,
    });
    let mut names: Vec<Box<[u8]>> = names.collect::<Option<_>>()?;
    names.sort_unstable();
    names.dedup();
    Some(names.into())
}

/// Decodes a name or value in `application/x-www-form-urlencoded` (<https://url.spec.whatwg.org/#urlencoded-parsing>).
fn decoded(text: &str) -> Vec<u8> {
    let hex = |digit: Option<&u8>| digit.and_then(|digit| (*digit as char).to_digit(16));
    let mut bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        decoded.push(match (first, hex(rest.first()), hex(rest.get(1))) {
            (b'%', Some(high), Some(low)) => {
                bytes = &rest[2..];
                (high * 16 + low) as u8
            }
            (b'+', ..) => b' ',
            _ => *first,
        });
    }
    decoded
}

fn encode(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => out.push(byte as char),
            // Writing to a `String` cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variance(lines: &[&str]) -> Option<SearchVariance> {
        let lines = lines.iter().map(|line| (NO_VARY_SEARCH, HeaderValue::from_str(line).unwrap()));
        SearchVariance::from_headers(&lines.collect())
    }

    fn same(line: &str, a: &str, b: &str) -> bool {
        variance(&[line]).map_or(a == b, |variance| variance.canonical(a) == variance.canonical(b))
    }

    #[test]
    fn ignores_query_parameters_listed_in_no_vary_search() {
        for (line, a, b, expected) in [
            ("params", "a=1&b=2", "", true),
            ("params=?1", "a=1", "c=3", true),
            ("params=?0", "a=1", "a=2", false),
            ("params=(\"a\")", "a=1&b=2", "b=2", true),
            ("params=(\"a\")", "a=1&b=2", "b=2&a=3", true),
            ("params=(\"a\")", "a=1&b=2", "b=3", false),
            ("params=(\"a\" \"c d\")", "c+d=1&b=2", "b=2&c%20d=2&a", true),
            ("params, except=(\"a\")", "a=1&b=2", "a=1&c=3", true),
            ("params, except=(\"a\")", "a=1&b=2", "a=2&b=2", false),
            ("key-order", "a=1&b=2", "b=2&a=1", true),
            ("key-order", "a=1&b=2&a=3", "b=2&a=3&a=1", false),
            ("params=(\"a\")", "b=1&c=2", "c=2&b=1", false),
            ("key-order, params=(\"utm\")", "x=1&utm=2&y=3", "y=3&x=1", true),
            // Queries are compared after parsing.
            ("params=(\"a\")", "b=%31&&d", "b=1&d=", true),
            ("params=(\"a\")", "b=1%2", "b=1%252", true),
            ("params=(\"%61\")", "a=1", "a=2", true),
            ("params=(\"a\")", "B=1", "b=1", false),
        ] {
            assert_eq!(same(line, a, b), expected, "{line}: {a} {b}");
        }
    }

    #[test]
    fn ignores_malformed_no_vary_search_fields() {
        for line in [
            "",
            "params=\"a\"",
            "params=(a)",
            "params=(\"a\" 1)",
            "params=1",
            "key-order=1",
            "key-order=(\"a\")",
            "except=(\"a\")",
            "params=?0, except=(\"a\")",
            "params=(\"a\"), except=(\"b\")",
            "params, except=\"a\"",
            "params, except=(a)",
            "params=(\"a\"",
            "Params",
            "params, other",
            "key-order=?0",
            "params=()",
        ] {
            assert_eq!(variance(&[line]), None, "{line}");
        }
        let long = format!("params=(\"{}\")", "a".repeat(MAX_LENGTH));
        assert_eq!(variance(&[&long]), None);
    }

    #[test]
    fn combines_no_vary_search_field_lines_into_one_dictionary() {
        assert_eq!(variance(&["key-order", "params=(\"a\")"]), variance(&["params=(\"a\" \"a\"), key-order"]));
    }

    proptest! {
        /// Compares queries with the algorithm of the `No-Vary-Search` draft: parse, filter, sort, compare.
        #[test]
        fn canonical_queries_agree_with_the_no_vary_search_draft(
            a in "([ab%1+]{1,3}(=[ab%1+]{0,2})?&?){0,4}", b in "([ab%1+]{1,3}(=[ab%1+]{0,2})?&?){0,4}",
            order in any::<bool>(), except in any::<bool>(),
        ) {
            let variance = SearchVariance {
                ignores_order: order,
                parameters: if except { Parameters::Only([(*b"a").into()].into()) } else { Parameters::AllBut([(*b"a").into()].into()) },
            };
            let parse = |query: &str| {
                let mut list: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
                for sequence in query.split('&').filter(|sequence| !sequence.is_empty()) {
                    let (name, value) = sequence.split_once('=').unwrap_or((sequence, ""));
                    list.push((decoded(name), decoded(value)));
                }
                list.retain(|(name, _)| (name == b"a") == except);
                if order {
                    list.sort_by(|x, y| x.0.cmp(&y.0));
                }
                list
            };
            prop_assert_eq!(variance.canonical(&a) == variance.canonical(&b), parse(&a) == parse(&b));
            let once = variance.canonical(&a);
            prop_assert_eq!(variance.canonical(&once), once);
        }
    }
}
