//! `Strict-Transport-Security` (RFC 6797).

use std::fmt::Write;
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

    pub(crate) fn header_value(self) -> HeaderValue {
        let mut value = format!("max-age={}", self.max_age.as_secs());
        // Writing to a string can't fail, nor can its words and digits be no header value.
        if self.include_subdomains {
            let _ = write!(value, "; includeSubDomains");
        }
        if self.preload {
            let _ = write!(value, "; preload");
        }
        HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("max-age=31536000"))
    }
}

/// What no preload list takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HstsError {
    /// Less than a year.
    #[error("HSTS preload needs a max-age of at least 31536000 seconds, not {}", max_age.as_secs())]
    PreloadTooShort {
        /// What was asked for.
        max_age: Duration,
    },
    /// The host alone.
    #[error("HSTS preload needs include_subdomains")]
    PreloadWithoutSubdomains,
}

pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
