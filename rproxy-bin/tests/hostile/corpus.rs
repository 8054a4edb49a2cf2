//! Test corpora: text files of cases, each with bytes to send and the expected result.
//!
//! ```text
//! # A comment.
//! = the name of a case
//! why the purpose of the case and the section that it is about
//! > a line to send, with its CRLF
//! >> bytes to send as they are
//! word a step that the test of this corpus defines
//! -> the expected result
//! ```
//!
//! In all bytes to send, `\r`, `\n`, `\t`, `\0`, `\\` and `\xHH` are escapes, `\{text*1000}` repeats a text, and `\e`
//! is empty.

use std::collections::HashSet;

/// A test case of a corpus: its steps and the expected result.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) expected: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// A step that the test interprets by name, with an argument.
    Word(String, Vec<u8>),
}

impl Case {
    /// Returns the concatenation of all bytes that the test case sends.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let sent = self.steps.iter().filter_map(|step| match step {
            Step::Send(bytes) => Some(bytes.as_slice()),
            Step::Word(..) => None,
        });
        sent.collect::<Vec<_>>().concat()
    }

    /// Returns the argument of the step `word`, if the case contains this step.
    pub(crate) fn word(&self, word: &str) -> Option<&[u8]> {
        self.steps.iter().find_map(|step| match step {
            Step::Word(own, text) if own == word => Some(text.as_slice()),
            _ => None,
        })
    }
}

/// Parses the cases in the text of a corpus.
pub(crate) fn read(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut names = HashSet::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("= ") {
            assert!(names.insert(name), "two cases are called {name:?}");
            cases.push(Case { name: name.to_owned(), steps: Vec::new(), expected: Vec::new() });
            continue;
        }
        let case = cases.last_mut().expect("a case before its lines");
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "why" => {}
            ">" => case.steps.push(Step::Send([&unescaped(rest)[..], b"\r\n"].concat())),
            ">>" => case.steps.push(Step::Send(unescaped(rest))),
            "->" => case.expected.push(rest.to_owned()),
            word => case.steps.push(Step::Word(word.to_owned(), unescaped(rest))),
        }
    }
    for case in &cases {
        assert!(!case.expected.is_empty(), "nothing is expected of {:?}", case.name);
    }
    cases
}

pub(crate) fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (escape, behind) = escaped.split_at(1);
        rest = behind;
        match escape {
            "r" => bytes.push(b'\r'),
            "n" => bytes.push(b'\n'),
            "t" => bytes.push(b'\t'),
            "0" => bytes.push(0),
            "\\" => bytes.push(b'\\'),
            "e" => {}
            "x" => {
                let (digits, behind) = rest.split_at(2);
                bytes.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
                rest = behind;
            }
            "{" => {
                let (repeated, behind) = rest.split_once('}').expect("a closing brace");
                let (piece, times) = repeated.rsplit_once('*').expect("how often");
                bytes.extend(unescaped(piece).repeat(times.parse().expect("a number")));
                rest = behind;
            }
            other => panic!("no escape: {other:?} in {text:?}"),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

#[test]
fn corpus_parser_unescapes_bytes() {
    assert_eq!(unescaped(r"a\r\n\t\0\\\xff\{b\n*2}c\e"), b"a\r\n\t\0\\\xffb\nb\nc");
}
