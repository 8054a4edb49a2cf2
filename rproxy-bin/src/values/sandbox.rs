//! The user of the process, and the mode of its sandbox.

use std::fmt;
use std::str::FromStr;

use super::value::ParseError;

/// The name or number of a user, and of a group if one is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName {
    user: String,
    group: Option<String>,
}

impl UserName {
    /// Returns the name or number of the user.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Returns the name or number of the group, if one is given.
    pub(crate) fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }
}

impl FromStr for UserName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = |reason: &str| ParseError::new("user", text, reason);
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let is_name = |name: &str| {
            let is_valid = |c: char| c.is_ascii_alphanumeric() || "_-.$@".contains(c);
            !name.is_empty() && name.chars().all(is_valid) && !name.starts_with('-')
        };
        if !is_name(user) || !group.is_none_or(is_name) {
            return Err(error("not USER or USER:GROUP"));
        }
        if user == "root" || user.parse() == Ok(0) {
            return Err(error("root keeps all privileges"));
        }
        Ok(Self { user: user.to_owned(), group: group.map(str::to_owned) })
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        self.group.iter().try_for_each(|group| write!(f, ":{group}"))
    }
}

/// Whether the process limits its access to files and ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SandboxMode {
    /// The process has no sandbox.
    #[default]
    Off,
    /// The process uses the sandbox if the kernel has it.
    Auto,
    /// The process does not start without the sandbox.
    On,
}

impl FromStr for SandboxMode {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().as_str() {
            "off" | "false" | "no" | "0" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            "on" | "true" | "yes" | "1" => Ok(Self::On),
            _ => Err(ParseError::new("sandbox", text, "unknown mode")),
        }
    }
}

impl fmt::Display for SandboxMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Auto => "auto",
            Self::On => "on",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_has_a_name_or_number_and_is_not_root() {
        for text in ["www-data", "www-data:adm", "65534:65534", "_rproxy", "a.b"] {
            assert_eq!(text.parse::<UserName>().unwrap().to_string(), text);
        }
        for (text, reason) in [
            ("root", "root keeps all privileges"),
            ("0:33", "root keeps all privileges"),
            ("00", "root keeps all privileges"),
            ("", "not USER"),
            ("a:", "not USER"),
            (":a", "not USER"),
            ("a b", "not USER"),
            ("a:b:c", "not USER"),
        ] {
            let error = text.parse::<UserName>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
