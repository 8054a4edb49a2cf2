//! Reads settings from a TOML file, in which each key is a setting.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Problem, SettingLocation};
use super::settings;
use super::sites::{Declarations, RouteDeclaration, SiteDeclaration};
use super::source::{Assignment, ValueSource};
use crate::setting::Scope;

pub(super) fn read(path: &Path, declared: &mut Declarations, problems: &mut Vec<Problem>) {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text, declared, problems),
        Err(error) => problems.push(Problem::File { path: path.to_owned(), reason: error.to_string() }),
    }
}

fn parse(path: &Path, text: &str, declared: &mut Declarations, problems: &mut Vec<Problem>) {
    let lines = Lines::of(text);
    // The parser recovers after an invalid line, so that one error does not hide the next.
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = lines.at(error.span().map_or(0, |span| span.start));
        let mut message = error.message().replace('\n', ", ");
        // Shows the key but never the value, which may be a secret.
        if let Some(key) = lines.key(text, line) {
            message = match !message.starts_with("duplicate key") && lines.has_bare_text(text, line) {
                true => format!("{key}: {message}; write the value in quotes: {key} = \"...\""),
                false => format!("{key}: {message}"),
            };
        }
        let problem = Problem::Syntax { path: path.to_owned(), line, message };
        // The parser may report an invalid line more than once.
        let same_line = |other: &Problem| matches!(other, Problem::Syntax { line: known, .. } if *known == line);
        if !problems.iter().any(same_line) {
            problems.push(problem);
        }
    }
    let broken = errors.iter().filter_map(|error| Some(lines.at(error.span()?.start))).collect();
    let mut reader = Reader { path: path.into(), lines, broken, problems };
    reader.read_top(table.get_ref(), declared);
}

type Entry<'t, 'd> = (&'t Spanned<std::borrow::Cow<'d, str>>, &'t Spanned<DeValue<'d>>);

struct Reader<'p> {
    path: Arc<Path>,
    lines: Lines,
    /// The numbers of the lines with invalid TOML. Their recovered content is a guess of the parser.
    broken: Vec<usize>,
    problems: &'p mut Vec<Problem>,
}

impl Reader<'_> {
    fn read_top(&mut self, table: &DeTable<'_>, declared: &mut Declarations) {
        for (key, value) in self.entries(table) {
            match key.get_ref().as_ref() {
                "site" => self.each_table(key, value, |reader, source, table| {
                    declared.sites.push(reader.read_site(source, table));
                }),
                "route" => self.each_table(key, value, |reader, source, table| {
                    declared.routes.push(reader.read_route(source, table));
                }),
                _ => declared.assignments.extend(self.read_setting(key, value, Scope::Process)),
            }
        }
    }

    fn read_site(&mut self, source: ValueSource, table: &DeTable<'_>) -> SiteDeclaration {
        let mut site = SiteDeclaration { source, hosts: None, assignments: Vec::new(), routes: Vec::new() };
        for (key, value) in self.entries(table) {
            match key.get_ref().as_ref() {
                "hosts" => site.hosts = self.read_text(key, value, "an array of host names"),
                "route" => self.each_table(key, value, |reader, source, table| {
                    site.routes.push(reader.read_route(source, table));
                }),
                _ => site.assignments.extend(self.read_setting(key, value, Scope::Site)),
            }
        }
        site
    }

    fn read_route(&mut self, source: ValueSource, table: &DeTable<'_>) -> RouteDeclaration {
        let mut route = RouteDeclaration { source, paths: None, methods: None, assignments: Vec::new() };
        for (key, value) in self.entries(table) {
            match key.get_ref().as_ref() {
                "paths" => route.paths = self.read_text(key, value, "an array of paths"),
                "methods" => route.methods = self.read_text(key, value, "an array of methods"),
                _ => route.assignments.extend(self.read_setting(key, value, Scope::Route)),
            }
        }
        route
    }

    /// Returns the entries of a TOML table in the order of the file, except entries on invalid lines.
    fn entries<'t, 'd>(&self, table: &'t DeTable<'d>) -> Vec<Entry<'t, 'd>> {
        let is_broken = |(key, _): &Entry<'_, '_>| self.broken.contains(&self.lines.at(key.span().start));
        let mut entries: Vec<Entry<'_, '_>> = table.iter().filter(|entry| !is_broken(entry)).collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
    }

    fn source(&self, offset: usize) -> ValueSource {
        ValueSource::File { path: Arc::clone(&self.path), line: self.lines.at(offset) }
    }

    fn each_table(
        &mut self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        mut read: impl FnMut(&mut Self, ValueSource, &DeTable<'_>),
    ) {
        let tables = value.get_ref().as_array().map(|array| array.iter().collect::<Vec<_>>());
        let tables = tables.filter(|tables| tables.iter().all(|table| table.get_ref().is_table()));
        let Some(tables) = tables else {
            let name: &str = key.get_ref();
            let location = self.source(key.span().start).locate(name);
            let reason = format!("not an array of tables: write [[{name}]]");
            return self.problems.push(Problem::Conflict { location, reason });
        };
        for table in tables {
            let source = self.source(table.span().start);
            if let Some(content) = table.get_ref().as_table() {
                read(self, source, content);
            }
        }
    }

    fn read_text(
        &mut self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        accepted: &'static str,
    ) -> Option<(String, SettingLocation)> {
        let location = self.source(key.span().start).locate(key.get_ref());
        match text_of(value.get_ref(), |entries| entries.join(",")) {
            Ok(text) => Some((text, location)),
            Err(reason) => {
                self.problems.push(Problem::BadValue { location, reason, accepted });
                None
            }
        }
    }

    /// Reads a setting from a table that configures the given scope.
    fn read_setting(
        &mut self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        scope: Scope,
    ) -> Option<Assignment> {
        let source = self.source(key.span().start);
        let name: &str = key.get_ref();
        let location = source.locate(name);
        let problem = match (settings::find(name), value.get_ref()) {
            // A list of routes is a setting, too.
            (found, value) if is_table(value) && found.is_none_or(|setting| setting.key == "routes") => {
                Problem::Unknown { location, hint: table_hint(name, scope) }
            }
            (None, _) if structure_hint(name, scope).is_some() => {
                Problem::Unknown { location, hint: structure_hint(name, scope).unwrap_or_default() }
            }
            (None, _) => Problem::Unknown { location, hint: settings::hint(name, &source) },
            (Some(setting), _) if setting.scope < scope => Problem::WrongScope { location, scope: setting.scope },
            (Some(setting), value) => match text_of(value, |entries| setting.joined(entries)) {
                Ok(text) => return Some(Assignment { setting, key: name.to_owned(), text, source }),
                Err(reason) => Problem::BadValue { location, reason, accepted: setting.accepted },
            },
        };
        self.problems.push(problem);
        None
    }
}

/// Returns whether a value is a table or an array of tables.
fn is_table(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => true,
        DeValue::Array(array) => array.iter().any(|entry| entry.get_ref().is_table()),
        _ => false,
    }
}

/// Returns a suggestion for a table with an unknown name.
fn table_hint(name: &str, scope: Scope) -> String {
    let near = match (name, scope) {
        ("sites" | "server" | "servers" | "host" | "hosts" | "vhost", Scope::Process) => "[[site]]",
        ("routes" | "location" | "locations", Scope::Process) => "[[route]]",
        ("routes" | "location" | "locations", Scope::Site) => "[[site.route]]",
        _ => return "tables are [[site]], [[site.route]] and [[route]]".to_owned(),
    };
    format!("did you mean {near}?")
}

/// Returns a suggestion for a name that is near to a key of another kind than a setting.
fn structure_hint(name: &str, scope: Scope) -> Option<String> {
    let key = match name {
        "host" | "hosts" | "domain" | "domains" | "server_name" | "server_names" => "hosts",
        "path" | "paths" => "paths",
        "method" | "methods" => "methods",
        _ => return None,
    };
    Some(match (key, scope) {
        ("hosts", Scope::Site) | ("paths" | "methods", Scope::Route) => format!("did you mean {key:?}?"),
        ("hosts", _) => "the hosts of a site are in [[site]]: hosts = [\"example.org\"]".to_owned(),
        (_, Scope::Site) => format!("{key} belong in [[site.route]]"),
        _ => format!("{key} belong in [[route]] or [[site.route]]"),
    })
}

/// Returns a TOML value as the text of an environment variable, so that all sources share their parsers.
fn text_of(value: &DeValue<'_>, join: impl Fn(&[String]) -> String + Copy) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(yes) => Ok(yes.to_string()),
        DeValue::Array(array) => {
            let entries: Result<Vec<_>, _> = array.iter().map(|entry| text_of(entry.get_ref(), join)).collect();
            Ok(join(&entries?))
        }
        DeValue::Datetime(_) => Err("bad value: a date is not supported".to_owned()),
        DeValue::Table(_) => Err("bad value: a table is not supported".to_owned()),
    }
}

/// The offsets at which the lines of a text start.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// Returns the line number at an offset, starting at 1.
    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }

    /// Returns whether the value that a line assigns is text without quotes.
    fn has_bare_text(&self, text: &str, line: usize) -> bool {
        let line = line.checked_sub(1).and_then(|line| text.get(*self.0.get(line)?..)?.lines().next());
        let Some((_, value)) = line.and_then(|line| line.split_once('=')) else { return false };
        value.trim_start().starts_with(|first: char| !matches!(first, '"' | '\'' | '[' | '{' | '#'))
    }

    /// Returns the key that a line assigns, if any.
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
    fn maps_byte_offset_in_a_file_to_its_line_number() {
        let lines = Lines::of("a\n\nbc\n");
        for (offset, line) in [(0, 1), (1, 1), (2, 2), (3, 3), (5, 3), (6, 4)] {
            assert_eq!(lines.at(offset), line, "{offset}");
        }
    }

    #[test]
    fn syntax_error_names_the_key_but_not_the_value() {
        let mut problems = Vec::new();
        parse(Path::new("r.toml"), "acme_eab_hmac_key = hush\n", &mut Declarations::default(), &mut problems);
        let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            messages,
            ["r.toml:1: acme_eab_hmac_key: string values must be quoted, expected literal string; write the value in \
                 quotes: acme_eab_hmac_key = \"...\""],
        );
    }

    #[test]
    fn near_misses_name_the_right_table_key_or_quotes() {
        for (text, line, expected) in [
            ("[[sites]]\nhosts = \"a\"", 1, "unknown setting \"sites\", did you mean [[site]]?"),
            ("[[routes]]\npaths = \"/a\"", 1, "unknown setting \"routes\", did you mean [[route]]?"),
            ("[sites]\nhosts = \"a\"", 1, "unknown setting \"sites\", did you mean [[site]]?"),
            (
                "[[site]]\nhosts = \"a\"\n[[site.routes]]\npaths = \"/a\"",
                3,
                "unknown setting \"routes\", did you mean [[site.route]]?",
            ),
            ("[[site]]\nhost = \"a\"", 2, "unknown setting \"host\", did you mean \"hosts\"?"),
            (
                "[[site]]\nhosts = \"a\"\n[[site.route]]\npath = \"/a\"",
                4,
                "unknown setting \"path\", did you mean \"paths\"?",
            ),
            ("[[site]]\npaths = \"/a\"", 2, "unknown setting \"paths\", paths belong in [[site.route]]"),
            (
                "hosts = \"a\"",
                1,
                "unknown setting \"hosts\", the hosts of a site are in [[site]]: hosts = [\"example.org\"]",
            ),
            ("[tls]\ncert = \"a\"", 1, "unknown setting \"tls\", tables are [[site]], [[site.route]] and [[route]]"),
            ("listen = 127.0.0.1:80", 1, "; write the value in quotes: listen = \"...\""),
            ("upstream = localhost:3000", 1, "; write the value in quotes: upstream = \"...\""),
            ("body_timeout = 30s # seconds", 1, "; write the value in quotes: body_timeout = \"...\""),
        ] {
            let mut problems = Vec::new();
            parse(Path::new("r.toml"), text, &mut Declarations::default(), &mut problems);
            let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let start = format!("r.toml:{line}: ");
            assert!(
                messages.iter().any(|message| message.starts_with(&start) && message.ends_with(expected)),
                "{messages:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn config_file_parser_never_panics(text in "([a-z_\\-.\\[\\]{}=\"',# 0-9é\\n]|listen|rate_limit|\"\"\"){0,60}") {
            let mut problems = Vec::new();
            parse(Path::new("r.toml"), &text, &mut Declarations::default(), &mut problems);
            let lines = text.split('\n').count();
            for problem in problems {
                if let Problem::Syntax { line, .. } = problem {
                    prop_assert!((1..=lines).contains(&line));
                }
            }
        }
    }
}
