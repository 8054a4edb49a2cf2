//! The command of an application.

use std::fmt;
use std::str::FromStr;

use super::value::ParseError;

/// The program of an application and its arguments.
///
/// The text is split into words as a POSIX shell does, with quotes and backslashes. No shell runs it, so that variables,
/// globs, pipes and `&&` have no meaning: write `sh -c '...'` for these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationCommand {
    words: Vec<String>,
}

impl ApplicationCommand {
    /// Returns the name or path of the program.
    pub(crate) fn program(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// Returns the arguments of the program.
    pub(crate) fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}

impl FromStr for ApplicationCommand {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = |reason: &str| ParseError::new("command", text, reason);
        if text.contains('\0') {
            return Err(error("contains a NUL character"));
        }
        let words = shlex::split(text).ok_or_else(|| error("a quote or backslash at the end is incomplete"))?;
        match words.first() {
            Some(program) if !program.is_empty() => Ok(Self { words }),
            _ => Err(error("no program")),
        }
    }
}

impl fmt::Display for ApplicationCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shlex::try_join(self.words.iter().map(String::as_str)).unwrap_or_default())
    }
}

/// The exits of an application after which it is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestartPolicy {
    /// All exits except those with status 0.
    #[default]
    OnFailure,
    /// All exits.
    Always,
    /// None.
    Never,
}

impl FromStr for RestartPolicy {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().as_str() {
            "on-failure" => Ok(Self::OnFailure),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(ParseError::new("restart policy", text, "unknown policy")),
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnFailure => "on-failure",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_a_command_as_a_shell_and_writes_it_back() {
        for (text, words) in [
            ("node server.js", &["node", "server.js"][..]),
            ("  node   'my server.js' ", &["node", "my server.js"]),
            (r#"sh -c "exec node \"a b.js\"""#, &["sh", "-c", r#"exec node "a b.js""#]),
            ("'' a", &[]),
            ("", &[]),
            ("  ", &[]),
            ("node 'a", &[]),
            ("node \\", &[]),
            ("node \0", &[]),
        ] {
            let parsed = text.parse::<ApplicationCommand>();
            assert_eq!(parsed.is_err(), words.is_empty(), "{text:?}");
            if let Ok(command) = parsed {
                assert_eq!(
                    (command.program(), command.arguments()),
                    (words[0], &words[1..].iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()[..])
                );
                assert_eq!(command.to_string().parse::<ApplicationCommand>().unwrap(), command, "{text:?}");
            }
        }
    }
}
