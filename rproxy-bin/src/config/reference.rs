//! Tables of all settings in Markdown, for the documentation.

use std::fmt::Write;

use super::settings::settings;
use crate::setting::{DefaultValue, Reload, Setting};

/// Returns the Markdown reference of all settings, with one table per heading.
pub fn reference() -> String {
    let mut text = String::new();
    let mut heading = "";
    for setting in settings() {
        if setting.heading != heading {
            heading = setting.heading;
            let _ = write!(
                text,
                "\n## {heading}\n\n| Variable | Default | Meaning | Accepted | Scope | Change needs |\n|---|---|---|---|---|---|\n"
            );
        }
        let [variable, default, meaning, accepted] = cells(setting);
        let needs = match setting.reload {
            Reload::Live => "reload",
            Reload::Restart => "restart",
        };
        let scope = setting.scope.as_str();
        let _ = writeln!(text, "| {variable} | {default} | {meaning} | {accepted} | {scope} | {needs} |");
    }
    text
}

/// Returns a table row for a setting: variable, default and meaning.
pub fn summary(setting: &Setting) -> String {
    let [variable, default, meaning, _] = cells(setting);
    format!("| {variable} | {default} | {meaning} |")
}

fn cells(setting: &Setting) -> [String; 4] {
    let default = match setting.default {
        DefaultValue::Literal(value) => format!("`{value}`"),
        DefaultValue::Description(words) => words.to_owned(),
    };
    let variable = format!("`{}`", setting.variable());
    // A glob may contain a bar, which would end the cell.
    [variable, default, setting.help.to_owned(), setting.accepted.to_owned()].map(|cell| cell.replace('|', "\\|"))
}
