//! The command line of the binary, without its side effects: arguments and environment in, a [`Command`] out.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::builder::OsStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, ColorChoice, value_parser};
use clap_complete::Shell;

use crate::config::{self, Config, ConfigError, DefaultValue, Report, Setting, Sources, settings};
use crate::man_page;
use crate::trust::{Action, Trust, TrustError};

/// What the binary is asked to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Command {
    /// Serve.
    Run(Config),
    /// Say what the configuration comes to, and end.
    Check(Report),
    /// Serve the built-in site.
    Demo(Config),
    /// Print what the path filter makes of some paths, and end.
    Explain(String),
    /// Say how the local authority is trusted, or do it, and end.
    Trust(Trust),
    /// Print this help, and end.
    Help(String),
    /// Print this version, and end.
    Version(String),
    /// Print this table of settings, and end.
    Reference(String),
    /// Print this script, with which a shell completes commands, and end.
    Completions(String),
    /// Print this page for `man`, and end.
    Manual(String),
}

/// Why it can't be done. The binary prints it and exits with [`EXIT_CODE`](Error::EXIT_CODE).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The arguments make no sense.
    #[error("{0}")]
    Usage(String),
    /// The configuration can't be honoured.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is nothing to trust.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Error {
    /// What a program that was called wrongly exits with.
    pub const EXIT_CODE: u8 = 2;
}

/// Reads the command line and everything that it names. `args` starts with the program's name, as
/// [`std::env::args_os`] does; `env` is what [`std::env::vars_os`] gives.
///
/// # Errors
///
/// When the arguments make no sense, or the configuration can't be honoured.
pub fn parse<A, E>(args: A, env: E) -> Result<Command, Error>
where
    A: IntoIterator<Item: Into<OsString>>,
    E: IntoIterator<Item = (OsString, OsString)>,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let env: Vec<(OsString, OsString)> = env.into_iter().collect();
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            let text = error.render().to_string();
            return match error.kind() {
                clap::error::ErrorKind::DisplayHelp => Ok(Command::Help(text)),
                clap::error::ErrorKind::DisplayVersion => Ok(Command::Version(text)),
                _ => Err(Error::Usage(text.trim_end().to_owned())),
            };
        }
    };
    match matches.subcommand() {
        Some((REFERENCE, _)) => Ok(Command::Reference(config::reference())),
        Some((COMPLETIONS, matches)) => {
            let shell = matches.get_one::<Shell>(SHELL).copied().unwrap_or(Shell::Bash);
            Ok(Command::Completions(completions(shell)))
        }
        Some((MANUAL, _)) => man_page::render(command())
            .map(Command::Manual)
            .map_err(|error| Error::Usage(format!("error: no page could be written: {error}"))),
        Some((EXPLAIN, explain)) => {
            let config = sources(explain, env).load()?;
            let targets = explain.get_many::<String>(PATHS).into_iter().flatten();
            targets.map(|target| explain_path(&config, target)).collect::<Result<_, _>>().map(Command::Explain)
        }
        Some((TRUST, trust)) => {
            let config = sources(trust, env.clone()).load()?;
            let action = match (trust.get_flag(INSTALL), trust.get_flag(REMOVE)) {
                (true, _) => Action::Install,
                (_, true) => Action::Remove,
                _ => Action::Explain,
            };
            let folders = [config.tls_cache_dir, state_directory(&env)];
            Ok(Command::Trust(Trust::new(folders.iter().map(PathBuf::as_path), action)?))
        }
        Some((DEMO, demo)) => {
            if demo.contains_id("upstream") {
                return Err(Error::Usage("error: the demo brings its own upstream; leave out --upstream".to_owned()));
            }
            let state = state_directory(&env);
            run_or_check(demo, sources(demo, env).demo(state), Command::Demo)
        }
        _ => run_or_check(&matches, sources(&matches, env), Command::Run),
    }
}

const DEMO: &str = "demo";
const EXPLAIN: &str = "explain";
const PATHS: &str = "paths";
const TRUST: &str = "trust";
const INSTALL: &str = "install";
const REMOVE: &str = "remove";
const REFERENCE: &str = "reference";
const COMPLETIONS: &str = "completions";
const SHELL: &str = "shell";
const MANUAL: &str = "man";
const CONFIG: &str = "config";
const CHECK: &str = "check";

fn run_or_check(matches: &ArgMatches, sources: Sources, run: fn(Config) -> Command) -> Result<Command, Error> {
    let config = sources.load()?;
    Ok(match matches.get_flag(CHECK) {
        true => Command::Check(Report::new(config)),
        false => run(config),
    })
}

/// The readings of a path, as a request has it: what follows a `?` is not looked at.
fn explain_path(config: &Config, target: &str) -> Result<String, Error> {
    let path = target.split('?').next().unwrap_or(target);
    if !path.starts_with('/') {
        return Err(Error::Usage(format!("error: {target:?} is no path: it does not start with a slash")));
    }
    let explanation = config.blocked_paths.explain(path).to_string();
    Ok(match config.filter_enabled {
        true => explanation,
        false => format!("The filter is off; if it were on:\n{explanation}"),
    })
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "rproxy", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn sources(matches: &ArgMatches, env: Vec<(OsString, OsString)>) -> Sources {
    let mut sources = Sources::new().env(env);
    if let Some(path) = matches.get_one::<OsString>(CONFIG) {
        sources = sources.file(path);
    }
    for setting in settings() {
        if let Some(values) = matches.get_many::<String>(setting.key) {
            let values: Vec<&str> = values.map(String::as_str).collect();
            sources = sources.set(setting.key, values.join(","));
        }
    }
    sources
}

fn command() -> clap::Command {
    let config = Arg::new(CONFIG)
        .long("config")
        .short('c')
        .value_name("FILE")
        .value_parser(OsStringValueParser::new())
        .global(true)
        .help("Reads settings from this TOML file; the environment and flags win over it");
    let check = Arg::new(CHECK)
        .long("check")
        .action(ArgAction::SetTrue)
        .global(true)
        .help("Prints the effective configuration and the layers in order, and ends");
    clap::Command::new("rproxy")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A reverse proxy made of tower layers. With no arguments it reads the environment and runs.")
        .after_help(
            "Each setting is also a variable (RPROXY_RATE_LIMIT for --rate-limit) and a key of the file (rate_limit).",
        )
        .color(ColorChoice::Never)
        .term_width(100)
        .next_line_help(true)
        .subcommand_precedence_over_arg(true)
        .disable_help_subcommand(true)
        .args([config, check])
        .args(settings().map(argument))
        .subcommand(
            clap::Command::new(DEMO).about(
                "Serves a small built-in site behind the full stack, on https://localhost:8443; needs nothing else",
            ),
        )
        .subcommand(
            clap::Command::new(EXPLAIN)
                .about("Prints every reading of the paths, and the rule of the path filter that decides on it")
                .arg(
                    Arg::new(PATHS).value_name("PATH").required(true).num_args(1..).help("A path as a request has it"),
                ),
        )
        .subcommand(
            clap::Command::new(COMPLETIONS)
                .about("Prints a script with which a shell completes commands of rproxy")
                .arg(
                    Arg::new(SHELL)
                        .value_name("SHELL")
                        .required(true)
                        .value_parser(value_parser!(Shell))
                        .help("Which shell"),
                ),
        )
        .subcommand(clap::Command::new(MANUAL).about("Prints the manual page, for man"))
        .subcommand(
            clap::Command::new(TRUST)
                .about("Prints how this machine is made to trust the local authority, of the configuration or the demo")
                .arg(flag(INSTALL, "Does it").conflicts_with(REMOVE))
                .arg(flag(REMOVE, "Takes it back")),
        )
        .subcommand(clap::Command::new(REFERENCE).about("Prints the table of settings as Markdown").hide(true))
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn argument(setting: &'static Setting) -> Arg {
    let default = match setting.default {
        DefaultValue::Literal(text) | DefaultValue::Description(text) => text.replace('`', ""),
    };
    let help = setting.help.replace('`', "");
    let help = format!("{help}\nTakes {}. Default: {default}", setting.accepted.replace('`', ""));
    let argument = Arg::new(setting.key)
        .long(setting.flag())
        .value_name(setting.placeholder)
        .help_heading(setting.heading)
        .help(help)
        .global(true)
        .allow_hyphen_values(true);
    match (setting.is_switch(), setting.is_list()) {
        (true, _) => argument.num_args(0..=1).default_missing_value("true").allow_hyphen_values(false),
        (_, true) => argument.action(ArgAction::Append),
        _ => argument,
    }
}

/// Where the demo keeps its certificates, so that a browser has to be told of its authority once only: below
/// `$XDG_STATE_HOME` or `~/.local/state`, and where neither can be written to, in the directory for temporary files.
fn state_directory(env: &[(OsString, OsString)]) -> PathBuf {
    let variable = |name: &str| {
        let value = env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str());
        value.filter(|value| Path::new(value).is_absolute())
    };
    let state = variable("XDG_STATE_HOME").map(PathBuf::from);
    let home = variable("HOME").map(|home| Path::new(home).join(".local/state"));
    let lasting = state.or(home).map(|state| state.join("rproxy"));
    if let Some(directory) = lasting
        && DirBuilder::new().recursive(true).mode(0o700).create(&directory).is_ok()
    {
        return directory;
    }
    // A name of this process's own: another user can't have left something there to be read.
    let temporary = variable("TMPDIR").unwrap_or(OsStr::new("/tmp"));
    Path::new(temporary).join(format!("rproxy-demo-{}", std::process::id()))
}
