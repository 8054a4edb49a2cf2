//! The report of `--check`.

use std::fmt::Write;

use super::settings::settings;
use super::{Config, ValueSource};

/// A report on the effective configuration, with the source of each value.
#[derive(Clone, Debug)]
pub struct Report {
    config: Config,
}

impl Report {
    /// Creates a report on `config`.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Returns the configuration that the report is about.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Renders the report as TOML, with the layers as comments. Apart from secrets, it can be saved as an equivalent
    /// configuration file.
    pub fn render(&self, layers: &[String]) -> String {
        let mut text = format!("# rproxy {}: the configuration is valid.\n", env!("CARGO_PKG_VERSION"));
        for warning in self.config.warnings() {
            text += &format!("# Warning: {warning}.\n");
        }
        let lines: Vec<(&str, String, String)> = settings()
            .map(|setting| {
                let source = self.config.value_source(setting.key);
                let from = match &source {
                    ValueSource::Default | ValueSource::File { .. } => source.to_string(),
                    given => given.name(setting.key),
                };
                let line = match (setting.show)(&self.config) {
                    None => format!("# {} is not set", setting.key),
                    Some(_) if setting.secret => format!("# {} is set (not shown)", setting.key),
                    Some(value) => format!("{} = {}", setting.key, literal(&value)),
                };
                (setting.heading, line, from)
            })
            .collect();
        // Long values, such as lists of globs, do not shift the column.
        let width =
            lines.iter().map(|(_, line, _)| line.chars().count()).filter(|width| *width < 60).max().unwrap_or(0);
        let mut heading = "";
        for (under, line, from) in &lines {
            if *under != heading {
                heading = under;
                let _ = writeln!(text, "\n# {heading}");
            }
            let _ = writeln!(text, "{line:width$}  # {from}");
        }
        text += "\n# Layers, from the client to the upstream\n";
        for (index, layer) in layers.iter().enumerate() {
            let _ = writeln!(text, "# {:2}. {layer}", index + 1);
        }
        text
    }
}

/// Returns the value as a TOML literal: numbers and booleans bare, everything else as a string.
fn literal(value: &str) -> String {
    let bare = value == "true" || value == "false" || value.parse::<u32>().is_ok_and(|n| n.to_string() == value);
    match bare {
        true => value.to_owned(),
        false => toml::Value::from(value).to_string(),
    }
}
