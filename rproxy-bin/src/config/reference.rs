//! The settings as a table for the README.

use std::fmt::Write;

use super::settings::{Fallback, settings};

/// Every setting, as a Markdown table.
pub fn reference() -> String {
    let mut table = String::from("| Variable | Default | Meaning | Accepted |\n|---|---|---|---|\n");
    for setting in settings() {
        let default = match setting.default {
            Fallback::Value(value) => format!("`{value}`"),
            Fallback::Words(words) => words.to_owned(),
        };
        // No value has a bar in it but a glob might come to.
        let cells = [default.as_str(), setting.help, setting.accepted].map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(table, "| `{}` | {} |", setting.variable(), cells.join(" | "));
    }
    table
}
