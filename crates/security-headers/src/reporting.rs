//! `Reporting-Endpoints` (W3C Reporting API).

use std::fmt;
use std::str::FromStr;

use http::{HeaderValue, Uri};

/// A list of named endpoints to which browsers send reports.
///
/// A policy names the endpoint for its reports in `report-to`. Crash and deprecation reports go to the endpoint `default`.
///
/// # Examples
///
/// ```
/// use rproxy_security_headers::{ReportingEndpoints, ReportingError, SecurityHeadersLayer};
///
/// fn main() -> Result<(), ReportingError> {
///     let endpoints = ReportingEndpoints::new().endpoint("csp", "https://reports.example.org/csp")?;
///     assert_eq!(endpoints.to_string(), r#"csp="https://reports.example.org/csp""#);
///     let layer = SecurityHeadersLayer::recommended()
///         .reporting_endpoints(endpoints)
///         .content_security_policy_report_only("default-src 'self'; report-to csp");
///     # let _ = layer;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ReportingEndpoints {
    endpoints: Vec<(String, String)>,
}

impl ReportingEndpoints {
    /// Creates an empty list of endpoints.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a reporting endpoint with this name and URL. The URL is absolute, or a path on the same site.
    ///
    /// # Errors
    ///
    /// Returns an error if the name is not a key of a structured field (RFC 9651 §3.1.2), if it is in use, or if the URL is
    /// neither a path nor HTTPS, which browsers require.
    pub fn endpoint(mut self, name: &str, url: &str) -> Result<Self, ReportingError> {
        let is_key = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '*')
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.*".contains(&byte));
        if !is_key {
            return Err(ReportingError::InvalidName(name.to_owned()));
        }
        if self.endpoints.iter().any(|(existing, _)| existing == name) {
            return Err(ReportingError::DuplicateName(name.to_owned()));
        }
        let uri = url.parse::<Uri>().ok().filter(|_| !url.contains(['"', '\\', '#']) && url.is_ascii());
        let is_valid = uri.is_some_and(|uri| match uri.scheme_str() {
            Some(scheme) => scheme == "https" && uri.host().is_some_and(|host| !host.is_empty()),
            None => url.starts_with('/') && !url.starts_with("//"),
        });
        if !is_valid {
            return Err(ReportingError::InvalidUrl(url.to_owned()));
        }
        self.endpoints.push((name.to_owned(), url.to_owned()));
        Ok(self)
    }

    pub(crate) fn header_value(&self) -> HeaderValue {
        // Always valid: names and URLs are visible ASCII.
        HeaderValue::try_from(self.to_string()).unwrap_or(HeaderValue::from_static(""))
    }
}

impl fmt::Display for ReportingEndpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, url)) in self.endpoints.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name}=\"{url}\"")?;
        }
        Ok(())
    }
}

impl FromStr for ReportingEndpoints {
    type Err = ReportingError;

    /// Parses a list of endpoints, such as `csp=https://reports.example.org/csp, default="/reports"`.
    fn from_str(text: &str) -> Result<Self, ReportingError> {
        text.split(',').map(str::trim).try_fold(Self::new(), |endpoints, member| {
            let (name, url) = member.split_once('=').ok_or_else(|| ReportingError::InvalidName(member.to_owned()))?;
            let url = url.trim();
            let quoted = url.strip_prefix('"').and_then(|url| url.strip_suffix('"'));
            endpoints.endpoint(name.trim(), quoted.unwrap_or(url))
        })
    }
}

/// The error type for an invalid [`ReportingEndpoints`] list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportingError {
    /// The endpoint name contains characters other than lower-case letters, digits and hyphens.
    #[error("bad reporting endpoint name {0:?}: expected lower-case letters, digits and hyphens")]
    InvalidName(String),
    /// Another endpoint already has this name.
    #[error("duplicate reporting endpoint name {0:?}")]
    DuplicateName(String),
    /// The endpoint URL is neither an HTTPS URL nor a path.
    #[error("bad reporting endpoint {0:?}: expected an https:// URL or a path")]
    InvalidUrl(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_formats_reporting_endpoints() {
        let endpoints: ReportingEndpoints = "csp=https://r.example/c, default=\"/reports\"".parse().unwrap();
        assert_eq!(endpoints.to_string(), "csp=\"https://r.example/c\", default=\"/reports\"");
        assert_eq!(endpoints.to_string().parse(), Ok(endpoints));
        for (text, error) in [
            ("", ReportingError::InvalidName(String::new())),
            ("Csp=/r", ReportingError::InvalidName("Csp".to_owned())),
            ("a=/r, a=/s", ReportingError::DuplicateName("a".to_owned())),
            ("csp=http://r.example/", ReportingError::InvalidUrl("http://r.example/".to_owned())),
            ("csp=//r.example/", ReportingError::InvalidUrl("//r.example/".to_owned())),
            ("csp=r.example", ReportingError::InvalidUrl("r.example".to_owned())),
        ] {
            assert_eq!(text.parse::<ReportingEndpoints>(), Err(error));
        }
    }
}
