//! Why a configuration is refused.

use std::fmt;
use std::path::PathBuf;

use super::source::ValueSource;

/// A configuration that can't be honoured. It names every problem that was found, not only the first.
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// Nothing when there is no problem.
    pub(super) fn unless_empty(mut problems: Vec<Problem>) -> Result<(), Self> {
        problems.sort_by_key(Problem::place);
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Self { problems }),
        }
    }

    /// What is wrong: first what is in the file, then in the environment, then on the command line, then between
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

/// The message: it is what a `main` that returns the error prints.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A value that its setting does not take.
    #[error("{location}: {reason}; accepted: {accepted}")]
    BadValue {
        /// Where it was given.
        location: SettingLocation,
        /// The value, and what is wrong with it.
        reason: String,
        /// What the setting takes.
        accepted: &'static str,
    },
    /// A name that no setting has.
    #[error("{location}: no such setting; {hint}")]
    Unknown {
        /// Where it was given.
        location: SettingLocation,
        /// What may have been meant.
        hint: String,
    },
    /// Settings that do not go together, or that this machine can't honour.
    #[error("{location}: {reason}")]
    Conflict {
        /// Where one of them was given.
        location: SettingLocation,
        /// Why not.
        reason: String,
    },
    /// A file that is not TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A file that can't be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

impl Problem {
    /// Where it stands among others: the file by line, the environment, the command line, then what is between them.
    fn place(&self) -> (u8, usize) {
        match self {
            Self::File { .. } => (0, 0),
            Self::Syntax { line, .. } => (0, *line),
            Self::BadValue { location, .. } | Self::Unknown { location, .. } => match location.source {
                ValueSource::File { line, .. } => (0, line),
                ValueSource::Default | ValueSource::Environment | ValueSource::RustLog => (1, 0),
                ValueSource::CommandLine => (2, 0),
            },
            Self::Conflict { .. } => (3, 0),
        }
    }
}

/// A setting as the person who gave it calls it: `RPROXY_LISTEN`, `--listen`, or `rproxy.toml:3: listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingLocation {
    /// Where it was given.
    pub source: ValueSource,
    /// The setting's name there.
    pub name: String,
}

impl fmt::Display for SettingLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            ValueSource::File { .. } => write!(f, "{}: {}", self.source, self.name),
            _ => f.write_str(&self.name),
        }
    }
}
