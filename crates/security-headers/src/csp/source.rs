//! Where something may come from (CSP Level 3 §2.3.1).

use std::fmt;

use super::CspError;
use crate::nonce::PLACEHOLDER;

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// `'none'`: nothing. Stands alone.
    None,
    /// `'self'`: the page's own origin.
    SelfOrigin,
    /// `*`: any host, by the page's scheme or HTTP, HTTPS, WS and WSS.
    Any,
    /// `'nonce-...'`: inline code with the [nonce](crate::CspNonce) of this response.
    Nonce,
    /// `'strict-dynamic'`: what a script that is allowed loads; hosts no longer count.
    StrictDynamic,
    /// `'unsafe-inline'`: any inline code. Ignored by browsers that know nonces and hashes, where there is one.
    UnsafeInline,
    /// `'unsafe-eval'`: code made from text.
    UnsafeEval,
    /// `'wasm-unsafe-eval'`: WebAssembly.
    WasmUnsafeEval,
    /// `'unsafe-hashes'`: hashes count for event handlers and style attributes as well.
    UnsafeHashes,
    /// `'report-sample'`: reports show the first 40 characters of what they are about.
    ReportSample,
    /// `'inline-speculation-rules'`
    InlineSpeculationRules,
    /// A host, by [`host`](Self::host).
    Host(SourceText),
    /// A scheme, by [`scheme`](Self::scheme).
    Scheme(SourceText),
    /// A hash, by [`sha256`](Self::sha256) and the like.
    Hash(SourceText),
}

/// What was checked when its [`Source`] was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceText(String);

impl Source {
    /// A host such as `example.org`, `*.example.org:8443` or `https://example.org/static/`.
    ///
    /// # Errors
    ///
    /// What is no `host-source`.
    pub fn host(host: &str) -> Result<Self, CspError> {
        match is_host_source(host) {
            true => Ok(Self::Host(SourceText(host.to_owned()))),
            false => Err(CspError::Host(host.to_owned())),
        }
    }

    /// A scheme such as `https` or `data`.
    ///
    /// # Errors
    ///
    /// What is no scheme.
    pub fn scheme(scheme: &str) -> Result<Self, CspError> {
        let name = scheme.strip_suffix(':').unwrap_or(scheme);
        match is_scheme(name) {
            true => Ok(Self::Scheme(SourceText(format!("{name}:")))),
            false => Err(CspError::Scheme(scheme.to_owned())),
        }
    }

    /// Inline code, or a file with `integrity`, of this SHA-256 in base64.
    ///
    /// # Errors
    ///
    /// What is not 32 bytes in base64.
    pub fn sha256(base64: &str) -> Result<Self, CspError> {
        Self::hash("sha256", base64, 44)
    }

    /// The same with SHA-384.
    ///
    /// # Errors
    ///
    /// What is not 48 bytes in base64.
    pub fn sha384(base64: &str) -> Result<Self, CspError> {
        Self::hash("sha384", base64, 64)
    }

    /// The same with SHA-512.
    ///
    /// # Errors
    ///
    /// What is not 64 bytes in base64.
    pub fn sha512(base64: &str) -> Result<Self, CspError> {
        Self::hash("sha512", base64, 88)
    }

    fn hash(algorithm: &str, base64: &str, length: usize) -> Result<Self, CspError> {
        let digits = base64.trim_end_matches('=');
        let is_base64 = digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte));
        match is_base64 && base64.len() == length && length - digits.len() <= 2 {
            true => Ok(Self::Hash(SourceText(format!("'{algorithm}-{base64}'")))),
            false => Err(CspError::Hash(base64.to_owned())),
        }
    }

    /// Whether it means something only where code may be inline.
    pub(super) fn is_about_code(&self) -> bool {
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

impl fmt::Display for Source {
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
            Self::Host(SourceText(text)) | Self::Scheme(SourceText(text)) | Self::Hash(SourceText(text)) => text,
        })
    }
}

/// `[ scheme "://" ] host [ ":" port ] [ path ]`
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

/// RFC 3986 §3.1
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_schemes_and_hashes_are_checked() {
        for (host, good) in [
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
            assert_eq!(Source::host(host).is_ok(), good, "{host}");
        }
        assert_eq!(Source::scheme("data").unwrap().to_string(), "data:");
        assert_eq!(Source::scheme("https:").unwrap().to_string(), "https:");
        assert!(Source::scheme("https://").is_err() && Source::scheme("").is_err());
        let hash = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!(Source::sha256(hash).unwrap().to_string(), format!("'sha256-{hash}'"));
        assert!(Source::sha384(hash).is_err() && Source::sha256("short=").is_err());
    }
}
