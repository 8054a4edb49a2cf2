//! Text that has to stand in a path for a glob to match it: most paths have none of it, and are done with one search.

use std::collections::{BTreeSet, HashSet};

use aho_corasick::{AhoCorasick, AhoCorasickKind};

/// Finds out in one pass that none of many globs can match.
pub(crate) struct Literals {
    // `None`: there is a glob that needs no text at all.
    search: Option<Search>,
}

struct Search {
    pairs: Pairs,
    automaton: AhoCorasick,
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
        let automaton = AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(&literals);
        let pairs = Pairs::of(&literals);
        // More than can be searched for at once: then each path is matched.
        Self { search: automaton.ok().map(|automaton| Search { pairs, automaton }) }
    }

    /// Whether one of the globs may match `path`; if not, none does.
    pub(crate) fn may_match(&self, path: &[u8]) -> bool {
        self.search.as_ref().is_none_or(|search| search.pairs.are_in(path) && search.automaton.is_match(path))
    }
}

/// Of each literal two bytes that stand side by side, as a bit for each pair there is: most paths have none of them,
/// which is told in a few instructions a byte.
struct Pairs(Box<[u64; PAIRS / 64]>);

const PAIRS: usize = 1 << 16;

impl Pairs {
    fn of(literals: &[&[u8]]) -> Self {
        let mut pairs = Self(Box::new([0; PAIRS / 64]));
        for literal in literals {
            match literal {
                [] => {}
                // Whatever stands before it.
                [one] => (0..=u8::MAX).for_each(|before| pairs.insert(before, *one)),
                _ => {
                    let rarity = |pair: &&[u8]| pair.iter().map(|&byte| rarity(byte)).sum::<usize>();
                    if let Some([one, next]) = literal.windows(2).max_by_key(rarity) {
                        pairs.insert(*one, *next);
                    }
                }
            }
        }
        pairs
    }

    fn insert(&mut self, one: u8, next: u8) {
        let pair = usize::from(one) << 8 | usize::from(next);
        self.0[pair / 64] |= 1 << (pair % 64);
    }

    /// Whether one of the pairs stands in `path`. To the end without a jump: nearly no path has any.
    fn are_in(&self, path: &[u8]) -> bool {
        // Before the first byte stands one that is in no path, so that a literal of one byte is found there, too.
        let (mut found, mut before) = (0, 0);
        for &byte in path {
            let pair = usize::from(before) << 8 | usize::from(byte);
            found |= self.0[pair / 64] >> (pair % 64);
            before = byte;
        }
        found & 1 != 0
    }
}

/// How seldom a byte stands in paths of pages and what belongs to them.
fn rarity(byte: u8) -> usize {
    const COMMONEST: &[u8] = b"etaoinsr/-lhcdpumgfbywv1023456789k._xjzq";
    COMMONEST.iter().position(|&common| common == byte).unwrap_or(COMMONEST.len())
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
    fn each_literal_has_a_pair_in_every_path_that_it_is_in() {
        let literals = [&b".sql"[..], b"~", b"/.", b"/private/", b"qq"];
        let pairs = Pairs::of(&literals);
        for literal in literals {
            for (before, after) in [("", ""), ("/a", ""), ("/", "b"), ("~", "~")] {
                let path = [before.as_bytes(), literal, after.as_bytes()].concat();
                assert!(pairs.are_in(&path), "{}", path.escape_ascii());
            }
        }
        for path in ["", "/", "q", "/articles/2026/how-to-measure", "/static/app-5f0c8d2e7a.js"] {
            assert!(!pairs.are_in(path.as_bytes()), "{path}");
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
