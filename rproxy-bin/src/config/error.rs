//! Errors in the configuration.

use std::fmt;
use std::path::PathBuf;

use super::requirements::UnmetRequirement;
use super::source::ValueSource;
use crate::setting::Scope;

/// The error for an invalid configuration, which lists all problems.
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// Returns an error that contains `problems`, sorted by location, or `Ok` if there are none.
    pub(super) fn unless_empty(mut problems: Vec<Problem>) -> Result<(), Self> {
        problems.sort_by_key(Problem::sort_key);
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Self { problems }),
        }
    }

    /// Returns the problems of the file, the environment, the command line and combinations of settings, in this order.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// Formats as `Display` does, because a `main` function that returns the error prints its `Debug` form.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigError {}

/// One problem in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The setting has a value that it does not accept.
    #[error("{location}: {reason}; accepted: {accepted}")]
    BadValue {
        /// The invalid setting and its source.
        location: SettingLocation,
        /// The rejected value and the reason for the rejection.
        reason: String,
        /// The values that the setting accepts.
        accepted: &'static str,
    },
    /// The configuration contains a name that is not a setting.
    #[error("{}unknown setting {:?}, {hint}", location.source_prefix(), location.name)]
    Unknown {
        /// The unknown name and the source that contains it.
        location: SettingLocation,
        /// A suggestion, such as a setting with a similar name.
        hint: String,
    },
    /// A site or route contains a setting that is only valid in an outer scope.
    #[error("{location}: is a setting of the {}; {}", scope.as_str(), scope.place())]
    WrongScope {
        /// The misplaced setting and its source.
        location: SettingLocation,
        /// The scope in which the setting is valid.
        scope: Scope,
    },
    /// The combination of settings is invalid, or this machine does not support it.
    #[error("{location}: {reason}")]
    Conflict {
        /// One of the conflicting settings and its source.
        location: SettingLocation,
        /// The reason that the combination is invalid.
        reason: String,
    },
    /// This machine or user does not meet a requirement, such as a privileged port.
    #[error(transparent)]
    Requirement(UnmetRequirement),
    /// The configuration file is not valid TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The path of the affected file.
        path: PathBuf,
        /// The line number in the configuration file, starting at 1.
        line: usize,
        /// The message of the TOML parser.
        message: String,
    },
    /// The configuration file cannot be read.
    #[error("{}: cannot read the file: {reason}", path.display())]
    File {
        /// The path of the affected file.
        path: PathBuf,
        /// The error message of the operating system.
        reason: String,
    },
}

impl Problem {
    /// Returns the sort key of a problem: the file by line, the environment, the command line, then combinations.
    fn sort_key(&self) -> (u8, usize) {
        match self {
            Self::File { .. } => (0, 0),
            Self::Syntax { line, .. } => (0, *line),
            Self::BadValue { location, .. } | Self::Unknown { location, .. } | Self::WrongScope { location, .. } => {
                location.source.place()
            }
            Self::Conflict { .. } | Self::Requirement(_) => (3, 0),
        }
    }
}

impl ValueSource {
    fn place(&self) -> (u8, usize) {
        match self {
            Self::File { line, .. } => (0, *line),
            Self::Default | Self::Environment | Self::RustLog => (1, 0),
            Self::CommandLine => (2, 0),
        }
    }
}

/// The name of a setting in the spelling of the source: `RPROXY_LISTEN`, `--listen`, `rproxy.toml:3: listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingLocation {
    /// The source of the setting's value.
    pub source: ValueSource,
    /// The name of the setting in the spelling of the source.
    pub name: String,
}

impl SettingLocation {
    /// Returns the file and line as the start of a message, or an empty string for other sources.
    fn source_prefix(&self) -> String {
        match &self.source {
            source @ ValueSource::File { .. } => format!("{source}: "),
            _ => String::new(),
        }
    }
}

impl fmt::Display for SettingLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.source_prefix(), self.name)
    }
}
