//! The report that `--check` prints.

use std::fmt::Write;

use super::settings::settings;
use super::{Config, RouteConfig, ValueSource};
use crate::sandbox::Sandbox;

/// A report on the effective configuration and the source of each value.
#[derive(Clone, Debug)]
pub struct Report {
    config: Config,
    is_quiet: bool,
}

impl Report {
    /// Creates a report on `config`.
    pub fn new(config: Config) -> Self {
        Self { config, is_quiet: false }
    }

    /// Sets whether the report contains only problems.
    #[must_use]
    pub fn quiet(mut self, is_quiet: bool) -> Self {
        self.is_quiet = is_quiet;
        self
    }

    /// Returns whether the report contains only problems.
    pub fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// Returns the configuration that the report describes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Renders the configuration as TOML, with the layers listed in comments. Apart from secrets, it can be saved as an
    /// equivalent configuration file.
    pub fn render(&self, layers: &[String], problems: usize) -> String {
        let verdict = match problems {
            0 => "the configuration is valid.".to_owned(),
            1 => "the configuration has a problem; see the end of this report.".to_owned(),
            problems => format!("the configuration has {problems} problems; see the end of this report."),
        };
        let mut text = format!("# rproxy {}: {verdict}\n", env!("CARGO_PKG_VERSION"));
        for warning in self.config.warnings() {
            text += &format!("# Warning: {warning}.\n");
        }
        let has_upstream = self.config.has_default_site() && !self.config.serves_files_only();
        let lines: Vec<(&str, String, String)> = settings()
            .map(|setting| {
                let source = self.config.value_source(setting.key);
                let from = match &source {
                    ValueSource::Default | ValueSource::File { .. } => source.to_string(),
                    given => given.name(setting.key),
                };
                let line = match self.config.show(setting) {
                    // Set at the top level, it would make a default site, or serve the requests without a file.
                    Some(value) if setting.key == "upstream" && !has_upstream => {
                        format!("# upstream = {}", literal(&value))
                    }
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
        text += "\n# Sandbox after the start\n";
        for line in Sandbox::describe(&self.config) {
            let _ = writeln!(text, "# {line}");
        }
        text += "\n# Layers, from the client to the upstream\n";
        for (index, layer) in layers.iter().enumerate() {
            let _ = writeln!(text, "# {:2}. {layer}", index + 1);
        }
        for route in &self.config.default_routes {
            write_route(&mut text, "route", route, &self.config);
        }
        for site in &self.config.sites {
            let hosts: Vec<String> = site.hosts.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "\n[[site]]\nhosts = {}", array(&hosts));
            write_settings(&mut text, &site.config, &self.config);
            for route in &site.routes {
                write_route(&mut text, "site.route", route, &site.config);
            }
        }
        text
    }
}

fn write_route(text: &mut String, table: &str, route: &RouteConfig, parent: &Config) {
    let _ = writeln!(text, "\n[[{table}]]\npaths = {}", array(route.route.paths()));
    if !route.route.methods().is_empty() {
        let methods: Vec<String> = route.route.methods().iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "methods = {}", array(&methods));
    }
    write_settings(text, &route.config, parent);
}

/// Writes the settings of a site or route whose values differ from the enclosing scope.
fn write_settings(text: &mut String, config: &Config, parent: &Config) {
    for setting in settings() {
        let source = config.value_source(setting.key);
        if source == parent.value_source(setting.key) && config.show(setting) == parent.show(setting) {
            continue;
        }
        let value = match config.show(setting) {
            Some(_) if setting.secret => continue,
            Some(value) => literal(&value),
            None => "\"\"".to_owned(),
        };
        let _ = writeln!(text, "{} = {value}  # {source}", setting.key);
    }
}

fn array(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| toml::Value::from(value.as_str()).to_string()).collect();
    format!("[{}]", values.join(", "))
}

/// Returns a TOML literal: numbers and booleans without quotes, everything else as a string.
fn literal(value: &str) -> String {
    let bare = value == "true" || value == "false" || value.parse::<u32>().is_ok_and(|n| n.to_string() == value);
    match bare {
        true => value.to_owned(),
        false => toml::Value::from(value).to_string(),
    }
}
