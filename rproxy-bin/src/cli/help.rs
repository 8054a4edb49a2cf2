//! The help texts of the command line: a summary, all settings, and the settings of one topic.

use std::path::Path;

use clap::{Arg, Command};

use super::{DEMO, USAGE, full_command, text_of};
use crate::config::{Config, DefaultValue, Setting, settings};

/// Replaces the help texts of a command and its subcommands with short ones, which do not list all settings.
pub(super) fn with_short_help(full: Command) -> Command {
    let names: Vec<String> = full.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let short = full.clone().override_help(summary(&full));
    names.into_iter().fold(short, |short, name| {
        short.mut_subcommand(name, |command| {
            let text = match command.get_name() {
                DEMO => demo(&full, &command),
                _ => of_subcommand(&command),
            };
            command.override_help(text)
        })
    })
}

/// Returns the help text that lists all settings.
pub(super) fn all() -> String {
    text_of(full_command())
}

/// Returns the help text for the settings of a topic, such as `rate-limit`.
///
/// # Errors
///
/// Returns an error with the names of the topics if there is no such one.
pub(super) fn topic(name: &str) -> Result<String, String> {
    let name = slug(name);
    let of_topic = |setting: &&Setting| slug(setting.heading) == name;
    if !settings().any(|setting| of_topic(&setting)) {
        return Err(format!("error: unknown topic {name:?}, the topics are {}", topics().join(", ")));
    }
    let command = full_command().disable_help_flag(true).disable_version_flag(true);
    let plain = Command::new("rproxy").help_template("{all-args}").next_line_help(true).term_width(WIDTH);
    let arguments = settings()
        .filter(of_topic)
        .filter_map(|setting| command.get_arguments().find(|argument| argument.get_id() == setting.key).cloned());
    Ok(text_of(plain.disable_help_flag(true).args(arguments)))
}

/// Returns the names of the help topics, in the order of the settings reference.
pub(super) fn topics() -> Vec<String> {
    let mut topics: Vec<String> = Vec::new();
    for topic in settings().map(|setting| slug(setting.heading)) {
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    topics
}

fn slug(heading: &str) -> String {
    heading.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

fn summary(full: &Command) -> String {
    let settings = COMMON.iter().filter_map(|key| crate::config::find(key));
    let subcommands = full.get_subcommands().filter(|command| !command.is_hide_set()).map(|command| {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        command.clone().about(wrapped(&about, SUBCOMMAND_COLUMN))
    });
    let short = plain(full)
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage(USAGE)
        .args(options(full))
        .args(settings.map(|setting| short_argument(setting, default_of(setting))))
        .subcommands(subcommands)
        .after_help(after_help());
    text_of(short)
}

fn demo(full: &Command, command: &Command) -> String {
    let (demo, defaults) = (Config::demo(Path::new("~/.local/state/rproxy")), Config::default());
    let is_shown = |setting: &&Setting| {
        setting.key != "upstream" && (COMMON.contains(&setting.key) || demo.show(setting) != defaults.show(setting))
    };
    let arguments = settings().filter(is_shown).map(|setting| {
        let default = match demo.show(setting) {
            Some(own) if Some(&own) != defaults.show(setting).as_ref() => own,
            _ => default_of(setting),
        };
        short_argument(setting, default)
    });
    text_of(plain(command).args(options(full)).args(arguments).after_help(after_help()))
}

fn of_subcommand(command: &Command) -> String {
    let after_help = "This command also accepts all settings; `rproxy help --all` lists them.";
    text_of(
        plain(command)
            .args(command.get_arguments().map(|argument| wrapped_argument(argument, OPTION_COLUMN)))
            .after_help(after_help),
    )
}

/// Returns the command-line options that are not settings.
fn options(full: &Command) -> impl Iterator<Item = Arg> {
    let options =
        full.get_arguments().filter(|argument| argument.get_help_heading().is_none() && !argument.is_hide_set());
    options.map(|argument| wrapped_argument(argument, OPTION_COLUMN))
}

/// Returns a command with the same name and description as `command`, and without arguments.
fn plain(command: &Command) -> Command {
    let name = match command.get_name() {
        "rproxy" => "rproxy".to_owned(),
        name => format!("rproxy {name}"),
    };
    let about = command.get_about().cloned().unwrap_or_default();
    Command::new(name).about(about).term_width(WIDTH).disable_help_subcommand(true)
}

/// Returns the argument of a setting, with the first clause of its help text and its default.
fn short_argument(setting: &'static Setting, default: String) -> Arg {
    let help = setting.help.replace('`', "");
    let help = help.split("; ").next().unwrap_or_default();
    Arg::new(setting.key)
        .long(setting.flag())
        .value_name(setting.placeholder)
        .help_heading("Common settings")
        .help(wrapped(&format!("{help} [{default}]"), SETTING_COLUMN))
}

fn default_of(setting: &Setting) -> String {
    match setting.default {
        DefaultValue::Literal(text) | DefaultValue::Description(text) => text.replace('`', ""),
    }
}

fn after_help() -> String {
    let spellings = "Each setting is also an environment variable (RPROXY_RATE_LIMIT for --rate-limit) and a key in the \
                     file (rate_limit). `rproxy help --all` lists all settings, `rproxy help TOPIC` lists the settings of a topic:";
    format!("{}\n{}", wrapped(spellings, 0), wrapped(&topics().join(", "), 0))
}

/// Wraps a text that starts in `column`, so that no line exceeds [`WIDTH`].
fn wrapped(text: &str, column: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if column + line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// Wraps the help text of an argument that starts in `column`.
fn wrapped_argument(argument: &Arg, column: usize) -> Arg {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    argument.clone().help(wrapped(&help, column))
}

/// The maximum line length of the help texts, in columns.
pub(super) const WIDTH: usize = 100;

// The columns in which clap starts the help of subcommands, options and the common settings. A test checks the width.
const SUBCOMMAND_COLUMN: usize = 15;
const OPTION_COLUMN: usize = 23;
const SETTING_COLUMN: usize = 37;

/// The settings that the short help text lists, because most installations use them.
const COMMON: [&str; 10] = [
    "listen",
    "upstream",
    "routes",
    "tls_domains",
    "tls_email",
    "tls_local",
    "trusted_proxies",
    "rate_limit",
    "access_log",
    "admin_listen",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_in_the_short_help_exists() {
        assert!(COMMON.iter().all(|key| crate::config::find(key).is_some()));
    }

    #[test]
    fn each_help_topic_lists_its_settings() {
        for setting in settings() {
            let text = topic(&slug(setting.heading)).unwrap();
            assert!(text.contains(&format!("--{} ", setting.flag())), "{text}");
        }
        let text = topic("Rate limit").unwrap();
        assert!(text.contains("--rate-burst") && !text.contains("--listen") && !text.contains("--help"), "{text}");
        assert!(topic("rates").unwrap_err().contains("topics are listening, "));
    }
}
