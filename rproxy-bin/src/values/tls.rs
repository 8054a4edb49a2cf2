//! Parsers of TLS settings.

use std::path::PathBuf;

use http::HeaderName;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use rproxy_tls::{CipherSuites, TlsVersion};

use super::choice::Secret;
use super::value::ParseError;

pub(crate) fn version(text: &str) -> Result<TlsVersion, ParseError> {
    text.parse().map_err(|_| ParseError::new("TLS version", text, "unsupported version"))
}

pub(crate) fn ciphers(text: &str) -> Result<CipherSuites, ParseError> {
    let unknown =
        || format!("contains an unknown cipher suite; the supported suites are {}", CipherSuites::supported_names());
    text.parse().map_err(|_| ParseError::new("list of cipher suites", text, unknown()))
}

/// Parses the path of an OCSP response; `-` means none.
pub(crate) fn response(text: &str) -> Result<Option<PathBuf>, ParseError> {
    match text {
        "-" => Ok(None),
        _ => super::value::path(text).map(Some),
    }
}

/// Parses the name of a header field that can be overwritten without breaking the request.
pub(crate) fn field(text: &str) -> Result<HeaderName, ParseError> {
    let error = |reason: &str| ParseError::new("field name", text, reason);
    let name: HeaderName = text.parse().map_err(|_| error("not a valid header name"))?;
    match [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING].contains(&name) {
        true => Err(error("the field is reserved for the proxy")),
        false => Ok(name),
    }
}

/// Parses the URL of a Redis or Valkey server, which may contain a password.
pub(crate) fn redis(text: &str) -> Result<Secret, ParseError> {
    const SCHEMES: [&str; 3] = ["redis://", "rediss://", "unix://"];
    match SCHEMES.iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme)) {
        true => Ok(Secret::new(text)),
        false => Err(ParseError::new("Redis URL", "(not shown)", "does not start with redis://, rediss:// or unix://")),
    }
}
