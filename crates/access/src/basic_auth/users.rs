//! The users file, in the format of Apache's `htpasswd`.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs, io};

use super::password_hash::{HashError, PasswordHash};

/// The users and the hashes of their passwords.
///
/// # Examples
///
/// ```no_run
/// use std::path::Path;
///
/// use rproxy_access::{BasicAuthLayer, Users};
///
/// // A file of `htpasswd -B`.
/// let layer = BasicAuthLayer::new(Users::read(Path::new("/etc/rproxy/users"))?);
/// # let _ = layer;
/// # Ok::<(), rproxy_access::UsersError>(())
/// ```
#[derive(Clone)]
pub struct Users {
    indices: HashMap<Arc<str>, usize>,
    users: Vec<User>,
    /// Selects the hash that stands for the password of an unknown user.
    selection: RandomState,
}

#[derive(Clone)]
struct User {
    name: Arc<str>,
    hash: PasswordHash,
}

impl Users {
    /// Reads a file with a user per line.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or for the reasons of [`parse`](Self::parse). The error names the file and the line.
    pub fn read(file: &Path) -> Result<Self, UsersError> {
        let text = fs::read_to_string(file).map_err(|error| UsersError::Unreadable { file: file.to_owned(), error })?;
        Self::parse_lines(&text).map_err(|(line, problem)| {
            UsersError::Line(Box::new(InvalidLine { file: Some(file.to_owned()), line, problem }))
        })
    }

    /// Parses text with a user per line: a name, a colon, and a bcrypt or Argon2 hash. Text after another colon, empty lines,
    /// and lines that start with `#` are ignored.
    ///
    /// # Errors
    ///
    /// If a line is malformed, a name is repeated, a hash is of another kind or takes too long to check, or there is no user.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_access::Users;
    ///
    /// assert!(Users::parse("alice:$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n").is_ok());
    /// let error = Users::parse("alice:$apr1$u9dGHM6E$9YlkLrhKhpMAG05hfZSsQ1\n").unwrap_err();
    /// assert!(error.to_string().starts_with("line 1: alice has an MD5 hash ($apr1$), which is not supported"));
    /// ```
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        Self::parse_lines(text)
            .map_err(|(line, problem)| UsersError::Line(Box::new(InvalidLine { file: None, line, problem })))
    }

    fn parse_lines(text: &str) -> Result<Self, (usize, LineProblem)> {
        let mut users = Self { indices: HashMap::new(), users: Vec::new(), selection: RandomState::new() };
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim_end();
            if !line.is_empty() && !line.starts_with('#') {
                users.add(line).map_err(|problem| (number, problem))?;
            }
        }
        match users.users.is_empty() {
            true => Err((text.lines().count().max(1), LineProblem::NoUser)),
            false => Ok(users),
        }
    }

    fn add(&mut self, line: &str) -> Result<(), LineProblem> {
        let (name, rest) = line.split_once(':').ok_or(LineProblem::NoColon)?;
        // RFC 7617 §2
        if name.is_empty() || name.contains(char::is_control) {
            return Err(LineProblem::BadName);
        }
        let hash = rest.split_once(':').map_or(rest, |(hash, _comment)| hash);
        let hash = PasswordHash::parse(hash).map_err(|error| LineProblem::Hash(name.to_owned(), error))?;
        match self.indices.entry(name.into()) {
            Entry::Occupied(_) => return Err(LineProblem::Repeated(name.to_owned())),
            Entry::Vacant(entry) => {
                self.users.push(User { name: Arc::clone(entry.key()), hash });
                entry.insert(self.users.len() - 1);
            }
        }
        Ok(())
    }

    /// Returns the number of users.
    #[allow(clippy::len_without_is_empty, reason = "there is at least one user")]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Returns the index of a user.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.indices.get(name).copied()
    }

    pub(crate) fn name(&self, index: usize) -> Option<&Arc<str>> {
        self.users.get(index).map(|user| &user.name)
    }

    /// Returns the index of the user if the password is right.
    ///
    /// For an unknown user, the password is compared with the hash of some user, always the same for one name. So it takes the
    /// same time as for a known user, even if the kinds and costs of the hashes differ.
    pub(crate) fn verify(&self, name: &str, password: &[u8]) -> Option<usize> {
        let known = self.index(name);
        let count = self.users.len() as u64;
        let selected = known.unwrap_or_else(|| (self.selection.hash_one(name) % count.max(1)) as usize);
        let is_right = self.users.get(selected)?.hash.verify(password);
        known.filter(|_| is_right)
    }
}

/// Formats the number of users.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The error for text or a file that cannot be parsed as [`Users`]. It contains no hash.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Unreadable {
        /// The path of the file.
        file: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// A line is not valid.
    #[error("{0}")]
    Line(Box<InvalidLine>),
}

/// A line of a users file that is not valid.
#[derive(Debug)]
pub struct InvalidLine {
    file: Option<PathBuf>,
    line: usize,
    problem: LineProblem,
}

#[derive(Debug)]
enum LineProblem {
    NoColon,
    BadName,
    NoUser,
    Repeated(String),
    Hash(String, HashError),
}

impl fmt::Display for InvalidLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}:{}: ", file.display(), self.line)?,
            None => write!(f, "line {}: ", self.line)?,
        }
        match &self.problem {
            LineProblem::NoColon => f.write_str("expected a user name, a colon and a hash"),
            LineProblem::BadName => f.write_str("the user name is empty or contains a control character"),
            LineProblem::NoUser => f.write_str("there is no user"),
            LineProblem::Repeated(name) => write!(f, "the user {name} is repeated"),
            LineProblem::Hash(name, error) => {
                write!(f, "{name} has {error}; create a bcrypt hash with: htpasswd -B")?;
                match &self.file {
                    Some(file) => write!(f, " {} {name}", file.display()),
                    None => write!(f, " FILE {name}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

    #[test]
    fn parses_comments_empty_lines_and_trailing_fields() {
        let text = format!("# The office\r\n\r\nalice:{HASH}:Alice\r\nj\u{fc}rgen:{HASH}\n");
        let users = Users::parse(&text).unwrap();
        assert_eq!(users.len(), 2);
        assert_eq!(users.verify("alice", b"U*U"), Some(0));
        assert_eq!(users.verify("j\u{fc}rgen", b"U*U"), Some(1));
        for (name, password) in [("alice", "U*V"), ("bob", "U*U"), ("", "U*U"), ("Alice", "U*U")] {
            assert_eq!(users.verify(name, password.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_command_but_not_the_hash() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        let shown = file.display();
        for (text, message) in [
            ("# none\n".to_owned(), format!("{shown}:1: there is no user")),
            (format!("alice:{HASH}\nbob\n"), format!("{shown}:2: expected a user name, a colon and a hash")),
            (format!(":{HASH}\n"), format!("{shown}:1: the user name is empty or contains a control character")),
            (format!("alice:{HASH}\n\nalice:{HASH}\n"), format!("{shown}:3: the user alice is repeated")),
            (
                format!("alice:{HASH}\nbob:{{SHA}}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n"),
                format!(
                    "{shown}:2: bob has an unsalted SHA-1 hash ({{SHA}}), which is not supported; create a bcrypt hash with: \
                     htpasswd -B {shown} bob"
                ),
            ),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(Users::read(&file).unwrap_err().to_string(), message);
        }
        assert!(Users::read(&folder.path().join("none")).unwrap_err().to_string().starts_with("cannot read "));
    }
}
