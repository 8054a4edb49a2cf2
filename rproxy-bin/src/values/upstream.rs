//! Parsers of upstream setting values.

use std::borrow::Cow;
use std::net::SocketAddr;

use rproxy_server::ListenAddr;
use rproxy_upstream::{Backend, HealthCheck, PublicKeyPin, Upstream};

use super::choice::Secret;
use super::listen::{self, is_reachable_at};
use super::value::{ParseError, list, some};

/// Parses a comma-separated list of at least one backend.
pub(crate) fn backends(text: &str) -> Result<Vec<Backend>, String> {
    let backends = list(text, backend)?;
    some("list of backends", text, backends).map_err(|error| error.to_string())
}

/// Parses a [`Backend`]; `:3000` and `3000` mean port 3000 of this machine.
fn backend(text: &str) -> Result<Backend, String> {
    if text.contains('@') {
        // This message leaves the password out, unlike that of `Backend`.
        return Err(
            ParseError::new("backend", text, "a user name and password in the URL are not supported").to_string()
        );
    }
    let (address, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
    let text = match listen::port(address.strip_prefix(':').unwrap_or(address)) {
        Some(port) => Cow::Owned(format!("127.0.0.1:{port}{rest}")),
        None => Cow::Borrowed(text),
    };
    text.parse::<Backend>().map_err(|error| error.to_string())
}

/// Parses the path for health checks.
pub(crate) fn health_path(text: &str) -> Result<String, ParseError> {
    let error = |reason| ParseError::new("path", text, reason);
    if !text.starts_with('/') {
        return Err(error("does not start with a slash"));
    }
    HealthCheck::new(text).map(|_| text.to_owned()).map_err(|_| error("not a path"))
}

/// Parses public key pins separated by commas, or by semicolons as in curl.
pub(crate) fn pins(text: &str) -> Result<Vec<PublicKeyPin>, ParseError> {
    let pins = text.split([',', ';']).map(str::trim).filter(|pin| !pin.is_empty());
    let parsed = |pin: &str| pin.parse().map_err(|_| ParseError::new("pin", pin, "not sha256/ and 32 bytes in base64"));
    pins.map(parsed).collect()
}

/// Parses the server name that certificates of backends must contain.
pub(crate) fn server_name(text: &str) -> Result<String, ParseError> {
    match Upstream::builder().server_name(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(ParseError::new("server name", text, "neither a DNS name nor an IP address")),
    }
}

/// Parses the secret for consistent hashing.
pub(crate) fn balance_secret(text: &str) -> Result<Secret, ParseError> {
    match text.chars().count() {
        16.. => Ok(Secret::new(text)),
        _ => Err(ParseError::new("secret", "(not shown)", "shorter than 16 characters")),
    }
}

/// Returns whether requests to `backend` would reach `listener`, as far as this is known without DNS.
pub(crate) fn is_reached_by(backend: &Backend, listener: &ListenAddr) -> bool {
    let text = backend.origin();
    if let Some(path) = text.strip_prefix("unix:") {
        return *listener == ListenAddr::Unix(path.into());
    }
    let (_, authority) = text.split_once("://").unwrap_or(("", &text));
    let address = authority.replacen("localhost:", "127.0.0.1:", 1).parse::<SocketAddr>();
    address.is_ok_and(|address| is_reachable_at(listener, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::listen::address;

    #[test]
    fn parses_common_spellings_of_backends() {
        for (text, canonical) in [
            ("127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("http://app:3000/", "http://app:3000"),
            ("my_app:3000", "http://my_app:3000"),
            ("https://app.example", "https://app.example:443"),
            ("h2c://grpc:50051", "h2c://grpc:50051"),
            ("[::1]:3000", "http://[::1]:3000"),
            (":3000", "http://127.0.0.1:3000"),
            ("3000", "http://127.0.0.1:3000"),
            ("3000 weight=2", "http://127.0.0.1:3000 weight=2"),
            ("a:80 weight=1000", "http://a:80 weight=1000"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
        ] {
            assert_eq!(backend(text).unwrap().to_string(), canonical, "{text}");
            assert_eq!(backend(canonical).unwrap().to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn rejects_password_without_printing_it() {
        assert_eq!(
            backend("http://me:secret@app:80").unwrap_err(),
            "bad backend \"http://***@app:80\": a user name and password in the URL are not supported",
        );
        assert!(!backend("me:secret@app:80").unwrap_err().contains("secret"));
    }

    #[test]
    fn parses_public_key_pins_in_curl_syntax() {
        let [one, other] =
            ["RHFyQxXYKAzGIgy0BsyKNkW92p9UNNFjyhRAX3f5Uow=", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="];
        let parsed = pins(&format!("sha256/{one}, sha256/{other}")).unwrap();
        assert_eq!(parsed.len(), 2);
        assert_eq!(pins(&format!("sha256//{one};sha256//{other}")).unwrap(), parsed);
        let error = pins("sha1/abc").unwrap_err().to_string();
        assert_eq!(error, "bad pin \"sha1/abc\": not sha256/ and 32 bytes in base64");
    }

    #[test]
    fn detects_backend_that_is_a_listener() {
        for (to, at, circle) in [
            ("127.0.0.1:8080", "0.0.0.0:8080", true),
            ("127.0.0.1:8080 weight=2", "0.0.0.0:8080", true),
            ("localhost:8080", "0.0.0.0:8080", true),
            ("localhost:8080", "127.0.0.1:8080", true),
            ("[::1]:8080", "[::]:8080", true),
            ("https://127.0.0.1:8443", "127.0.0.1:8443", true),
            ("127.0.0.1:8080", "127.0.0.1:8081", false),
            ("127.0.0.2:8080", "127.0.0.1:8080", false),
            ("192.0.2.1:8080", "0.0.0.0:8080", false),
            ("app:8080", "0.0.0.0:8080", false),
            ("unix:/run/a.sock", "unix:/run/a.sock", true),
            ("unix:/run/a.sock", "unix:/run/b.sock", false),
        ] {
            assert_eq!(is_reached_by(&backend(to).unwrap(), &address(at).unwrap()), circle, "{to} at {at}");
        }
    }
}
