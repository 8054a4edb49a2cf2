//! Settings that are one of a few words, and texts that must not be just any.

use std::fmt;
use std::str::FromStr;

use http::{HeaderName, Uri};
use rproxy_forward_headers::ForwardHeadersLayer;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::value::ParseError;

/// What is written to standard output about each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessLog {
    /// Nothing.
    #[default]
    Off,
    /// A line for people.
    Text,
    /// A JSON object for machines.
    Json,
}

impl FromStr for AccessLog {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().as_str() {
            "off" | "false" | "no" | "0" => Ok(Self::Off),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(ParseError::new("access log", text, "no such format")),
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

/// Whether connections from trusted peers start with a PROXY protocol header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyProtocol {
    /// They do not.
    #[default]
    Off,
    /// The text header of version 1.
    V1,
    /// The binary header of version 2.
    V2,
    /// Either.
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
            _ => Err(ParseError::new("PROXY protocol", text, "no such version")),
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

/// When an HTTP/1 client that ends its side of the connection still gets its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HalfCloseRule {
    /// If the end comes with the request.
    #[default]
    WithRequest,
    /// Whenever it comes.
    Always,
    /// Never: the client has left.
    Never,
}

impl FromStr for HalfCloseRule {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().as_str() {
            "with-request" => Ok(Self::WithRequest),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(ParseError::new("half-close rule", text, "no such rule")),
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

/// Which security headers responses get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecurityProfile {
    /// What an ordinary site can take.
    #[default]
    Recommended,
    /// For a site that loads everything from its own origin.
    Strict,
    /// For answers that nobody looks at in a browser.
    Api,
    /// Hardly any.
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
            _ => Err(ParseError::new("profile", text, "no such profile")),
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

/// What becomes of the trace that a request belongs to (W3C Trace Context).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceContext {
    /// It is passed on.
    #[default]
    Pass,
    /// It is passed on, and begun where there is none.
    Begin,
    /// It is passed on for trusted proxies, and begun anew for everybody else.
    Restart,
}

impl FromStr for TraceContext {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().as_str() {
            "pass" => Ok(Self::Pass),
            "begin" => Ok(Self::Begin),
            "restart" => Ok(Self::Restart),
            _ => Err(ParseError::new("trace context", text, "no such way")),
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

pub(super) fn field_name(text: &str) -> Result<HeaderName, ParseError> {
    text.parse().map_err(|_| ParseError::new("field", text, "not the name of a header field"))
}

pub(super) fn field_names(text: &str) -> Result<Vec<HeaderName>, ParseError> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(field_name).collect()
}

/// Host names without ports.
pub(super) fn host_names(text: &str) -> Result<Vec<String>, ParseError> {
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

/// Fields that a trusted proxy can be believed about.
pub(super) fn trusted_fields(text: &str) -> Result<Vec<HeaderName>, ParseError> {
    let names = field_names(text)?;
    match names.iter().find(|name| !ForwardHeadersLayer::is_trustable(name)) {
        Some(name) => Err(ParseError::new("field", name.as_str(), "clients send it, or rproxy makes it itself")),
        None => Ok(names),
    }
}

/// RFC 7239 §6.3: an obfuscated identifier.
pub(super) fn node_name(text: &str) -> Result<String, ParseError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    match text.strip_prefix('_') {
        Some(rest) if !rest.is_empty() && rest.bytes().all(is_allowed) => Ok(text.to_owned()),
        _ => Err(ParseError::new("name", text, "not an underscore with letters, digits, `.`, `_` and `-` behind it")),
    }
}

/// A policy for a header: not empty, and nothing that a header can't carry.
pub(super) fn policy(text: &str) -> Result<String, ParseError> {
    match text.trim() {
        "" => Err(ParseError::new("policy", text, "empty")),
        policy if policy.chars().any(char::is_control) => {
            Err(ParseError::new("policy", text, "has control characters"))
        }
        policy => Ok(policy.to_owned()),
    }
}

/// Whether clients are asked for certificates in the TLS handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuthentication {
    /// They are not.
    #[default]
    Off,
    /// They may show one.
    Optional,
    /// They get no connection without one.
    Required,
}

impl FromStr for ClientAuthentication {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().as_str() {
            "off" | "false" | "no" | "0" => Ok(Self::Off),
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            _ => Err(ParseError::new("client authentication", text, "no such way")),
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

/// Which of the proxy's own events are logged: a `tracing` filter such as `info` or `warn,rproxy=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The filter, for a subscriber.
    pub fn to_env_filter(&self) -> EnvFilter {
        // Whatever is in here has been through `lenient`, so the lossy reading loses nothing.
        EnvFilter::builder().parse_lossy(&self.0)
    }

    /// Whatever `tracing` reads, as `RUST_LOG` is shared by many programs.
    pub(super) fn lenient(text: &str) -> Result<Self, ParseError> {
        match EnvFilter::builder().parse(text) {
            Ok(_) if text.is_empty() => Err(ParseError::new("log filter", text, "empty")),
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(ParseError::new("log filter", text, "not a filter that tracing reads")),
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
        // To `tracing` a word that is no level is the name of a module, all of whose events are shown: with `inof`
        // or `verbose` the log would fall silent.
        let stray = text
            .split(',')
            .map(str::trim)
            .find(|directive| !directive.contains(['=', '[']) && directive.parse::<LevelFilter>().is_err());
        match stray {
            Some("") => Err(ParseError::new("log filter", text, "empty")),
            Some(word) => Err(ParseError::new("log filter", text, format!("{word:?} is not a level"))),
            None => Self::lenient(text),
        }
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(...)")
    }
}

/// The key of an external account binding: base64url, as certificate authorities hand it out (RFC 8555 §7.3.4).
pub(super) fn hmac_key(text: &str) -> Result<Secret, ParseError> {
    let key = text.trim_end_matches('=');
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    // One character past a multiple of four is six bits, which is no byte.
    if key.is_empty() || !key.bytes().all(alphabet) || key.len() % 4 == 1 {
        return Err(ParseError::new("HMAC key", "(not shown)", "not base64url"));
    }
    Ok(Secret::new(key))
}

pub(super) fn kid(text: &str) -> Result<String, ParseError> {
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(ParseError::new("key identifier", text, "has white space in it"));
    }
    Ok(text.to_owned())
}

pub(super) fn email(text: &str) -> Result<String, ParseError> {
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

/// A URL, or the name of one of Let's Encrypt's.
pub(super) fn acme_directory(text: &str) -> Result<Uri, ParseError> {
    match text {
        "production" => return Ok(Uri::from_static("https://acme-v02.api.letsencrypt.org/directory")),
        "staging" => return Ok(Uri::from_static("https://acme-staging-v02.api.letsencrypt.org/directory")),
        _ => {}
    }
    let error = |reason: &str| ParseError::new("directory URL", text, reason);
    let uri: Uri = text.parse().map_err(|_| error("not a URL"))?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(error("a user and password are not supported"));
    }
    // RFC 8555 §6.1: ACME is spoken over HTTPS.
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(host)) if !host.is_empty() => Ok(uri),
        _ => Err(error("not an https:// URL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_any_case_and_written_back() {
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
        assert_eq!("jsn".parse::<AccessLog>().unwrap_err().to_string(), "bad access log \"jsn\": no such format");
        assert_eq!(
            "v3".parse::<ProxyProtocol>().unwrap_err().to_string(),
            "bad PROXY protocol \"v3\": no such version"
        );
    }

    #[test]
    fn a_log_filter_is_levels_and_targets_with_levels() {
        for text in ["info", "WARN", "off", "warn,rproxy=debug", "hyper::proto=trace", "info,[request]=debug"] {
            assert_eq!(text.parse::<LogFilter>().unwrap().to_string(), text);
        }
        for (text, message) in [
            ("", "bad log filter \"\": empty"),
            ("inof", "bad log filter \"inof\": \"inof\" is not a level"),
            ("info,verbose", "bad log filter \"info,verbose\": \"verbose\" is not a level"),
            ("rproxy=loud", "bad log filter \"rproxy=loud\": not a filter that tracing reads"),
        ] {
            assert_eq!(text.parse::<LogFilter>().unwrap_err().to_string(), message);
        }
        assert_eq!(LogFilter::lenient("rproxy").unwrap().to_string(), "rproxy");
    }

    #[test]
    fn a_secret_does_not_show() {
        let secret = hmac_key("c2VjcmV0LWtleQ==").unwrap();
        assert_eq!(secret.expose(), "c2VjcmV0LWtleQ");
        assert!(!format!("{secret:?}").contains("c2Vj"));
        for text in ["", "not base64!", "abcde"] {
            assert_eq!(hmac_key(text).unwrap_err().to_string(), "bad HMAC key \"(not shown)\": not base64url");
        }
    }

    #[test]
    fn acme_texts_are_checked() {
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
