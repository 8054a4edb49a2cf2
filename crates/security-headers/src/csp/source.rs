//! Source expressions in CSP directives (CSP Level 3 §2.3.1).

use std::fmt;

use super::CspError;
use crate::nonce::PLACEHOLDER;

/// A source expression in a directive of a [`ContentSecurityPolicy`](crate::ContentSecurityPolicy).
///
/// # Examples
///
/// ```
/// use rproxy_security_headers::{CspError, CspSource};
///
/// assert_eq!(CspSource::SelfOrigin.to_string(), "'self'");
/// assert_eq!(CspSource::host("*.example.org")?.to_string(), "*.example.org");
/// # Ok::<(), CspError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CspSource {
    /// `'none'`: the directive allows no source. No other source may be in the same directive.
    None,
    /// `'self'`: the page's own origin.
    SelfOrigin,
    /// `*`: any host, with the scheme of the page or with HTTP, HTTPS, WS or WSS.
    Any,
    /// `'nonce-...'`: inline code with the [nonce](crate::CspNonce) of the response.
    Nonce,
    /// `'strict-dynamic'`: scripts that are loaded by an allowed script. Host sources are then ignored.
    StrictDynamic,
    /// `'unsafe-inline'`: any inline code. Browsers ignore it beside a nonce or hash.
    UnsafeInline,
    /// `'unsafe-eval'`: functions that execute text as code, such as `eval`.
    UnsafeEval,
    /// `'wasm-unsafe-eval'`: compilation of WebAssembly.
    WasmUnsafeEval,
    /// `'unsafe-hashes'`: hashes also apply to event handlers and style attributes.
    UnsafeHashes,
    /// `'report-sample'`: reports contain the first 40 characters of the blocked code.
    ReportSample,
    /// `'inline-speculation-rules'`: inline speculation rules.
    InlineSpeculationRules,
    /// A host, created by [`host`](Self::host).
    Host(CspSourceText),
    /// A scheme, created by [`scheme`](Self::scheme).
    Scheme(CspSourceText),
    /// A hash, created by [`sha256`](Self::sha256), [`sha384`](Self::sha384) or [`sha512`](Self::sha512).
    Hash(CspSourceText),
}

/// The validated text of a [`CspSource`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CspSourceText(String);

impl CspSource {
    /// Creates a host source such as `example.org`, `*.example.org:8443` or `https://example.org/static/`.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not a `host-source` of CSP Level 3 §2.3.1.
    pub fn host(host: &str) -> Result<Self, CspError> {
        match is_host_source(host) {
            true => Ok(Self::Host(CspSourceText(host.to_owned()))),
            false => Err(CspError::InvalidHost(host.to_owned())),
        }
    }

    /// Creates a scheme source such as `https` or `data`.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not a scheme of RFC 3986 §3.1.
    pub fn scheme(scheme: &str) -> Result<Self, CspError> {
        let name = scheme.strip_suffix(':').unwrap_or(scheme);
        match is_scheme(name) {
            true => Ok(Self::Scheme(CspSourceText(format!("{name}:")))),
            false => Err(CspError::InvalidScheme(scheme.to_owned())),
        }
    }

    /// Creates a source that matches inline code, or files with `integrity`, by their SHA-256 hash.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not 32 bytes in base64.
    pub fn sha256(base64: &str) -> Result<Self, CspError> {
        Self::hash("sha256", base64, 44)
    }

    /// Creates a source that matches inline code, or files with `integrity`, by their SHA-384 hash.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not 48 bytes in base64.
    pub fn sha384(base64: &str) -> Result<Self, CspError> {
        Self::hash("sha384", base64, 64)
    }

    /// Creates a source that matches inline code, or files with `integrity`, by their SHA-512 hash.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is not 64 bytes in base64.
    pub fn sha512(base64: &str) -> Result<Self, CspError> {
        Self::hash("sha512", base64, 88)
    }

    fn hash(algorithm: &str, base64: &str, length: usize) -> Result<Self, CspError> {
        let digits = base64.trim_end_matches('=');
        let is_base64 = digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte));
        match is_base64 && base64.len() == length && length - digits.len() <= 2 {
            true => Ok(Self::Hash(CspSourceText(format!("'{algorithm}-{base64}'")))),
            false => Err(CspError::InvalidHash(base64.to_owned())),
        }
    }

    /// Returns whether the source applies only to scripts and styles.
    pub(super) fn is_for_code(&self) -> bool {
        match self {
            Self::Nonce
            | Self::StrictDynamic
            | Self::UnsafeInline
            | Self::UnsafeEval
            | Self::WasmUnsafeEval
            | Self::UnsafeHashes
            | Self::ReportSample
            | Self::InlineSpeculationRules
            | Self::Hash(_) => true,
            Self::None | Self::SelfOrigin | Self::Any | Self::Host(_) | Self::Scheme(_) => false,
        }
    }
}

impl fmt::Display for CspSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "'none'",
            Self::SelfOrigin => "'self'",
            Self::Any => "*",
            Self::Nonce => PLACEHOLDER,
            Self::StrictDynamic => "'strict-dynamic'",
            Self::UnsafeInline => "'unsafe-inline'",
            Self::UnsafeEval => "'unsafe-eval'",
            Self::WasmUnsafeEval => "'wasm-unsafe-eval'",
            Self::UnsafeHashes => "'unsafe-hashes'",
            Self::ReportSample => "'report-sample'",
            Self::InlineSpeculationRules => "'inline-speculation-rules'",
            Self::Host(CspSourceText(text)) | Self::Scheme(CspSourceText(text)) | Self::Hash(CspSourceText(text)) => {
                text
            }
        })
    }
}

/// Returns whether the text has the form `[ scheme "://" ] host [ ":" port ] [ path ]`.
fn is_host_source(text: &str) -> bool {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let labels = host.strip_prefix("*.").unwrap_or(host);
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let is_path = |byte: u8| byte.is_ascii_graphic() && !b";,'\"?#".contains(&byte);
    scheme.is_none_or(is_scheme)
        && (host == "*" || labels.split('.').all(is_label))
        && port.is_none_or(|port| port == "*" || port.parse::<u16>().is_ok_and(|_| !port.starts_with('+')))
        && path.bytes().all(is_path)
}

/// Returns whether the text is a URI scheme (RFC 3986 §3.1).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_invalid_csp_hosts_schemes_and_hashes() {
        for (host, is_valid) in [
            ("example.org", true),
            ("*.example.org", true),
            ("*", true),
            ("https://example.org:8443/static/", true),
            ("wss://example.org:*", true),
            ("localhost:3000", true),
            ("", false),
            ("'self'", false),
            ("a.example; script-src *", false),
            ("a.example,b.example", false),
            ("a.example b.example", false),
            ("https://", false),
            ("a.*.example", false),
            ("a.example:99999", false),
            ("a.example/?q", false),
            ("a..example", false),
        ] {
            assert_eq!(CspSource::host(host).is_ok(), is_valid, "{host}");
        }
        assert_eq!(CspSource::scheme("data").unwrap().to_string(), "data:");
        assert_eq!(CspSource::scheme("https:").unwrap().to_string(), "https:");
        assert!(CspSource::scheme("https://").is_err() && CspSource::scheme("").is_err());
        let hash = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!(CspSource::sha256(hash).unwrap().to_string(), format!("'sha256-{hash}'"));
        assert!(CspSource::sha384(hash).is_err() && CspSource::sha256("short=").is_err());
    }
}
