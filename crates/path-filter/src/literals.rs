//! Text that has to stand in a path for a glob to match it: most paths have none of it, and are done with one search.

use std::collections::{BTreeSet, HashSet};

use aho_corasick::{AhoCorasick, AhoCorasickKind};

/// Finds out in one pass that none of many globs can match.
pub(crate) struct Literals {
    // `None`: there is a glob that needs no text at all.
    search: Option<AhoCorasick>,
}

impl Literals {
    /// One literal at least of each of `globs`, which are well-formed and in lower case.
    pub(crate) fn of<'a>(globs: impl Iterator<Item = &'a str>) -> Self {
        let mut literals = BTreeSet::new();
        for alternative in globs.flat_map(alternatives) {
            match longest(&alternative) {
                Some(literal) => literals.insert(literal.to_owned()),
                None => return Self { search: None },
            };
        }
        // Where `.sql` is found, `.sqlite` need not be looked for.
        let mut literals: Vec<_> = literals.iter().map(String::as_bytes).collect();
        literals.sort_by_key(|literal| literal.len());
        let (mut known, mut lengths) = (HashSet::new(), BTreeSet::new());
        literals.retain(|&literal| {
            let mut parts = lengths.iter().flat_map(|&length| literal.windows(length));
            let is_needed = !parts.any(|part| known.contains(part));
            if is_needed {
                known.insert(literal);
                lengths.insert(literal.len());
            }
            is_needed
        });
        // A tenth of the memory of the automaton that would be a little faster.
        let search = AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(&literals);
        // More than can be searched for at once: then each path is matched.
        Self { search: search.ok() }
    }

    /// Whether one of the globs may match `path`; if not, none does.
    pub(crate) fn may_match(&self, path: &[u8]) -> bool {
        self.search.as_ref().is_none_or(|search| search.is_match(path))
    }
}

/// The glob without braces: each choice spelled out.
fn alternatives(glob: &str) -> Vec<String> {
    let (mut done, mut open) = (Vec::new(), vec![glob.to_owned()]);
    while let Some(glob) = open.pop() {
        match choice(&glob) {
            Some((before, choices, after)) if open.len() + done.len() < MOST_ALTERNATIVES => {
                open.extend(choices.iter().map(|choice| format!("{before}{choice}{after}")));
            }
            // What stands before the brace has to do.
            Some((before, ..)) => done.push(format!("{before}*")),
            None => done.push(glob),
        }
    }
    done
}

/// The first brace: what is before it, its choices, and what is behind it.
fn choice(glob: &str) -> Option<(&str, Vec<&str>, &str)> {
    let (mut depth, mut open, mut start, mut choices) = (0, 0, 0, Vec::new());
    for (at, byte) in outside_of_classes(glob) {
        match byte {
            b'{' => {
                depth += 1;
                if depth == 1 {
                    (open, start) = (at, at + 1);
                }
            }
            b',' if depth == 1 => {
                choices.push(&glob[start..at]);
                start = at + 1;
            }
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    choices.push(&glob[start..at]);
                    return Some((&glob[..open], choices, &glob[at + 1..]));
                }
            }
            _ => {}
        }
    }
    None
}

/// The longest text of a glob without braces that stands in whatever the glob matches.
fn longest(glob: &str) -> Option<&str> {
    let (mut start, mut longest) = (0, "");
    for (at, byte) in outside_of_classes(glob).chain([(glob.len(), b'*')]) {
        if matches!(byte, b'*' | b'?' | b'[' | b']') {
            // A bracket ends a class only if it was skipped to.
            let text = glob.get(start..at).filter(|_| byte != b']').unwrap_or_default();
            // Of two that are as long, the later: it tells more than the dot before an extension.
            if !text.is_empty() && text.len() >= longest.len() {
                longest = text;
            }
            start = at + 1;
        }
    }
    (!longest.is_empty()).then_some(longest)
}

/// The bytes that mean what they say, or are wildcards; of each class, `[` and the `]` that ends it.
fn outside_of_classes(glob: &str) -> impl Iterator<Item = (usize, u8)> {
    let mut ends_at = None;
    glob.bytes().enumerate().filter(move |&(at, byte)| {
        if let Some(end) = ends_at {
            if at == end {
                ends_at = None;
            }
            return at == end;
        }
        if byte == b'[' {
            // As the first of a class, `]` is one of its members, also where it is negated.
            let first = at + 1 + usize::from(glob[at + 1..].starts_with(['!', '^']));
            ends_at = glob.get(first + 1..).and_then(|rest| rest.find(']')).map(|end| first + 1 + end);
        }
        true
    })
}

/// More are cut short: a glob that is written by hand has fewer.
const MOST_ALTERNATIVES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_spelled_out() {
        for (glob, expected) in [
            ("/a", &["/a"][..]),
            ("/{a,b}", &["/a", "/b"]),
            ("{a,{b,c}d}e", &["ae", "bde", "cde"]),
            ("/{a}{,-b}", &["/a", "/a-b"]),
            ("/[{,}]x", &["/[{,}]x"]),
            ("/[]{]{a,b}", &["/[]{]a", "/[]{]b"]),
        ] {
            let mut all = alternatives(glob);
            all.sort();
            assert_eq!(all, expected, "{glob}");
        }
    }

    #[test]
    fn the_longest_literal_is_found() {
        for (glob, expected) in [
            ("**/*.sql", Some(".sql")),
            ("**/.[!.]*", Some("/.")),
            ("**/*.*~", Some("~")),
            ("**/a[bc]def?", Some("def")),
            ("**/a[!]xyz]b[]uvw]", Some("/a")),
            ("/private/**", Some("/private/")),
            ("**/*", Some("/")),
            ("**", None),
            ("*", None),
        ] {
            assert_eq!(longest(glob), expected, "{glob}");
        }
    }

    #[test]
    fn what_has_no_literal_may_match_anything() {
        assert!(Literals::of(["**", "/a"].into_iter()).may_match(b"/"));
        let literals = Literals::of(["**/*.{sql,sqlite}", "/x/**"].into_iter());
        for (path, may) in [("/", false), ("/small", false), ("/a.js", false), ("/a.sqlite", true), ("/x/y", true)] {
            assert_eq!(literals.may_match(path.as_bytes()), may, "{path}");
        }
    }
}
