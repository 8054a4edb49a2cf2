//! The protocols other than WebSocket that clients may upgrade to.

use std::str::FromStr;

use hyper::ext::Protocol;

/// A set of upgrade protocols, listed by their names in `Upgrade` (RFC 9110 §7.8), such as `tcp,SPDY/3.1`.
///
/// Names are matched exactly, with or without a version, but without regard to case. The default is the empty set.
///
/// # Examples
///
/// ```
/// use rproxy_ws_passthrough::UpgradeProtocols;
///
/// assert!("tcp,SPDY/3.1".parse::<UpgradeProtocols>().is_ok());
/// assert!("h2c".parse::<UpgradeProtocols>().is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpgradeProtocols {
    names: Vec<Protocol>,
}

/// The error for a protocol name that is invalid in [`UpgradeProtocols`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad upgrade protocol {name:?}: {reason}")]
pub struct UpgradeProtocolsError {
    name: String,
    reason: &'static str,
}

impl UpgradeProtocols {
    /// Returns the allowed protocol with this name, ignoring case.
    pub(crate) fn find(&self, name: &[u8]) -> Option<&Protocol> {
        self.names.iter().find(|protocol| protocol.as_str().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// Parses a comma-separated list of protocol names.
impl FromStr for UpgradeProtocols {
    type Err = UpgradeProtocolsError;

    fn from_str(list: &str) -> Result<Self, UpgradeProtocolsError> {
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let names = entries.map(protocol).collect::<Result<Vec<_>, _>>()?;
        match names.is_empty() {
            true => Err(UpgradeProtocolsError { name: list.to_owned(), reason: "empty" }),
            false => Ok(Self { names }),
        }
    }
}

fn protocol(entry: &str) -> Result<Protocol, UpgradeProtocolsError> {
    let invalid = |reason| Err(UpgradeProtocolsError { name: entry.to_owned(), reason });
    let (name, version) = entry.split_once('/').map_or((entry, None), |(name, version)| (name, Some(version)));
    if !is_token(name) || !version.is_none_or(is_token) {
        return invalid("not a protocol name of the form name or name/version");
    }
    match name.to_ascii_lowercase().as_str() {
        "websocket" => invalid("WebSocket upgrades are forwarded without an entry in this list"),
        // A client that speaks HTTP to the upstream directly bypasses all layers of this proxy.
        "h2c" | "h2" | "http" | "tls" => invalid("HTTP requests after the upgrade would bypass this proxy"),
        _ => Ok(Protocol::from(entry)),
    }
}

/// Returns whether the text is an HTTP token (RFC 9110 §5.6.2).
fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_protocols_by_name_and_version_ignoring_case() {
        let protocols: UpgradeProtocols = "tcp, SPDY/3.1".parse().unwrap();
        for (name, expected) in [
            ("tcp", Some("tcp")),
            ("TCP", Some("tcp")),
            ("spdy/3.1", Some("SPDY/3.1")),
            ("spdy", None),
            ("spdy/2", None),
            ("tcp/1", None),
            ("", None),
        ] {
            assert_eq!(protocols.find(name.as_bytes()).map(Protocol::as_str), expected, "{name}");
        }
        assert!(UpgradeProtocols::default().find(b"tcp").is_none());
    }

    #[test]
    fn upgrade_protocol_errors_contain_the_name_and_the_reason() {
        for (list, message) in [
            (" ,", "bad upgrade protocol \" ,\": empty"),
            ("tcp,a b", "bad upgrade protocol \"a b\": not a protocol name of the form name or name/version"),
            ("tcp/", "bad upgrade protocol \"tcp/\": not a protocol name of the form name or name/version"),
            ("a/b/c", "bad upgrade protocol \"a/b/c\": not a protocol name of the form name or name/version"),
            (
                "WebSocket",
                "bad upgrade protocol \"WebSocket\": WebSocket upgrades are forwarded without an entry in this list",
            ),
            ("h2c", "bad upgrade protocol \"h2c\": HTTP requests after the upgrade would bypass this proxy"),
            ("TLS/1.0", "bad upgrade protocol \"TLS/1.0\": HTTP requests after the upgrade would bypass this proxy"),
        ] {
            assert_eq!(list.parse::<UpgradeProtocols>().unwrap_err().to_string(), message);
        }
    }
}
