//! The sources of settings: the file, then the environment, then the command line. A later source overrides an earlier
//! one.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{ConfigError, Problem, SettingLocation};
use super::settings;
use super::sites::Declarations;
use super::{Config, environment, file, requirements, rules};
use crate::sandbox;
use crate::setting::{self, Setting};
use crate::values::choice::LogFilter;

/// The sources of a [`Config`]: a file, environment variables and command-line settings.
///
/// # Examples
///
/// ```
/// use rproxy::config::Sources;
///
/// let config = Sources::new()
///     .env([("RPROXY_RATE_LIMIT", "50"), ("RPROXY_RATE_BURST", "80")])
///     .set("rate_limit", "20")
///     .load()?;
/// assert_eq!(config.rate_limit.rate.requests().get(), 20);
/// assert_eq!(config.rate_limit.burst_size().get(), 80);
/// # Ok::<(), rproxy::ConfigError>(())
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Sources {
    file: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    command_line: Vec<(String, String)>,
    demo: Option<PathBuf>,
}

impl Sources {
    /// Creates an empty set of sources, which loads the default configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the TOML file to read, replacing any previous file.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Adds environment variables as a source. Variables other than `RPROXY_*` and `RUST_LOG` are ignored.
    pub fn env<K, V>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.env.extend(variables.filter(|(name, _)| environment::is_relevant(name)));
        self
    }

    /// Adds the environment variables of this process as a source.
    pub fn process_env(self) -> Self {
        self.env(std::env::vars_os())
    }

    /// Sets a setting as the command line does, by its key in the file, such as `rate_limit`.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.command_line.push((key.into(), value.into()));
        self
    }

    /// Sets the defaults of the demo, with certificates stored in the directory `state`.
    pub(crate) fn demo(mut self, state: PathBuf) -> Self {
        self.demo = Some(state);
        self
    }

    pub(super) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn file_path(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    pub(super) fn is_demo(&self) -> bool {
        self.demo.is_some()
    }

    /// Reads all sources and returns the validated configuration.
    ///
    /// # Errors
    ///
    /// Returns an error with every unknown name, invalid value and invalid combination of settings.
    pub fn load(self) -> Result<Config, ConfigError> {
        let mut declared = Declarations::default();
        let mut problems = Vec::new();
        if let Some(path) = &self.file {
            file::read(path, &mut declared, &mut problems);
        }
        environment::read(&self.env, &mut declared.assignments, &mut problems);
        for (key, value) in &self.command_line {
            match settings::find(key) {
                Some(setting) => declared.assignments.push(Assignment {
                    setting,
                    key: key.clone(),
                    text: value.clone(),
                    source: ValueSource::CommandLine,
                }),
                None => problems.push(Problem::Unknown {
                    location: ValueSource::CommandLine.locate(key),
                    hint: settings::hint(key, &ValueSource::CommandLine),
                }),
            }
        }

        let mut config = self.base();
        let mut invalid = BTreeSet::new();
        config.assign(std::mem::take(&mut declared.assignments), &mut invalid, &mut problems);
        self.read_rust_log(&mut config, &invalid, &mut problems);
        config.hold_for_application();
        config.add_sites(declared, &mut problems);
        rules::check(&config, &invalid, None, &mut problems);
        // A start would report these next, after the file has become readable. A reload does not bind the ports again.
        if !sandbox::is_active() && requirements::has_denied_file(&config) {
            let inherits = std::env::var_os("LISTEN_FDS").is_some() || config.process.handover_socket.is_some();
            let unmet = requirements::unmet(&config, &[]).filter(|unmet| !(inherits && unmet.is_port));
            problems.extend(unmet.map(Problem::Requirement));
        }
        config.sources = Arc::new(self);
        ConfigError::unless_empty(problems)?;
        Ok(config)
    }

    fn base(&self) -> Config {
        match &self.demo {
            None => Config::default(),
            Some(state) => Config::demo(state),
        }
    }

    /// Applies `RUST_LOG`, which many programs share, unless `log_level` is set.
    fn read_rust_log(&self, config: &mut Config, invalid: &BTreeSet<&str>, problems: &mut Vec<Problem>) {
        const KEY: &str = "log_level";
        if config.value_sources.contains_key(KEY) || invalid.contains(KEY) {
            return;
        }
        let Some((_, value)) = self.env.iter().rev().find(|(name, _)| name == environment::RUST_LOG) else { return };
        let text = value.to_string_lossy();
        if text.trim().is_empty() {
            return;
        }
        match LogFilter::lenient(text.trim()) {
            Ok(filter) => {
                config.observe.log_level = filter;
                config.value_sources.insert(KEY, ValueSource::RustLog);
            }
            Err(error) => problems.push(Problem::BadValue {
                location: ValueSource::RustLog.locate(KEY),
                reason: error.to_string(),
                accepted: "a tracing filter such as info or warn,rproxy=debug",
            }),
        }
    }
}

impl Config {
    /// Parses texts and assigns the values to their settings. Adds the keys of invalid values to `invalid`.
    pub(super) fn assign(
        &mut self,
        assignments: Vec<Assignment>,
        invalid: &mut BTreeSet<&'static str>,
        problems: &mut Vec<Problem>,
    ) {
        for Assignment { setting, key, text, source } in assignments {
            if key != setting.key {
                let current = source.name(setting.key);
                self.deprecations.push(format!("{} is deprecated, use {current} instead", source.locate(&key)));
            }
            match self.set(setting, setting.trimmed(&text)) {
                Ok(()) => {
                    self.value_sources.insert(setting.key, source);
                }
                Err(reason) => {
                    invalid.insert(setting.key);
                    problems.push(Problem::BadValue {
                        location: source.locate(setting.key),
                        reason,
                        accepted: setting.accepted,
                    });
                }
            }
        }
    }
}

/// Formats the names of the settings only, because the values can be secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("env", &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("command_line", &self.command_line.iter().map(|(key, _)| key).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// The text of a setting, with the source that assigns it.
pub(super) struct Assignment {
    pub(super) setting: &'static Setting,
    /// The key that the source contains: the current key of the setting or a former key.
    pub(super) key: String,
    pub(super) text: String,
    pub(super) source: ValueSource,
}

/// The source of the value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueSource {
    /// The built-in default of the setting.
    Default,
    /// A line of the configuration file.
    File {
        /// The path of the affected file.
        path: Arc<Path>,
        /// The line number in the configuration file, starting at 1.
        line: usize,
    },
    /// The environment variable of the setting.
    Environment,
    /// The environment variable `RUST_LOG`.
    RustLog,
    /// The command-line flag of the setting.
    CommandLine,
}

impl ValueSource {
    /// Returns the name of the setting with `key` in this source.
    pub(crate) fn locate(&self, key: &str) -> SettingLocation {
        SettingLocation { source: self.clone(), name: self.name(key) }
    }

    pub(super) fn name(&self, key: &str) -> String {
        match self {
            Self::Default | Self::File { .. } => key.to_owned(),
            Self::Environment => setting::variable(key),
            Self::RustLog => environment::RUST_LOG.to_owned(),
            Self::CommandLine => format!("--{}", setting::flag(key)),
        }
    }
}

/// Formats the source as `default`, `environment`, `command line`, or the file and line.
impl fmt::Display for ValueSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment | Self::RustLog => f.write_str("environment"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

pub(super) type ValueSources = BTreeMap<&'static str, ValueSource>;
