//! The security header profile, and changes to individual headers.

use std::fmt;
use std::str::FromStr;

use http::{HeaderName, HeaderValue};

use super::choice::SecurityProfile;
use super::value::ParseError;

/// The value of `security_headers`, such as `recommended,-x-frame-options,referrer-policy: no-referrer`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityHeaderList {
    /// The security header profile, which the other fields modify.
    pub profile: SecurityProfile,
    /// The security headers that are removed from the profile.
    pub without: Vec<HeaderName>,
    /// The security headers that are added to the profile or replace values of the profile.
    pub with: Vec<(HeaderName, HeaderValue)>,
}

impl FromStr for SecurityHeaderList {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut list = Self::default();
        let name = |name: &str| {
            HeaderName::try_from(name.trim())
                .map_err(|_| ParseError::new("header", name, "not a valid header field name"))
        };
        for (index, entry) in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).enumerate() {
            match (entry.strip_prefix('-'), entry.split_once(':')) {
                (Some(header), _) => list.without.push(name(header)?),
                (None, Some((header, value))) => {
                    let value = HeaderValue::from_str(value.trim())
                        .map_err(|_| ParseError::new("header", entry, "not a valid header field value"))?;
                    list.with.push((name(header)?, value));
                }
                // The profile comes first, so that no later one silently replaces it.
                (None, None) if index == 0 => list.profile = entry.parse()?,
                (None, None) => {
                    return Err(ParseError::new("header", entry, "expected -NAME or NAME: VALUE after the profile"));
                }
            }
        }
        Ok(list)
    }
}

impl fmt::Display for SecurityHeaderList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.profile.fmt(f)?;
        self.without.iter().try_for_each(|name| write!(f, ",-{name}"))?;
        self.with
            .iter()
            .try_for_each(|(name, value)| write!(f, ",{name}: {}", String::from_utf8_lossy(value.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_profile_and_individual_security_headers() {
        for (text, shown) in [
            ("recommended", "recommended"),
            ("Strict, -X-Frame-Options", "strict,-x-frame-options"),
            ("-x-frame-options", "recommended,-x-frame-options"),
            ("minimal,Referrer-Policy: no-referrer", "minimal,referrer-policy: no-referrer"),
        ] {
            let list: SecurityHeaderList = text.parse().unwrap();
            assert_eq!(list.to_string(), shown);
            assert_eq!(shown.parse(), Ok(list));
        }
    }

    #[test]
    fn rejects_invalid_rate_with_reason() {
        for (text, reason) in [
            ("loose", "unknown profile"),
            ("recommended,strict", "expected -NAME or NAME: VALUE after the profile"),
            ("recommended,-a b", "not a valid header field name"),
            ("recommended,a b: c", "not a valid header field name"),
        ] {
            let error = text.parse::<SecurityHeaderList>().unwrap_err().to_string();
            assert!(error.ends_with(reason), "{error}");
        }
    }
}
