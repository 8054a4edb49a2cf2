//! `Reporting-Endpoints` (W3C Reporting API): where browsers send what they have to report.

use std::fmt;
use std::str::FromStr;

use http::{HeaderValue, Uri};

/// Endpoints by name. A policy says to which of them its reports go; those of crashes and of what is deprecated go to
/// `default`.
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
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one. Its address may be a path on the site itself.
    ///
    /// # Errors
    ///
    /// A name that can't be a key of a structured field (RFC 9651 §3.1.2), one that is there already, or an address
    /// that is neither a path nor HTTPS: browsers send reports nowhere else.
    pub fn endpoint(mut self, name: &str, address: &str) -> Result<Self, ReportingError> {
        let is_key = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '*')
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.*".contains(&byte));
        if !is_key || self.endpoints.iter().any(|(present, _)| present == name) {
            return Err(ReportingError::Name(name.to_owned()));
        }
        let uri = address.parse::<Uri>().ok().filter(|_| !address.contains(['"', '\\', '#']) && address.is_ascii());
        let is_good = uri.is_some_and(|uri| match uri.scheme_str() {
            Some(scheme) => scheme == "https" && uri.host().is_some_and(|host| !host.is_empty()),
            None => address.starts_with('/') && !address.starts_with("//"),
        });
        if !is_good {
            return Err(ReportingError::Address(address.to_owned()));
        }
        self.endpoints.push((name.to_owned(), address.to_owned()));
        Ok(self)
    }

    pub(crate) fn header_value(&self) -> HeaderValue {
        // Names and addresses are visible ASCII.
        HeaderValue::try_from(self.to_string()).unwrap_or(HeaderValue::from_static(""))
    }
}

impl fmt::Display for ReportingEndpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, address)) in self.endpoints.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name}=\"{address}\"")?;
        }
        Ok(())
    }
}

impl FromStr for ReportingEndpoints {
    type Err = ReportingError;

    /// Reads `csp=https://reports.example.org/csp, default="/reports"`.
    fn from_str(text: &str) -> Result<Self, ReportingError> {
        text.split(',').map(str::trim).try_fold(Self::new(), |endpoints, member| {
            let (name, address) = member.split_once('=').ok_or_else(|| ReportingError::Name(member.to_owned()))?;
            let address = address.trim();
            let quoted = address.strip_prefix('"').and_then(|address| address.strip_suffix('"'));
            endpoints.endpoint(name.trim(), quoted.unwrap_or(address))
        })
    }
}

/// What is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportingError {
    /// No name, or one that is taken.
    #[error("bad endpoint {0:?}: not a name of its own in lower-case letters, digits and hyphens")]
    Name(String),
    /// No address that browsers report to.
    #[error("bad endpoint {0:?}: neither an https:// URL nor a path")]
    Address(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_written() {
        let endpoints: ReportingEndpoints = "csp=https://r.example/c, default=\"/reports\"".parse().unwrap();
        assert_eq!(endpoints.to_string(), "csp=\"https://r.example/c\", default=\"/reports\"");
        assert_eq!(endpoints.to_string().parse(), Ok(endpoints));
        for (text, error) in [
            ("", ReportingError::Name(String::new())),
            ("Csp=/r", ReportingError::Name("Csp".to_owned())),
            ("a=/r, a=/s", ReportingError::Name("a".to_owned())),
            ("csp=http://r.example/", ReportingError::Address("http://r.example/".to_owned())),
            ("csp=//r.example/", ReportingError::Address("//r.example/".to_owned())),
            ("csp=r.example", ReportingError::Address("r.example".to_owned())),
        ] {
            assert_eq!(text.parse::<ReportingEndpoints>(), Err(error));
        }
    }
}
