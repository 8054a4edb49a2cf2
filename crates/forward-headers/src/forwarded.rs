//! `Forwarded` (RFC 7239).

use std::fmt::Write;
use std::net::IpAddr;

use http::HeaderValue;

/// What it says, if it is sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forwarded {
    /// Our own name, with the underscore that shows it to be one.
    pub(crate) by: Option<String>,
    /// Whether addresses stay here.
    pub(crate) hides: bool,
}

impl Forwarded {
    /// RFC 7239 §4: one element per hop; what we know ourselves stands in the last.
    pub(crate) fn header_value(
        &self,
        hops: &[IpAddr],
        peer: Option<IpAddr>,
        host: Option<&HeaderValue>,
        proto: &HeaderValue,
    ) -> Option<HeaderValue> {
        let mut text = String::new();
        for hop in hops {
            self.node(&mut text, hop);
            text.push_str(", ");
        }
        self.node(&mut text, &peer?);
        // Writing to a string can't fail.
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

    fn node(&self, text: &mut String, address: &IpAddr) {
        let _ = match address {
            // RFC 7239 §6.3
            _ if self.hides => write!(text, "for=_hidden"),
            IpAddr::V4(v4) => write!(text, "for={v4}"),
            // RFC 7239 §6: in brackets, and so in quotes.
            IpAddr::V6(v6) => write!(text, "for=\"[{v6}]\""),
        };
    }
}

/// RFC 7239 §6.3: an underscore, then letters, digits, `.`, `_` and `-`.
pub(crate) fn obfuscated(name: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let name: String = name.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect();
    if name.len() > 1 && name.starts_with('_') { name } else { format!("_{name}") }
}

/// RFC 9110 §5.6.4: within quotes.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(forwarded: &Forwarded, hops: &[&str], peer: &str, host: &'static str) -> HeaderValue {
        let hops: Vec<IpAddr> = hops.iter().map(|hop| hop.parse().unwrap()).collect();
        let (host, http) = (HeaderValue::from_static(host), HeaderValue::from_static("http"));
        forwarded.header_value(&hops, peer.parse().ok(), Some(&host), &http).unwrap()
    }

    #[test]
    fn hops_are_elements_and_ipv6_is_quoted() {
        assert_eq!(
            written(&Forwarded::default(), &["2001:db8::7"], "fd00::1", "a.example:81"),
            "for=\"[2001:db8::7]\", for=\"[fd00::1]\";host=\"a.example:81\";proto=http"
        );
    }

    #[test]
    fn names_stand_for_addresses_on_request() {
        let forwarded = Forwarded { by: Some(obfuscated("edge")), hides: true };
        assert_eq!(
            written(&forwarded, &["192.0.2.7"], "fd00::1", "a.example"),
            "for=_hidden, for=_hidden;by=_edge;host=a.example;proto=http"
        );
    }

    #[test]
    fn an_obfuscated_name_is_one_whatever_it_is_made_of() {
        for (name, written) in
            [("edge", "_edge"), ("_edge", "_edge"), ("a b;c=\"d", "_a_b_c__d"), ("", "_"), ("_", "__"), ("é", "__")]
        {
            assert_eq!(obfuscated(name), written);
        }
    }

    #[test]
    fn a_host_breaks_out_of_no_quotes() {
        assert_eq!(
            written(&Forwarded::default(), &[], "192.0.2.1", "a\", for=\"6.6.6.6"),
            "for=192.0.2.1;host=\"a\\\", for=\\\"6.6.6.6\";proto=http"
        );
    }
}
