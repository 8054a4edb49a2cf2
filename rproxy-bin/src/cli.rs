//! Parses the command line, without side effects.
//!
//! [`parse`] takes the arguments and the environment, and returns a [`Command`].

mod help;
mod switch;

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::OsStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, ColorChoice, value_parser};
use clap_complete::Shell;
use http::Method;

use self::switch::Arguments;
pub use self::switch::{Switch, SwitchCommandError};
use crate::config::{self, Config, ConfigError, DefaultValue, RENAMED, Report, Setting, Sources, settings};
use crate::explain::explain;
use crate::man_page;
use crate::shell::shell_quoted;
use crate::trust::{Action, CaOwner, Place, Trust, TrustError};
use crate::values;
use crate::values::value::timeout;

/// A parsed command of the `rproxy` binary.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Command {
    /// Runs the proxy.
    Run(Config),
    /// Prints the effective configuration.
    Check(Report),
    /// Runs the proxy in front of the demo site.
    Demo(Config),
    /// Prints how the path filter decides on a path.
    Explain(String),
    /// Prints how to trust the local certificate authority, or changes a trust store.
    Trust(Trust),
    /// Switches the upstream of a running proxy.
    Switch(Switch),
    /// Prints the given help text.
    Help(String),
    /// Prints the given version.
    Version(String),
    /// Prints the given table of settings.
    Reference(String),
    /// Prints the given completion script for a shell.
    Completions(String),
    /// Prints the given manual page.
    Manual(String),
}

/// An invalid command line or configuration.
///
/// The binary prints it and exits with [`EXIT_CODE`](Error::EXIT_CODE).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command-line arguments are invalid.
    #[error("{0}")]
    Usage(String),
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The local certificate authority cannot be trusted, for example because none exists.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Error {
    /// The exit code of the binary for an invalid command line or configuration.
    pub const EXIT_CODE: u8 = 2;
}

/// Parses the command line, and loads the configuration from the file, the environment and the flags.
///
/// `args` starts with the name of the program, like [`std::env::args_os`]; `env` is the result of
/// [`std::env::vars_os`].
///
/// # Errors
///
/// Returns an error if the arguments or the configuration are invalid.
pub fn parse<A, E>(args: A, env: E) -> Result<Command, Error>
where
    A: IntoIterator<Item: Into<OsString>>,
    E: IntoIterator<Item = (OsString, OsString)>,
{
    let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let application = take_application(&mut args)?;
    let env: Vec<(OsString, OsString)> = env.into_iter().collect();
    let words: Vec<String> = args.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            let text = error.render().to_string();
            return match error.kind() {
                clap::error::ErrorKind::DisplayHelp => Ok(Command::Help(text)),
                clap::error::ErrorKind::DisplayVersion => Ok(Command::Version(text)),
                _ => Err(Error::Usage(with_near_miss(&error, text.trim_end(), &words))),
            };
        }
    };
    if let Some((name, subcommand)) = matches.subcommand()
        && name != DEMO
        && subcommand.get_flag(CHECK)
    {
        return Err(Error::Usage(format!(
            "error: the command {name} does not accept --check; to validate a configuration, run: rproxy --config FILE --check"
        )));
    }
    match matches.subcommand() {
        Some((HELP, help)) => match (help.get_flag(ALL), help.get_one::<String>(TOPIC)) {
            (true, _) => Ok(Command::Help(help::all())),
            (_, Some(topic)) => help::topic(topic).map(Command::Help).map_err(Error::Usage),
            _ => Ok(Command::Help(text_of(command()))),
        },
        Some((REFERENCE, _)) => Ok(Command::Reference(config::reference())),
        Some((COMPLETIONS, matches)) => {
            let shell = matches.get_one::<Shell>(SHELL).copied().unwrap_or(Shell::Bash);
            Ok(Command::Completions(completions(shell)))
        }
        Some((MANUAL, _)) => man_page::render(full_command())
            .map(Command::Manual)
            .map_err(|error| Error::Usage(format!("error: cannot render the manual page: {error}"))),
        Some((EXPLAIN, matches)) => {
            let config = sources(matches, env).load()?;
            let method = matches.get_one::<Method>(METHOD).cloned().unwrap_or_default();
            let targets = matches.get_many::<String>(TARGETS).into_iter().flatten();
            targets
                .map(|target| {
                    explain(&config, &method, target).map_err(|error| Error::Usage(format!("error: {error}")))
                })
                .collect::<Result<_, _>>()
                .map(Command::Explain)
        }
        Some((TRUST, trust)) => {
            let config = sources(trust, env.clone()).load()?;
            let place = if trust.get_flag(BROWSER) { Place::Browser } else { Place::System };
            let action = match (trust.get_flag(INSTALL), trust.get_flag(REMOVE)) {
                (true, _) => Action::Install(place),
                (_, true) => Action::Remove(place),
                _ => Action::Explain,
            };
            let file = trust.get_one::<OsString>(CONFIG).map(PathBuf::from);
            // A named configuration never means the authority of the demo.
            let is_named = file.is_some()
                || config.tls.local
                || config.value_source("tls_cache_dir") != config::ValueSource::Default;
            let demo = (!is_named).then(|| state_directory(&env));
            let folders: Vec<_> = std::iter::once((&*config.tls.cache_dir, CaOwner::Proxy(file)))
                .chain(demo.as_deref().map(|folder| (folder, CaOwner::Demo)))
                .collect();
            Ok(Command::Trust(Trust::new(folders, action)?))
        }
        Some((SWITCH, switch)) => {
            let backends: Vec<&str> =
                switch.get_many::<String>(BACKENDS).into_iter().flatten().map(String::as_str).collect();
            let usage = |error: String| Error::Usage(format!("error: {error}"));
            values::upstream::backends(&backends.join(",")).map_err(usage)?;
            let deadline = switch.get_one::<String>(DEADLINE).map_or(Ok(DEFAULT_DEADLINE), |text| timeout(text));
            let arguments = Arguments {
                site: switch.get_one::<String>(SITE).map(String::as_str),
                route: switch.get_one::<String>(ROUTE).map(String::as_str),
                backends,
                deadline: deadline.map_err(|error| usage(error.to_string()))?,
                is_shared: switch.get_flag(SHARED),
            };
            let admin = match switch.get_one::<String>(ADMIN) {
                Some(admin) => admin.clone(),
                None => match &sources(switch, env).load()?.process.admin_listen {
                    Some(listener) => switch::local_address(listener),
                    None => {
                        return Err(usage(
                            "no admin listener; set --admin, or --config FILE with admin_listen".to_owned(),
                        ));
                    }
                },
            };
            match values::upstream::backends(&admin).map_err(usage)?.as_slice() {
                [admin] => Ok(Command::Switch(Switch::new(admin.clone(), &arguments))),
                _ => Err(usage(format!("--admin is not one address: {admin:?}"))),
            }
        }
        Some((DEMO, demo)) => {
            if demo.contains_id("upstream") {
                return Err(Error::Usage(
                    "error: the demo has a built-in upstream and does not accept --upstream".to_owned(),
                ));
            }
            let state = state_directory(&env);
            run_or_check(demo, sources(demo, env).demo(state), Command::Demo)
        }
        _ => {
            let sources = sources(&matches, env);
            let sources = match application {
                Some(command) => sources.set("command", command),
                None => sources,
            };
            run_or_check(&matches, sources, Command::Run)
        }
    }
}

/// Removes the command of an application, which follows `--`, from the arguments. Returns it as the text of the setting.
///
/// Subcommands have no application; their arguments after `--` stay.
fn take_application(args: &mut Vec<OsString>) -> Result<Option<String>, Error> {
    let Some(at) = args.iter().position(|argument| argument == "--") else { return Ok(None) };
    let own = command().ignore_errors(true).try_get_matches_from(&args[..at]);
    if own.is_ok_and(|own| own.subcommand().is_some()) {
        return Ok(None);
    }
    let words: Option<Vec<&str>> = args[at + 1..].iter().map(|word| word.to_str()).collect();
    let words = words.ok_or_else(|| Error::Usage("error: the application after -- is not valid UTF-8".to_owned()))?;
    if words.is_empty() {
        return Err(Error::Usage(format!("error: no application after --\n\nUsage: {USAGE}")));
    }
    // No argument of a process contains NUL, which alone cannot be quoted.
    let command = shlex::try_join(words).unwrap_or_default();
    args.truncate(at);
    Ok(Some(command))
}

/// Returns whether a command line runs the proxy, before it is parsed.
///
/// The arguments of all other commands contain one of their names or flags. If the value of an option is equal to one
/// of these, the result is `false` as well.
pub fn may_run_proxy(args: &[OsString]) -> bool {
    const OTHERS: [&str; 12] =
        [EXPLAIN, TRUST, SWITCH, REFERENCE, COMPLETIONS, MANUAL, HELP, "--check", "--help", "-h", "--version", "-V"];
    // The arguments after `--` are those of an application.
    let mut own = args.iter().skip(1).take_while(|argument| *argument != "--");
    !own.any(|argument| OTHERS.iter().any(|other| argument == other))
}

/// Adds the command line that a user of another server probably means to a usage error.
fn with_near_miss(error: &clap::Error, text: &str, words: &[String]) -> String {
    use clap::error::{ContextKind, ContextValue};
    let wrong = [ContextKind::InvalidSubcommand, ContextKind::InvalidArg].into_iter().find_map(|kind| error.get(kind));
    let Some(ContextValue::String(wrong)) = wrong else { return text.to_owned() };
    let is_file = |word: &&String| word.ends_with(".toml") || word.ends_with(".conf");
    let file = words.iter().find(is_file).map_or_else(|| "FILE".to_owned(), |file| shell_quoted(OsStr::new(file)));
    let advice = match wrong.as_str() {
        "check" | "validate" | "test" | "configtest" | "-t" => {
            format!("to validate a configuration, run: rproxy --config {file} --check")
        }
        "run" | "start" | "serve" => format!("to run the proxy, run: rproxy --config {file}"),
        "reload" => {
            "to reload the configuration, send SIGHUP to the process, or run: systemctl reload rproxy".to_owned()
        }
        "version" => "to print the version, run: rproxy --version".to_owned(),
        word if is_file(&&word.to_owned()) => format!("to read this configuration file, run: rproxy --config {file}"),
        _ => return text.to_owned(),
    };
    // Without the suggestion of a name that happens to be similar.
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("tip:"));
    let text = lines.collect::<Vec<_>>().join("\n").replace("\n\n\n", "\n\n");
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    format!("{first}; {advice}\n{rest}")
}

const DEMO: &str = "demo";
const EXPLAIN: &str = "explain";
const METHOD: &str = "method";
const TARGETS: &str = "urls";
const TRUST: &str = "trust";
const INSTALL: &str = "install";
const REMOVE: &str = "remove";
const BROWSER: &str = "browser";
const SWITCH: &str = "switch";
const SITE: &str = "switch-site";
const ROUTE: &str = "switch-route";
const ADMIN: &str = "switch-admin";
const DEADLINE: &str = "switch-deadline";
const SHARED: &str = "shared";
const BACKENDS: &str = "switch-backends";
/// The deadline of a switch if none is given.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);
const REFERENCE: &str = "reference";
const COMPLETIONS: &str = "completions";
const SHELL: &str = "shell";
const MANUAL: &str = "man";
const HELP: &str = "help";
const ALL: &str = "all";
const TOPIC: &str = "topic";
/// The usage of the command line.
const USAGE: &str = "rproxy [OPTIONS] [COMMAND | -- APPLICATION...]";
const CONFIG: &str = "config";
const CHECK: &str = "check";
const QUIET: &str = "quiet";

fn run_or_check(matches: &ArgMatches, sources: Sources, run: fn(Config) -> Command) -> Result<Command, Error> {
    let config = sources.load()?;
    Ok(match matches.get_flag(CHECK) {
        true => Command::Check(Report::new(config).quiet(matches.get_flag(QUIET))),
        false => run(config),
    })
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut full_command(), "rproxy", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn sources(matches: &ArgMatches, env: Vec<(OsString, OsString)>) -> Sources {
    let mut sources = Sources::new().env(env);
    if let Some(path) = matches.get_one::<OsString>(CONFIG) {
        sources = sources.file(path);
    }
    let former = RENAMED.iter().map(|(former, _)| *former);
    for key in former.chain(settings().map(|setting| setting.key)) {
        if let Some(values) = matches.get_many::<String>(key) {
            let values: Vec<String> = values.cloned().collect();
            let text = config::find(key).map_or_else(|| values.join(","), |setting| setting.joined(&values));
            sources = sources.set(key, text);
        }
    }
    sources
}

/// Returns the definition of the command line, with help texts that fit one screen.
fn command() -> clap::Command {
    help::with_short_help(full_command())
}

fn text_of(mut command: clap::Command) -> String {
    command.render_help().to_string()
}

/// Returns the definition of the command line, with the help texts of all settings.
fn full_command() -> clap::Command {
    let config = Arg::new(CONFIG)
        .long("config")
        .short('c')
        .value_name("FILE")
        .value_parser(OsStringValueParser::new())
        .global(true)
        .help("Reads settings from this TOML file; the environment and flags override it");
    let check = Arg::new(CHECK)
        .long("check")
        .action(ArgAction::SetTrue)
        .global(true)
        .help("Validates and prints configuration and layers; exits with 2 if it is invalid");
    let quiet = Arg::new(QUIET)
        .long("quiet")
        .action(ArgAction::SetTrue)
        .global(true)
        .requires(CHECK)
        .help("With --check, prints only problems");
    clap::Command::new("rproxy")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A reverse proxy built from tower layers. Without arguments, it is configured by the environment.")
        .override_usage(USAGE)
        .after_help(
            "Each setting is also an environment variable (RPROXY_RATE_LIMIT for --rate-limit) and a key in the file (rate_limit).",
        )
        .color(ColorChoice::Never)
        .term_width(help::WIDTH)
        .next_line_help(true)
        .subcommand_precedence_over_arg(true)
        .disable_help_subcommand(true)
        .args([config, check, quiet])
        .args(settings().map(argument))
        .args(RENAMED.iter().filter_map(|(former, _)| former_argument(former)))
        .subcommand(
            clap::Command::new(DEMO).about(
                "Runs the proxy in front of a built-in demo site, on https://localhost:8443",
            ),
        )
        .subcommand(
            clap::Command::new(EXPLAIN)
                .about("Shows the site, route and layers of a URL, and the decision of the path filter")
                .arg(
                    Arg::new(METHOD)
                        .long(METHOD)
                        .value_name("METHOD")
                        .value_parser(method)
                        .help("Method of the request to a URL, which selects the route; GET by default"),
                )
                .arg(
                    Arg::new(TARGETS).value_name("URL").required(true).num_args(1..).help("URL, or a path of the default site, percent-encoded"),
                ),
        )
        .subcommand(
            clap::Command::new(COMPLETIONS)
                .about("Prints a completion script for a shell")
                .arg(
                    Arg::new(SHELL)
                        .value_name("SHELL")
                        .required(true)
                        .value_parser(value_parser!(Shell))
                        .help("Shell for which to print the completion script"),
                ),
        )
        .subcommand(clap::Command::new(MANUAL).about("Prints the manual page in roff format"))
        .subcommand(
            clap::Command::new(TRUST)
                .about("Prints how to trust the local certificate authority, or changes a trust store")
                .arg(flag(INSTALL, "Adds the authority to the trust store of the system").conflicts_with(REMOVE))
                .arg(flag(REMOVE, "Removes the authority from the trust store of the system"))
                .arg(flag(BROWSER, "With --install or --remove: changes the NSS database of this user, which Chrome on Linux reads")),
        )
        .subcommand(
            clap::Command::new(SWITCH)
                .about("Switches the upstream of a running proxy to other backends, once they are healthy")
                .arg(option(SITE, "site", "NAME", "A host of the site, or default; needed if there are several upstreams"))
                .arg(option(ROUTE, "route", "ROUTE", "Route with a separate upstream, as GET /upstream lists it"))
                .arg(option(ADMIN, "admin", "ADDRESS", "Address of the admin listener; by default that of the configuration"))
                .arg(option(DEADLINE, "deadline", "DURATION", "Time limit for health checks, and again for requests in flight [30s]"))
                .arg(flag(SHARED, "Also switches other sites that have the same upstream"))
                .arg(Arg::new(BACKENDS).value_name("BACKEND").required(true).num_args(1..).help("Backends to switch to, as in the setting upstream")),
        )
        .subcommand(
            clap::Command::new(HELP)
                .about("Prints help on all settings or on the settings of one topic")
                .arg(flag(ALL, "Lists all settings"))
                .arg(Arg::new(TOPIC).value_name("TOPIC").conflicts_with(ALL).help(format!("One of {}", help::topics().join(", ")))),
        )
        .subcommand(clap::Command::new(REFERENCE).about("Prints the table of settings as Markdown").hide(true))
}

/// Parses a method, in any case as in the configuration file.
fn method(text: &str) -> Result<Method, String> {
    let error = |_| "not a valid HTTP method; accepted: GET, POST and other methods".to_owned();
    text.to_ascii_uppercase().parse().map_err(error)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn option(name: &'static str, flag: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(flag).value_name(value).help(help)
}

fn argument(setting: &'static Setting) -> Arg {
    let default = match setting.default {
        DefaultValue::Literal(text) | DefaultValue::Description(text) => text.replace('`', ""),
    };
    let help = setting.help.replace('`', "");
    let help = format!("{help}\nAccepts {}. Default: {default}", setting.accepted.replace('`', ""));
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

/// Returns the hidden flag that still accepts a former name of a setting.
fn former_argument(former: &'static str) -> Option<Arg> {
    let argument = argument(config::find(former)?);
    Some(argument.id(former).long(former.replace('_', "-")).hide(true))
}

/// Returns the directory in which the demo stores its certificates.
///
/// It is in `$XDG_STATE_HOME` or `~/.local/state`, so that a browser has to trust the authority only once, or in the
/// directory for temporary files if neither is writable.
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
    // The name contains the process ID, so that no other user can have prepared the directory.
    let temporary = variable("TMPDIR").unwrap_or(OsStr::new("/tmp"));
    Path::new(temporary).join(format!("rproxy-demo-{}", std::process::id()))
}
