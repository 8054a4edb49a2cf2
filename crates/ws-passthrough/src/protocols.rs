//! Which protocols besides WebSocket may be changed to.

use std::str::FromStr;

use hyper::ext::Protocol;

/// A set of protocols, by the names that they have in `Upgrade` (RFC 9110 §7.8): `tcp,SPDY/3.1`.
///
/// A name with a version means that version alone, and one without only the name as it stands. The default holds none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpgradeProtocols {
    names: Vec<Protocol>,
}

/// A name that no protocol here can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad protocol {name:?}: {reason}")]
pub struct UpgradeProtocolsError {
    name: String,
    reason: &'static str,
}

impl UpgradeProtocols {
    /// The protocol of that name, in any case, if it is one of them.
    pub(crate) fn find(&self, name: &[u8]) -> Option<&Protocol> {
        self.names.iter().find(|protocol| protocol.as_str().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// A comma-separated list.
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
    let bad = |reason| Err(UpgradeProtocolsError { name: entry.to_owned(), reason });
    let (name, version) = entry.split_once('/').map_or((entry, None), |(name, version)| (name, Some(version)));
    if !is_token(name) || !version.is_none_or(is_token) {
        return bad("neither a name nor a name/version");
    }
    match name.to_ascii_lowercase().as_str() {
        "websocket" => bad("passed on without being named"),
        // Whoever may speak HTTP to the upstream asks for what every layer here would refuse, and nobody sees it.
        "h2c" | "h2" | "http" | "tls" => bad("requests in it would go past this proxy unseen"),
        _ => Ok(Protocol::from(entry)),
    }
}

/// RFC 9110 §5.6.2
fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_found_by_its_name_and_version_in_any_case() {
        let protocols: UpgradeProtocols = "tcp, SPDY/3.1".parse().unwrap();
        for (name, found) in [
            ("tcp", Some("tcp")),
            ("TCP", Some("tcp")),
            ("spdy/3.1", Some("SPDY/3.1")),
            ("spdy", None),
            ("spdy/2", None),
            ("tcp/1", None),
            ("", None),
        ] {
            assert_eq!(protocols.find(name.as_bytes()).map(Protocol::as_str), found, "{name}");
        }
        assert!(UpgradeProtocols::default().find(b"tcp").is_none());
    }

    #[test]
    fn a_bad_name_is_named() {
        for (list, message) in [
            (" ,", "bad protocol \" ,\": empty"),
            ("tcp,a b", "bad protocol \"a b\": neither a name nor a name/version"),
            ("tcp/", "bad protocol \"tcp/\": neither a name nor a name/version"),
            ("a/b/c", "bad protocol \"a/b/c\": neither a name nor a name/version"),
            ("WebSocket", "bad protocol \"WebSocket\": passed on without being named"),
            ("h2c", "bad protocol \"h2c\": requests in it would go past this proxy unseen"),
            ("TLS/1.0", "bad protocol \"TLS/1.0\": requests in it would go past this proxy unseen"),
        ] {
            assert_eq!(list.parse::<UpgradeProtocols>().unwrap_err().to_string(), message);
        }
    }
}
