//! Reads settings from a TOML file: one flat table whose keys are settings.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::settings;
use super::source::{Assignment, ValueSource};

pub(super) fn read(path: &Path, assignments: &mut Vec<Assignment>, problems: &mut Vec<Problem>) {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            return problems.push(Problem::File { path: path.to_owned(), reason: error.to_string() });
        }
    };
    parse(path, &text, assignments, problems);
}

fn parse(path: &Path, text: &str, assignments: &mut Vec<Assignment>, problems: &mut Vec<Problem>) {
    let shared: Arc<Path> = path.into();
    let lines = Lines::of(text);
    // The parser recovers after an invalid line, so that one error does not hide the next.
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = lines.at(error.span().map_or(0, |span| span.start));
        let mut message = error.message().replace('\n', ", ");
        // Shows the key but never the value, which may be a secret.
        if let Some(key) = lines.key(text, line) {
            message = format!("{key}: {message}");
        }
        let problem = Problem::Syntax { path: path.to_owned(), line, message };
        // The parser may report an invalid line more than once.
        let same_line = |other: &Problem| matches!(other, Problem::Syntax { line: known, .. } if *known == line);
        if !problems.iter().any(same_line) {
            problems.push(problem);
        }
    }
    let invalid: Vec<usize> = errors.iter().filter_map(|error| Some(lines.at(error.span()?.start))).collect();

    let mut entries: Vec<(&Spanned<_>, &Spanned<_>)> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let line = lines.at(key.span().start);
        // The recovered content of an invalid line is a guess of the parser.
        if invalid.contains(&line) {
            continue;
        }
        let source = ValueSource::File { path: shared.clone(), line };
        let name: &str = key.get_ref();
        match (settings::find(name), value.get_ref()) {
            (None, DeValue::Table(_)) => problems.push(Problem::Unknown {
                location: source.locate(name),
                hint: "the file is one flat table without sections, such as tls_domains = [\"example.com\"]".to_owned(),
            }),
            (None, _) => {
                let hint = settings::hint(name, &source);
                problems.push(Problem::Unknown { location: source.locate(name), hint });
            }
            (Some(setting), value) => match text_of(value) {
                Ok(text) => assignments.push(Assignment { setting, key: name.to_owned(), text, source }),
                Err(reason) => problems.push(Problem::BadValue {
                    location: source.locate(name),
                    reason,
                    accepted: setting.accepted,
                }),
            },
        }
    }
}

/// Returns the value in the spelling of an environment variable, so that all sources share their parsers.
fn text_of(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(yes) => Ok(yes.to_string()),
        DeValue::Array(array) => {
            let entries: Result<Vec<_>, _> = array.iter().map(|entry| text_of(entry.get_ref())).collect();
            Ok(entries?.join(","))
        }
        DeValue::Datetime(_) => Err("bad value: a date".to_owned()),
        DeValue::Table(_) => Err("bad value: a table".to_owned()),
    }
}

/// The offsets at which lines start.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// Returns the line of an offset, counted from 1.
    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }

    /// Returns the key of a line, if it has one.
    fn key<'t>(&self, text: &'t str, line: usize) -> Option<&'t str> {
        let start = *self.0.get(line.checked_sub(1)?)?;
        let (key, _) = text.get(start..)?.lines().next()?.split_once('=')?;
        let key = key.trim();
        let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        (!key.is_empty() && key.bytes().all(bare)).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn maps_offset_to_its_line() {
        let lines = Lines::of("a\n\nbc\n");
        for (offset, line) in [(0, 1), (1, 1), (2, 2), (3, 3), (5, 3), (6, 4)] {
            assert_eq!(lines.at(offset), line, "{offset}");
        }
    }

    #[test]
    fn syntax_error_names_the_key_but_not_the_value() {
        let mut problems = Vec::new();
        parse(Path::new("r.toml"), "acme_eab_hmac_key = hush\n", &mut Vec::new(), &mut problems);
        let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(messages, ["r.toml:1: acme_eab_hmac_key: string values must be quoted, expected literal string"],);
    }

    proptest! {
        #[test]
        fn parser_never_panics(text in "([a-z_\\-.\\[\\]{}=\"',# 0-9é\\n]|listen|rate_limit|\"\"\"){0,60}") {
            let mut problems = Vec::new();
            parse(Path::new("r.toml"), &text, &mut Vec::new(), &mut problems);
            let lines = text.split('\n').count();
            for problem in problems {
                if let Problem::Syntax { line, .. } = problem {
                    prop_assert!((1..=lines).contains(&line));
                }
            }
        }
    }
}
