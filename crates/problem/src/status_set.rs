//! A set of error statuses.

use std::fmt;
use std::str::FromStr;

use http::StatusCode;

/// A set of statuses from 400 to 599, whose responses of the inner service get an error page.
///
/// # Examples
///
/// ```
/// use http::StatusCode;
/// use rproxy_problem::StatusSet;
///
/// let statuses: StatusSet = "404, 502-504".parse()?;
/// assert!(statuses.contains(StatusCode::BAD_GATEWAY) && !statuses.contains(StatusCode::FORBIDDEN));
/// assert!("5xx".parse::<StatusSet>()?.contains(StatusCode::BAD_GATEWAY));
/// # Ok::<(), rproxy_problem::StatusSetError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusSet {
    /// One bit for each status.
    bits: [u64; 4],
}

impl StatusSet {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns whether the set contains a status.
    pub fn contains(&self, status: StatusCode) -> bool {
        let Some(index) = usize::from(status.as_u16()).checked_sub(FIRST) else { return false };
        self.bits.get(index / 64).is_some_and(|bits| bits & (1 << (index % 64)) != 0)
    }

    /// Returns whether the set contains no status.
    pub fn is_empty(&self) -> bool {
        self.bits == [0; 4]
    }

    fn insert(&mut self, first: usize, last: usize) {
        for index in first - FIRST..=last - FIRST {
            self.bits[index / 64] |= 1 << (index % 64);
        }
    }
}

/// Parses a comma-separated list of statuses, ranges such as `502-504`, `4xx` and `5xx`.
impl FromStr for StatusSet {
    type Err = StatusSetError;

    fn from_str(text: &str) -> Result<Self, StatusSetError> {
        let mut set = Self::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let error = || StatusSetError { entry: entry.to_owned() };
            let (first, last) = match entry {
                "4xx" => (400, 499),
                "5xx" => (500, 599),
                _ => {
                    let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
                    let [first, last] = [first, last].map(|status| status_of(status.trim()));
                    (first.ok_or_else(error)?, last.ok_or_else(error)?)
                }
            };
            if first > last {
                return Err(error());
            }
            set.insert(first, last);
        }
        Ok(set)
    }
}

fn status_of(text: &str) -> Option<usize> {
    let is_number = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|status| is_number && (FIRST..=LAST).contains(status))
}

const FIRST: usize = 400;
const LAST: usize = 599;

/// The error for text that cannot be parsed as a [`StatusSet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSetError {
    entry: String,
}

impl fmt::Display for StatusSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad status {:?}: expected a status from 400 to 599, a range such as 502-504, 4xx or 5xx", self.entry)
    }
}

impl std::error::Error for StatusSetError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_statuses_ranges_and_classes() {
        for (text, contained, others) in [
            ("", &[][..], &[400, 404, 599][..]),
            ("404", &[404], &[403, 405, 200]),
            (" 404 ,, 502 - 504 ", &[404, 502, 503, 504], &[403, 501, 505]),
            ("4xx", &[400, 451, 499], &[399, 500]),
            ("5xx,400", &[400, 500, 599], &[401, 499, 600, 999, 100]),
            ("463-465", &[463, 464, 465], &[462, 466]),
        ] {
            let set: StatusSet = text.parse().unwrap();
            let contains = |status: &u16| set.contains(StatusCode::from_u16(*status).unwrap());
            assert!(contained.iter().all(contains) && !others.iter().any(contains), "{text} {set:?}");
            assert_eq!(set.is_empty(), contained.is_empty());
        }
    }

    #[test]
    fn error_names_the_entry() {
        for text in ["200", "399", "600", "504-502", "5XX", "50x", "0404", "+404", "404-", "-404", "404 502", "1000"] {
            let error = format!("403, {text}").parse::<StatusSet>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("bad status {text:?}: expected")), "{error}");
        }
    }
}
