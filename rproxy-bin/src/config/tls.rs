//! How TLS is spoken.

use std::path::PathBuf;

use http::HeaderName;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use rproxy_tls::{CipherSuites, TlsVersion};

use super::Secret;
use super::value::ParseError;

pub(super) fn version(text: &str) -> Result<TlsVersion, ParseError> {
    text.parse().map_err(|_| ParseError::new("TLS version", text, "no version that is spoken"))
}

pub(super) fn ciphers(text: &str) -> Result<CipherSuites, ParseError> {
    let unknown = || format!("not all of them are of {}", CipherSuites::supported_names());
    text.parse().map_err(|_| ParseError::new("list of cipher suites", text, unknown()))
}

/// A file, or `-` in the place of one.
pub(super) fn response(text: &str) -> Result<Option<PathBuf>, ParseError> {
    match text {
        "-" => Ok(None),
        _ => super::value::path(text).map(Some),
    }
}

/// A field that may be overwritten without breaking the request.
pub(super) fn field(text: &str) -> Result<HeaderName, ParseError> {
    let error = |reason: &str| ParseError::new("field name", text, reason);
    let name: HeaderName = text.parse().map_err(|_| error("no name that a header field can have"))?;
    match [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING].contains(&name) {
        true => Err(error("the request itself depends on that field")),
        false => Ok(name),
    }
}

/// The URL of a Redis or Valkey. It may have a password in it.
pub(super) fn redis(text: &str) -> Result<Secret, ParseError> {
    const SCHEMES: [&str; 3] = ["redis://", "rediss://", "unix://"];
    match SCHEMES.iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme)) {
        true => Ok(Secret::new(text)),
        false => {
            Err(ParseError::new("Redis URL", "(not shown)", "starts with none of redis://, rediss:// and unix://"))
        }
    }
}
