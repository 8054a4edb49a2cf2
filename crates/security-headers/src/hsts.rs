//! `Strict-Transport-Security` (RFC 6797).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderValue;

/// A `Strict-Transport-Security` policy, which requires browsers to use TLS for a host.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use rproxy_security_headers::{Hsts, HstsError, SecurityHeadersLayer};
///
/// fn main() -> Result<(), HstsError> {
///     let two_years = Duration::from_secs(2 * 365 * 24 * 60 * 60);
///     let hsts = Hsts::new(two_years).include_subdomains(true).preload(true)?;
///     let layer = SecurityHeadersLayer::recommended().hsts(hsts);
///     # let _ = layer;
///     // Preload lists require `includeSubDomains`.
///     assert_eq!(Hsts::new(two_years).preload(true), Err(HstsError::PreloadWithoutSubdomains));
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
    /// Creates a policy for a host without its subdomains.
    ///
    /// `max_age` is cut to whole seconds. Zero makes browsers delete the policy (RFC 6797 §6.1.1).
    pub const fn new(max_age: Duration) -> Self {
        Self { max_age, include_subdomains: false, preload: false }
    }

    /// Sets whether the policy also applies to subdomains of the host; default `false`.
    ///
    /// `false` also disables [`preload`](Self::preload), which requires the subdomains.
    pub const fn include_subdomains(self, include_subdomains: bool) -> Self {
        Self { include_subdomains, preload: self.preload && include_subdomains, ..self }
    }

    /// Sets whether browsers may add the host to their preload list; default `false`.
    ///
    /// # Errors
    ///
    /// Returns an error if <https://hstspreload.org> would not accept the policy: it requires a `max-age` of at least a
    /// year, and the subdomains.
    pub fn preload(self, preload: bool) -> Result<Self, HstsError> {
        if preload && self.max_age.as_secs() < YEAR.as_secs() {
            return Err(HstsError::PreloadMaxAgeTooShort { max_age: self.max_age });
        }
        if preload && !self.include_subdomains {
            return Err(HstsError::PreloadWithoutSubdomains);
        }
        Ok(Self { preload, ..self })
    }

    /// Returns whether browsers may add the host to their preload list.
    pub const fn is_preloadable(self) -> bool {
        self.preload
    }

    pub(crate) fn header_value(self) -> HeaderValue {
        // Always valid: the text is ASCII.
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

    /// Parses a header value such as `max-age=63072000; includeSubDomains; preload` (RFC 6797 §6.1).
    fn from_str(text: &str) -> Result<Self, HstsError> {
        let (mut max_age, mut include_subdomains, mut preload) = (None, false, false);
        for directive in text.split(';').map(str::trim).filter(|directive| !directive.is_empty()) {
            let bad = || HstsError::InvalidDirective(directive.to_owned());
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
        let max_age = Duration::from_secs(max_age.ok_or(HstsError::MissingMaxAge)?);
        Self::new(max_age).include_subdomains(include_subdomains).preload(preload)
    }
}

/// The error for an invalid [`Hsts`] policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HstsError {
    /// The `max-age` is too short for HSTS preload.
    #[error("HSTS preload requires a max-age of at least 31536000 seconds, not {}", max_age.as_secs())]
    PreloadMaxAgeTooShort {
        /// The invalid `max-age`.
        max_age: Duration,
    },
    /// The policy does not include subdomains, which HSTS preload requires.
    #[error("HSTS preload requires includeSubDomains")]
    PreloadWithoutSubdomains,
    /// The required `max-age` directive is missing.
    #[error("the HSTS policy has no max-age")]
    MissingMaxAge,
    /// A directive is unknown, invalid, or occurs twice.
    #[error("bad HSTS directive {0:?}: expected max-age=SECONDS, includeSubDomains or preload, each once")]
    InvalidDirective(String),
}

pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_formats_hsts_policies() {
        for (text, formatted) in [
            ("max-age=0", "max-age=0"),
            ("Max-Age=\"63072000\" ;; INCLUDESUBDOMAINS", "max-age=63072000; includeSubDomains"),
            ("preload; includeSubDomains; max-age=31536000", "max-age=31536000; includeSubDomains; preload"),
        ] {
            assert_eq!(text.parse::<Hsts>().unwrap().to_string(), formatted);
        }
        let bad = |directive: &str| HstsError::InvalidDirective(directive.to_owned());
        for (text, error) in [
            ("", HstsError::MissingMaxAge),
            ("includeSubDomains", HstsError::MissingMaxAge),
            ("max-age=year", bad("max-age=year")),
            ("max-age=-1", bad("max-age=-1")),
            ("max-age", bad("max-age")),
            ("max-age=1; max-age=2", bad("max-age=2")),
            ("max-age=1; include-subdomains", bad("include-subdomains")),
            ("max-age=31536000; preload", HstsError::PreloadWithoutSubdomains),
            (
                "max-age=31535999; includeSubDomains; preload",
                HstsError::PreloadMaxAgeTooShort { max_age: Duration::from_secs(31_535_999) },
            ),
        ] {
            assert_eq!(text.parse::<Hsts>(), Err(error), "{text}");
        }
    }
}
