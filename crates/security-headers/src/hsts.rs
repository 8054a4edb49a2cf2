//! `Strict-Transport-Security` (RFC 6797).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderValue;

/// For how long, and for which hosts, a browser is to insist on TLS.
///
/// ```
/// use std::time::Duration;
///
/// use rproxy_security_headers::{Hsts, HstsError, SecurityHeadersLayer};
///
/// fn main() -> Result<(), HstsError> {
///     let two_years = Duration::from_secs(2 * 365 * 24 * 60 * 60);
///     let hsts = Hsts::max_age(two_years).include_subdomains(true).preload(true)?;
///     let layer = SecurityHeadersLayer::recommended().hsts(hsts);
///     # let _ = layer;
///     // A browser keeps a preloaded host for years, so half a promise is refused.
///     assert_eq!(Hsts::max_age(two_years).preload(true), Err(HstsError::PreloadWithoutSubdomains));
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Hsts {
    max_age: Duration,
    include_subdomains: bool,
    preload: bool,
}

impl Hsts {
    /// In whole seconds, for this host only. Zero tells browsers to forget (RFC 6797 §6.1.1).
    pub const fn max_age(max_age: Duration) -> Self {
        Self { max_age, include_subdomains: false, preload: false }
    }

    /// Whether the host's subdomains are meant, too. Without them there is no preloading either, so
    /// `false` takes that back.
    pub const fn include_subdomains(self, include_subdomains: bool) -> Self {
        Self { include_subdomains, preload: self.preload && include_subdomains, ..self }
    }

    /// Whether browsers may ship with this host built in.
    ///
    /// # Errors
    ///
    /// When the lists at <https://hstspreload.org> would not take it: they want a year or more, and
    /// the subdomains.
    pub fn preload(self, preload: bool) -> Result<Self, HstsError> {
        if preload && self.max_age.as_secs() < YEAR.as_secs() {
            return Err(HstsError::PreloadTooShort { max_age: self.max_age });
        }
        if preload && !self.include_subdomains {
            return Err(HstsError::PreloadWithoutSubdomains);
        }
        Ok(Self { preload, ..self })
    }

    /// Whether browsers may ship with it.
    pub const fn is_preloadable(self) -> bool {
        self.preload
    }

    pub(crate) fn header_value(self) -> HeaderValue {
        // Its words and digits are always a header value.
        HeaderValue::try_from(self.to_string()).unwrap_or(HeaderValue::from_static("max-age=31536000"))
    }
}

impl fmt::Display for Hsts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "max-age={}", self.max_age.as_secs())?;
        if self.include_subdomains {
            f.write_str("; includeSubDomains")?;
        }
        if self.preload {
            f.write_str("; preload")?;
        }
        Ok(())
    }
}

impl FromStr for Hsts {
    type Err = HstsError;

    /// Reads the header's form, `max-age=63072000; includeSubDomains; preload`, in any case and order (RFC 6797 §6.1).
    fn from_str(text: &str) -> Result<Self, HstsError> {
        let (mut max_age, mut include_subdomains, mut preload) = (None, false, false);
        for directive in text.split(';').map(str::trim).filter(|directive| !directive.is_empty()) {
            let bad = || HstsError::Directive(directive.to_owned());
            let (name, value) = match directive.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
                None => (directive, None),
            };
            match (name.to_ascii_lowercase().as_str(), value) {
                ("max-age", Some(seconds)) if max_age.is_none() => max_age = Some(seconds.parse().map_err(|_| bad())?),
                ("includesubdomains", None) => include_subdomains = true,
                ("preload", None) => preload = true,
                _ => return Err(bad()),
            }
        }
        let max_age = Duration::from_secs(max_age.ok_or(HstsError::NoMaxAge)?);
        Self::max_age(max_age).include_subdomains(include_subdomains).preload(preload)
    }
}

/// What no browser or no preload list takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HstsError {
    /// Less than a year.
    #[error("HSTS preload needs a max-age of at least 31536000 seconds, not {}", max_age.as_secs())]
    PreloadTooShort {
        /// What was asked for.
        max_age: Duration,
    },
    /// The host alone.
    #[error("HSTS preload needs includeSubDomains")]
    PreloadWithoutSubdomains,
    /// A text without the directive that there has to be.
    #[error("HSTS needs a max-age")]
    NoMaxAge,
    /// A directive that is none, or there twice.
    #[error("bad HSTS directive {0:?}: neither max-age=SECONDS nor includeSubDomains nor preload")]
    Directive(String),
}

pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_and_written() {
        for (text, written) in [
            ("max-age=0", "max-age=0"),
            ("Max-Age=\"63072000\" ;; INCLUDESUBDOMAINS", "max-age=63072000; includeSubDomains"),
            ("preload; includeSubDomains; max-age=31536000", "max-age=31536000; includeSubDomains; preload"),
        ] {
            assert_eq!(text.parse::<Hsts>().unwrap().to_string(), written);
        }
        let bad = |directive: &str| HstsError::Directive(directive.to_owned());
        for (text, error) in [
            ("", HstsError::NoMaxAge),
            ("includeSubDomains", HstsError::NoMaxAge),
            ("max-age=year", bad("max-age=year")),
            ("max-age=-1", bad("max-age=-1")),
            ("max-age", bad("max-age")),
            ("max-age=1; max-age=2", bad("max-age=2")),
            ("max-age=1; include-subdomains", bad("include-subdomains")),
            ("max-age=31536000; preload", HstsError::PreloadWithoutSubdomains),
            (
                "max-age=31535999; includeSubDomains; preload",
                HstsError::PreloadTooShort { max_age: Duration::from_secs(31_535_999) },
            ),
        ] {
            assert_eq!(text.parse::<Hsts>(), Err(error), "{text}");
        }
    }
}
