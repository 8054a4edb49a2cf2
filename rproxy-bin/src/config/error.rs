//! Errors in a configuration.

use std::fmt;
use std::path::PathBuf;

use super::requirements::UnmetRequirement;
use super::source::ValueSource;
use crate::setting::Scope;

/// An invalid configuration, with all problems that were found.
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// Returns an error if there are problems, sorted by their location.
    pub(super) fn unless_empty(mut problems: Vec<Problem>) -> Result<(), Self> {
        problems.sort_by_key(Problem::sort_key);
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Self { problems }),
        }
    }

    /// Returns the problems: those of the file first, then of the environment, the command line, and combinations of
    /// settings.
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

/// Prints the message, since a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigError {}

/// A problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A value that the setting does not accept.
    #[error("{location}: {reason}; accepted: {accepted}")]
    BadValue {
        /// The setting and its source.
        location: SettingLocation,
        /// The value and the reason why it is invalid.
        reason: String,
        /// The accepted values.
        accepted: &'static str,
    },
    /// A name that is not a setting.
    #[error("{}unknown setting {:?}, {hint}", location.source_prefix(), location.name)]
    Unknown {
        /// The name and its source.
        location: SettingLocation,
        /// A suggestion.
        hint: String,
    },
    /// A setting in a table of another scope.
    #[error("{location}: belongs to the {}, {}", scope.as_str(), scope.place())]
    WrongScope {
        /// The location of the setting.
        location: SettingLocation,
        /// The scope of the setting.
        scope: Scope,
    },
    /// A combination of settings that is invalid, or that this machine does not support.
    #[error("{location}: {reason}")]
    Conflict {
        /// One of the settings and its source.
        location: SettingLocation,
        /// The reason why the combination is invalid.
        reason: String,
    },
    /// Something that this machine or user lacks.
    #[error(transparent)]
    Requirement(UnmetRequirement),
    /// A file with invalid TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The message of the parser.
        message: String,
    },
    /// A file that cannot be read.
    #[error("{}: cannot read the file: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The message of the operating system.
        reason: String,
    },
}

impl Problem {
    /// Returns the sort key of the problem: file by line, environment, command line, combinations.
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

/// The name of a setting in the spelling of its source: `RPROXY_LISTEN`, `--listen`, `rproxy.toml:3: listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingLocation {
    /// The source of the value.
    pub source: ValueSource,
    /// The name in the spelling of that source.
    pub name: String,
}

impl SettingLocation {
    /// Returns the file and line as the start of a message, and nothing for other sources.
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
