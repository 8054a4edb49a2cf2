//! The names of error pages.

use std::fmt;

/// The name of an error page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PageName {
    /// Rejections with the reason `maintenance`.
    Maintenance,
    /// A status from 400 to 599.
    Status(u16),
    /// The first digit of a status, 4 or 5.
    Class(u16),
}

impl PageName {
    /// Parses the name of a file, such as `404.html`.
    pub(crate) fn parse(file: &str) -> Option<Self> {
        match file.strip_suffix(".html")? {
            "maintenance" => Some(Self::Maintenance),
            "4xx" => Some(Self::Class(4)),
            "5xx" => Some(Self::Class(5)),
            status if status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit()) => {
                status.parse().ok().filter(|status| (400..600).contains(status)).map(Self::Status)
            }
            _ => None,
        }
    }
}

/// Formats the name without its extension.
impl fmt::Display for PageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maintenance => f.write_str("maintenance"),
            Self::Status(status) => status.fmt(f),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}
