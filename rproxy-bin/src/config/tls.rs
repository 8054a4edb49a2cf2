//! How TLS is spoken.

use rproxy_tls::{CipherSuites, TlsVersion};

use super::value::ParseError;

pub(super) fn version(text: &str) -> Result<TlsVersion, ParseError> {
    text.parse().map_err(|_| ParseError::new("TLS version", text, "no version that is spoken"))
}

pub(super) fn ciphers(text: &str) -> Result<CipherSuites, ParseError> {
    let unknown = || format!("not all of them are of {}", CipherSuites::all());
    text.parse().map_err(|_| ParseError::new("list of cipher suites", text, unknown()))
}
