//! Types of settings with a fixed set of values, and of validated strings.

use std::fmt;
use std::str::FromStr;

use http::{HeaderName, Uri};
use rproxy_forward_headers::ForwardHeadersLayer;
use rproxy_upstream::ExpectContinue;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::value::ParseError;

/// The format of the access log, which is written to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessLog {
    /// Writes no access log.
    #[default]
    Off,
    /// One line of text per request, in the combined log format with additional fields.
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for AccessLog {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().as_str() {
            "off" | "false" | "no" | "0" => Ok(Self::Off),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(ParseError::new("access log", text, "unknown format")),
        }
    }
}

impl fmt::Display for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// The PROXY protocol version that trusted peers use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyProtocol {
    /// Connections have no PROXY protocol header.
    #[default]
    Off,
    /// Connections start with a text header (version 1).
    V1,
    /// Connections start with a binary header (version 2).
    V2,
    /// Connections start with a header of version 1 or 2.
    Any,
}

impl FromStr for ProxyProtocol {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().replace(' ', "").as_str() {
            "off" | "false" | "no" | "0" => Ok(Self::Off),
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            "any" | "on" | "true" | "yes" | "v1,v2" | "v2,v1" => Ok(Self::Any),
            _ => Err(ParseError::new("PROXY protocol", text, "unknown version")),
        }
    }
}

impl fmt::Display for ProxyProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Any => "any",
        })
    }
}

/// The handling of requests with `Expect: 100-continue`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpectContinueRule {
    /// The backend responds with 100 or with a final response.
    #[default]
    Forward,
    /// rproxy responds with 100.
    Answer,
}

impl FromStr for ExpectContinueRule {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().as_str() {
            "forward" => Ok(Self::Forward),
            "answer" => Ok(Self::Answer),
            _ => Err(ParseError::new("rule for Expect: 100-continue", text, "unknown rule")),
        }
    }
}

impl fmt::Display for ExpectContinueRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Answer => "answer",
        })
    }
}

impl From<ExpectContinueRule> for ExpectContinue {
    fn from(rule: ExpectContinueRule) -> Self {
        match rule {
            ExpectContinueRule::Forward => Self::Forward,
            ExpectContinueRule::Answer => Self::Answer,
        }
    }
}

/// The response to HTTP/1 clients that close the sending side of a connection early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HalfCloseRule {
    /// The client gets a response if it closes its sending side together with the request.
    #[default]
    WithRequest,
    /// A client that half-closes the connection always gets a response.
    Always,
    /// A client that half-closes the connection counts as disconnected and gets no response.
    Never,
}

impl FromStr for HalfCloseRule {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().as_str() {
            "with-request" => Ok(Self::WithRequest),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(ParseError::new("half-close rule", text, "unknown rule")),
        }
    }
}

impl fmt::Display for HalfCloseRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WithRequest => "with-request",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

/// The set of security headers that is added to responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecurityProfile {
    /// Security headers that suit most sites.
    #[default]
    Recommended,
    /// Strict security headers, for a site that loads everything from its own origin.
    Strict,
    /// Security headers for an API whose responses are not displayed by browsers.
    Api,
    /// Only the security headers that affect almost no site.
    Minimal,
}

impl FromStr for SecurityProfile {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().as_str() {
            "recommended" => Ok(Self::Recommended),
            "strict" => Ok(Self::Strict),
            "api" => Ok(Self::Api),
            "minimal" => Ok(Self::Minimal),
            _ => Err(ParseError::new("profile", text, "unknown profile")),
        }
    }
}

impl fmt::Display for SecurityProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recommended => "recommended",
            Self::Strict => "strict",
            Self::Api => "api",
            Self::Minimal => "minimal",
        })
    }
}

/// The handling of the trace context in requests (W3C Trace Context).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceContext {
    /// Forwards a valid trace context unchanged.
    #[default]
    Pass,
    /// Forwards a valid trace context, and starts a new trace for requests without one.
    Begin,
    /// Forwards the trace context of trusted proxies, and starts a new trace for all other requests.
    Restart,
}

impl FromStr for TraceContext {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().as_str() {
            "pass" => Ok(Self::Pass),
            "begin" => Ok(Self::Begin),
            "restart" => Ok(Self::Restart),
            _ => Err(ParseError::new("trace context", text, "unknown mode")),
        }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Begin => "begin",
            Self::Restart => "restart",
        })
    }
}

pub(crate) fn field_name(text: &str) -> Result<HeaderName, ParseError> {
    text.parse().map_err(|_| ParseError::new("field", text, "not a valid header name"))
}

pub(crate) fn field_names(text: &str) -> Result<Vec<HeaderName>, ParseError> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(field_name).collect()
}

/// Parses a comma-separated list of host names without ports.
pub(crate) fn host_names(text: &str) -> Result<Vec<String>, ParseError> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let name = |name: &str| match name.split('.').all(is_label) {
        true => Ok(name.to_ascii_lowercase()),
        false => Err(ParseError::new("host", name, "not a name of letters, digits, hyphens and dots")),
    };
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(name).collect()
}

/// Parses a list of forwarding fields to accept from trusted proxies.
pub(crate) fn trusted_fields(text: &str) -> Result<Vec<HeaderName>, ParseError> {
    let names = field_names(text)?;
    match names.iter().find(|name| !ForwardHeadersLayer::is_trustable(name)) {
        Some(name) => Err(ParseError::new(
            "field",
            name.as_str(),
            "cannot be trusted: clients send this field, or rproxy sets it",
        )),
        None => Ok(names),
    }
}

/// Parses an obfuscated node identifier (RFC 7239 §6.3).
pub(crate) fn node_name(text: &str) -> Result<String, ParseError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    match text.strip_prefix('_') {
        Some(rest) if !rest.is_empty() && rest.bytes().all(is_allowed) => Ok(text.to_owned()),
        _ => Err(ParseError::new("name", text, "not an underscore followed by letters, digits, `.`, `_` or `-`")),
    }
}

/// Parses the value of a security policy header field, which must not be empty.
pub(crate) fn policy(text: &str) -> Result<String, ParseError> {
    match text.trim() {
        "" => Err(ParseError::new("policy", text, "empty")),
        policy if policy.chars().any(char::is_control) => {
            Err(ParseError::new("policy", text, "contains control characters"))
        }
        policy => Ok(policy.to_owned()),
    }
}

/// Whether the server requests a client certificate in the TLS handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuthentication {
    /// The server requests no client certificate.
    #[default]
    Off,
    /// The server requests a client certificate, but accepts clients without one.
    Optional,
    /// The server rejects clients without a valid certificate.
    Required,
}

impl FromStr for ClientAuthentication {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().as_str() {
            "off" | "false" | "no" | "0" => Ok(Self::Off),
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            _ => Err(ParseError::new("client authentication", text, "unknown mode")),
        }
    }
}

impl fmt::Display for ClientAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Required => "required",
        })
    }
}

/// The log filter of the process in the syntax of `tracing`, such as `info` or `warn,rproxy=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// Creates a log filter that shows warnings and errors.
    pub fn warnings() -> Self {
        Self("warn".to_owned())
    }

    /// Converts the log filter to an `EnvFilter` of `tracing_subscriber`.
    pub fn to_env_filter(&self) -> EnvFilter {
        // `lenient` has validated the text, so lossy parsing loses nothing.
        EnvFilter::builder().parse_lossy(&self.0)
    }

    /// Parses a filter leniently, since other programs with additional syntax share `RUST_LOG`.
    pub(crate) fn lenient(text: &str) -> Result<Self, ParseError> {
        match EnvFilter::builder().parse(text) {
            Ok(_) if text.is_empty() => Err(ParseError::new("log filter", text, "empty")),
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(ParseError::new("log filter", text, "not a valid tracing filter")),
        }
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        // `tracing` takes any unknown word for the name of a module and shows all of its events: `inof` or `verbose`
        // would silence the log.
        let stray = text
            .split(',')
            .map(str::trim)
            .find(|directive| !directive.contains(['=', '[']) && directive.parse::<LevelFilter>().is_err());
        match stray {
            Some("") => Err(ParseError::new("log filter", text, "empty")),
            Some(word) => Err(ParseError::new("log filter", text, format!("{word:?} is not a log level"))),
            None => Self::lenient(text),
        }
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A secret string that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret string.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret string.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(...)")
    }
}

/// Parses the key of an external account binding: base64url, as certificate authorities issue it (RFC 8555 §7.3.4).
pub(crate) fn hmac_key(text: &str) -> Result<Secret, ParseError> {
    let key = text.trim_end_matches('=');
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    // One character more than a multiple of four is six bits, less than a byte.
    if key.is_empty() || !key.bytes().all(alphabet) || key.len() % 4 == 1 {
        return Err(ParseError::new("HMAC key", "(not shown)", "not base64url"));
    }
    Ok(Secret::new(key))
}

pub(crate) fn kid(text: &str) -> Result<String, ParseError> {
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(ParseError::new("key identifier", text, "contains white space"));
    }
    Ok(text.to_owned())
}

pub(crate) fn email(text: &str) -> Result<String, ParseError> {
    let address = text.strip_prefix("mailto:").unwrap_or(text);
    let parts = address.split_once('@');
    let plausible = parts.is_some_and(|(local, domain)| {
        !local.is_empty() && !domain.is_empty() && !domain.contains('@') && !domain.starts_with('.')
    });
    if !plausible || address.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',') {
        return Err(ParseError::new("e-mail address", text, "not of the form name@example.com"));
    }
    Ok(address.to_owned())
}

/// Parses the URL of an ACME directory, or the name of one of Let's Encrypt's directories.
pub(crate) fn acme_directory(text: &str) -> Result<Uri, ParseError> {
    match text {
        "production" => return Ok(Uri::from_static("https://acme-v02.api.letsencrypt.org/directory")),
        "staging" => return Ok(Uri::from_static("https://acme-staging-v02.api.letsencrypt.org/directory")),
        _ => {}
    }
    let error = |reason: &str| ParseError::new("directory URL", text, reason);
    let uri: Uri = text.parse().map_err(|_| error("not a URL"))?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(error("a user name and password in the URL are not supported"));
    }
    // RFC 8555 §6.1: ACME requires HTTPS.
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(host)) if !host.is_empty() => Ok(uri),
        _ => Err(error("not an https:// URL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_parse_case_insensitively_and_round_trip() {
        for (text, value) in [("off", AccessLog::Off), ("Text", AccessLog::Text), ("JSON", AccessLog::Json)] {
            assert_eq!(text.parse(), Ok(value));
            assert_eq!(value.to_string().parse(), Ok(value));
        }
        for (text, value) in [
            ("off", ProxyProtocol::Off),
            ("false", ProxyProtocol::Off),
            ("V1", ProxyProtocol::V1),
            ("v2", ProxyProtocol::V2),
            ("v1, v2", ProxyProtocol::Any),
            ("on", ProxyProtocol::Any),
        ] {
            assert_eq!(text.parse(), Ok(value));
            assert_eq!(value.to_string().parse(), Ok(value));
        }
        assert_eq!("jsn".parse::<AccessLog>().unwrap_err().to_string(), "bad access log \"jsn\": unknown format");
        assert_eq!(
            "v3".parse::<ProxyProtocol>().unwrap_err().to_string(),
            "bad PROXY protocol \"v3\": unknown version"
        );
    }

    #[test]
    fn log_filter_accepts_levels_and_targets_with_levels() {
        for text in ["info", "WARN", "off", "warn,rproxy=debug", "hyper::proto=trace", "info,[request]=debug"] {
            assert_eq!(text.parse::<LogFilter>().unwrap().to_string(), text);
        }
        for (text, message) in [
            ("", "bad log filter \"\": empty"),
            ("inof", "bad log filter \"inof\": \"inof\" is not a log level"),
            ("info,verbose", "bad log filter \"info,verbose\": \"verbose\" is not a log level"),
            ("rproxy=loud", "bad log filter \"rproxy=loud\": not a valid tracing filter"),
        ] {
            assert_eq!(text.parse::<LogFilter>().unwrap_err().to_string(), message);
        }
        assert_eq!(LogFilter::lenient("rproxy").unwrap().to_string(), "rproxy");
    }

    #[test]
    fn secret_is_not_printed() {
        let secret = hmac_key("c2VjcmV0LWtleQ==").unwrap();
        assert_eq!(secret.expose(), "c2VjcmV0LWtleQ");
        assert!(!format!("{secret:?}").contains("c2Vj"));
        for text in ["", "not base64!", "abcde"] {
            assert_eq!(hmac_key(text).unwrap_err().to_string(), "bad HMAC key \"(not shown)\": not base64url");
        }
    }

    #[test]
    fn validates_acme_contact_and_directory() {
        assert_eq!(email("mailto:me@example.com").unwrap(), "me@example.com");
        for text in ["", "me", "me@", "@example.com", "a b@example.com", "a@b@c", "a@b.c,d@e.f"] {
            assert!(email(text).unwrap_err().to_string().ends_with("not of the form name@example.com"), "{text}");
        }
        assert_eq!(acme_directory("https://127.0.0.1:14000/dir").unwrap().to_string(), "https://127.0.0.1:14000/dir");
        for (text, reason) in [
            ("http://ca.example/dir", "not an https:// URL"),
            ("ca.example/dir", "not a URL"),
            ("ca.example", "not an https:// URL"),
            ("", "not a URL"),
        ] {
            assert_eq!(acme_directory(text).unwrap_err().to_string(), format!("bad directory URL {text:?}: {reason}"),);
        }
    }
}
