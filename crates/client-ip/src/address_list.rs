//! The text form of a list of address ranges.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cidr::{Cidr, CidrError};

/// A list of address ranges.
///
/// # Examples
///
/// ```
/// use rproxy_client_ip::AddressList;
///
/// let list = AddressList::parse("loopback, 192.0.2.1, 2001:db8::/32")?;
/// assert_eq!(list.into_iter().count(), 4);
/// # Ok::<(), rproxy_client_ip::AddressListError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressList {
    ranges: Vec<Cidr>,
}

impl AddressList {
    /// Parses a comma-separated list, and reads the files that it names.
    ///
    /// | Entry | Ranges |
    /// |---|---|
    /// | `192.0.2.0/24`, `2001:db8::1` | a range or an address |
    /// | `all` | all IPv4 and IPv6 addresses |
    /// | `private`, `loopback`, `cloudflare`, `fastly`, `cloudfront` | [named ranges](Cidr::named) |
    /// | `/path`, `./path`, `../path` | the ranges in a [file](Self::read) |
    ///
    /// # Errors
    ///
    /// If an entry is none of these, or a file cannot be read.
    pub fn parse(text: &str) -> Result<Self, AddressListError> {
        let mut ranges = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            if entry.starts_with(['/', '.']) {
                ranges.extend(Self::read(Path::new(entry))?);
            } else if entry.starts_with(|first: char| first.is_ascii_alphabetic()) && !entry.contains(':') {
                ranges.extend(named(entry).ok_or_else(|| AddressListError::UnknownName(entry.to_owned()))?);
            } else {
                ranges.push(entry.parse::<Cidr>()?);
            }
        }
        Ok(Self { ranges })
    }

    /// Reads a file with one range or address per line. Empty lines, and text after `#`, are ignored.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or a line is not a range. The error names the file and the line.
    pub fn read(file: &Path) -> Result<Self, AddressListError> {
        let text =
            fs::read_to_string(file).map_err(|error| AddressListError::Unreadable { file: file.to_owned(), error })?;
        let mut ranges = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            let entry = line.split_once('#').map_or(line, |(entry, _comment)| entry).trim();
            if !entry.is_empty() {
                let error = |error| AddressListError::Line { file: file.to_owned(), line: number, error };
                ranges.push(entry.parse::<Cidr>().map_err(error)?);
            }
        }
        Ok(Self { ranges })
    }
}

fn named(name: &str) -> Option<Vec<Cidr>> {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "all" => Some(["0.0.0.0/0", "::/0"].iter().filter_map(|range| range.parse().ok()).collect()),
        _ => Cidr::named(&name),
    }
}

impl FromIterator<Cidr> for AddressList {
    fn from_iter<I: IntoIterator<Item = Cidr>>(ranges: I) -> Self {
        Self { ranges: ranges.into_iter().collect() }
    }
}

impl IntoIterator for AddressList {
    type Item = Cidr;
    type IntoIter = std::vec::IntoIter<Cidr>;

    fn into_iter(self) -> Self::IntoIter {
        self.ranges.into_iter()
    }
}

/// The error for text or a file that cannot be parsed as an [`AddressList`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressListError {
    /// An entry of the list is not a valid address or range.
    #[error(transparent)]
    Cidr(#[from] CidrError),
    /// An entry of the list is neither a range nor a known name.
    #[error(
        "unknown address range {0:?}: expected a CIDR, an address, all, private, loopback, cloudflare, fastly, cloudfront, or the path of a file such as ./{0}"
    )]
    UnknownName(String),
    /// The file cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Unreadable {
        /// The path of the file.
        file: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// A line of a file is not a valid address or range.
    #[error("{}:{line}: {error}", file.display())]
    Line {
        /// The path of the file.
        file: PathBuf,
        /// The number of the line, starting at 1.
        line: u64,
        /// The reason.
        error: CidrError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_ranges_addresses_names_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("office.txt");
        fs::write(&file, "# Office\r\n192.0.2.0/28\r\n\n  2001:db8::1 # the printer\n").unwrap();
        for (text, ranges) in [
            ("", vec![]),
            (" 192.0.2.1 ,, 2001:db8::/32 ", vec!["192.0.2.1", "2001:db8::/32"]),
            ("Loopback", vec!["127.0.0.0/8", "::1"]),
            ("all", vec!["0.0.0.0/0", "::/0"]),
            ("fc00::/7", vec!["fc00::/7"]),
            (file.to_str().unwrap(), vec!["192.0.2.0/28", "2001:db8::1"]),
        ] {
            let expected = ranges.into_iter().map(|range| range.parse().unwrap()).collect();
            assert_eq!(AddressList::parse(text).unwrap(), expected, "{text}");
        }
        assert_eq!(AddressList::parse("private").unwrap().into_iter().count(), 7);
    }

    #[test]
    fn errors_name_the_entry_or_the_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("office.txt");
        fs::write(&file, "192.0.2.0/28\n\n192.0.2.0/33\n").unwrap();
        let path = file.to_str().unwrap();
        for (text, start) in [
            ("192.0.2.0/33", "bad CIDR \"192.0.2.0/33\": the prefix length is greater than 32".to_owned()),
            ("192.0.2.1, office.txt", "unknown address range \"office.txt\": expected a CIDR".to_owned()),
            ("./missing.txt", "cannot read ./missing.txt: ".to_owned()),
            (path, format!("{path}:3: bad CIDR \"192.0.2.0/33\": ")),
        ] {
            let error = AddressList::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&start), "{error}");
        }
    }
}
