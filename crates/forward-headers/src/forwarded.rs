//! The `Forwarded` header field (RFC 7239).

use std::fmt::Write;
use std::net::IpAddr;

use http::HeaderValue;

/// The configuration of the `Forwarded` header field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forwarded {
    /// The obfuscated identifier of this proxy (RFC 7239 §6.3), including its leading underscore.
    pub(crate) by: Option<String>,
    /// Whether client addresses in `Forwarded` are replaced with `_hidden`.
    pub(crate) hides_client: bool,
}

impl Forwarded {
    /// Formats the value of `Forwarded`, with one element per hop.
    ///
    /// The last one is for the peer, and has the `by`, `host` and `proto` of this proxy.
    pub(crate) fn header_value(
        &self,
        hops: &[IpAddr],
        peer: Option<IpAddr>,
        host: Option<&HeaderValue>,
        proto: &HeaderValue,
    ) -> Option<HeaderValue> {
        let mut text = String::new();
        for hop in hops {
            self.write_node(&mut text, hop);
            text.push_str(", ");
        }
        self.write_node(&mut text, &peer?);
        // Writing to a string cannot fail.
        if let Some(by) = &self.by {
            let _ = write!(text, ";by={by}");
        }
        if let Some(host) = host.and_then(|host| host.to_str().ok()) {
            let is_token = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
            let _ = if is_token { write!(text, ";host={host}") } else { write!(text, ";host=\"{}\"", escaped(host)) };
        }
        let _ = write!(text, ";proto={}", proto.to_str().unwrap_or("http"));
        HeaderValue::try_from(text).ok()
    }

    fn write_node(&self, text: &mut String, address: &IpAddr) {
        let _ = match address {
            // RFC 7239 §6.3
            _ if self.hides_client => write!(text, "for=_hidden"),
            IpAddr::V4(v4) => write!(text, "for={v4}"),
            // RFC 7239 §6: IPv6 addresses are in brackets, which require quotes.
            IpAddr::V6(v6) => write!(text, "for=\"[{v6}]\""),
        };
    }
}

/// Converts a name to an obfuscated identifier (RFC 7239 §6.3).
///
/// Such an identifier consists of an underscore, followed by letters, digits, `.`, `_` and `-`.
pub(crate) fn obfuscated(name: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let name: String = name.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect();
    if name.len() > 1 && name.starts_with('_') { name } else { format!("_{name}") }
}

/// Escapes text for a quoted-string (RFC 9110 §5.6.4).
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(forwarded: &Forwarded, hops: &[&str], peer: &str, host: &'static str) -> HeaderValue {
        let hops: Vec<IpAddr> = hops.iter().map(|hop| hop.parse().unwrap()).collect();
        let (host, http) = (HeaderValue::from_static(host), HeaderValue::from_static("http"));
        forwarded.header_value(&hops, peer.parse().ok(), Some(&host), &http).unwrap()
    }

    #[test]
    fn formats_one_forwarded_element_per_hop_and_quotes_ipv6() {
        assert_eq!(
            format(&Forwarded::default(), &["2001:db8::7"], "fd00::1", "a.example:81"),
            "for=\"[2001:db8::7]\", for=\"[fd00::1]\";host=\"a.example:81\";proto=http"
        );
    }

    #[test]
    fn forwarded_field_contains_no_addresses_if_the_client_is_hidden() {
        let forwarded = Forwarded { by: Some(obfuscated("edge")), hides_client: true };
        assert_eq!(
            format(&forwarded, &["192.0.2.7"], "fd00::1", "a.example"),
            "for=_hidden, for=_hidden;by=_edge;host=a.example;proto=http"
        );
    }

    #[test]
    fn converts_every_proxy_name_to_a_valid_obfuscated_identifier() {
        for (name, expected) in
            [("edge", "_edge"), ("_edge", "_edge"), ("a b;c=\"d", "_a_b_c__d"), ("", "_"), ("_", "__"), ("é", "__")]
        {
            assert_eq!(obfuscated(name), expected);
        }
    }

    #[test]
    fn escapes_quotes_in_the_forwarded_host() {
        assert_eq!(
            format(&Forwarded::default(), &[], "192.0.2.1", "a\", for=\"6.6.6.6"),
            "for=192.0.2.1;host=\"a\\\", for=\\\"6.6.6.6\";proto=http"
        );
    }
}
