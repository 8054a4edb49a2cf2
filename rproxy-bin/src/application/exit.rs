//! The end of an application, and the exit code that rproxy takes over from it.

use std::fmt;
use std::io;

use rustix::process::{Signal, WaitStatus};

/// How an application ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApplicationExit {
    /// The application exited with this status.
    Status(u8),
    /// A signal with this number ended the application.
    Signal(i32),
    /// The application could not be started.
    NotStarted(io::ErrorKind),
}

impl ApplicationExit {
    /// Returns how a process ended, or `None` if it has not ended.
    pub(super) fn of(status: WaitStatus) -> Option<Self> {
        if let Some(code) = status.exit_status() {
            // The kernel passes the lowest eight bits of the status.
            return Some(Self::Status(u8::try_from(code).unwrap_or(u8::MAX)));
        }
        status.terminating_signal().map(Self::Signal)
    }

    /// Returns whether the application exited with status 0.
    pub fn is_success(self) -> bool {
        self == Self::Status(0)
    }

    /// Returns the exit code of rproxy after this end: the status, 128 plus the number of the signal, or as in a shell 127 if
    /// the program does not exist and 126 if it cannot be started.
    pub fn code(self) -> u8 {
        match self {
            Self::Status(status) => status,
            Self::Signal(signal) => 128_u8.saturating_add(u8::try_from(signal).unwrap_or(u8::MAX)),
            Self::NotStarted(io::ErrorKind::NotFound) => 127,
            Self::NotStarted(_) => 126,
        }
    }
}

impl fmt::Display for ApplicationExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exited with status {status}"),
            Self::Signal(number) => match Signal::from_named_raw(*number) {
                Some(signal) => {
                    let name = format!("{signal:?}");
                    let name = name.trim_matches('"').trim_start_matches("Signal::");
                    write!(f, "was ended by signal {number} (SIG{name})")
                }
                None => write!(f, "was ended by signal {number}"),
            },
            Self::NotStarted(io::ErrorKind::NotFound) => f.write_str(
                "cannot be started: no such program in PATH; quote it as one word if its path contains spaces",
            ),
            Self::NotStarted(kind) => write!(f, "cannot be started: {kind}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_is_that_of_a_shell() {
        for (exit, code, text) in [
            (ApplicationExit::Status(0), 0, "exited with status 0"),
            (ApplicationExit::Status(3), 3, "exited with status 3"),
            (ApplicationExit::Signal(9), 137, "was ended by signal 9 (SIGKILL)"),
            (ApplicationExit::Signal(500), 255, "was ended by signal 500"),
            (ApplicationExit::NotStarted(io::ErrorKind::NotFound), 127, "cannot be started: no such program"),
            (ApplicationExit::NotStarted(io::ErrorKind::PermissionDenied), 126, "cannot be started: permission denied"),
        ] {
            assert_eq!((exit.code(), exit.is_success()), (code, code == 0));
            assert!(exit.to_string().starts_with(text), "{exit}");
        }
    }
}
