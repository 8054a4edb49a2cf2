//! What a request says of the client's side, and what of that is believed.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::Scheme;
use rproxy_client_ip::{Cdn, TrustedPeer};

use crate::alike::{begins, is, is_spelled_well};
use crate::foreign::{FAMILIES, NAMES, is_foreign};
use crate::hop_by_hop::is_end_to_end;
use crate::names::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_REQUEST_ID};
use crate::request_id::RequestId;
use crate::sieve::Sieve;
use crate::target::{Claim, port_number};

/// Which fields of a peer are believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trust<'a> {
    peer: Option<&'a TrustedPeer>,
    cdn: Option<Cdn>,
    /// The fields that a trusted proxy is believed about beside the client's address, the scheme and the request id.
    fields: &'a [HeaderName],
}

impl<'a> Trust<'a> {
    /// `address` is that of the peer, if it is known.
    pub(crate) fn new(peer: Option<&'a TrustedPeer>, address: Option<IpAddr>, fields: &'a [HeaderName]) -> Self {
        // Nothing else depends on it.
        let matters = peer.is_some() && !fields.is_empty();
        Self { peer, cdn: address.filter(|_| matters).and_then(Cdn::from_address), fields }
    }

    /// Whether the field `name`, which the layer does not make itself, is believed.
    fn believes(&self, name: &str) -> bool {
        self.peer.is_some()
            && self.fields.iter().any(|field| field == name)
            && self.cdn.is_none_or(|cdn| is_set_by(cdn, name))
    }

    /// Whether `name` is, or an application could take it for, a field that only a trusted proxy is believed about.
    fn is_named(&self, name: &str) -> bool {
        self.fields.iter().any(|field| is(name, field.as_str()))
    }
}

/// Whether a content delivery network overwrites this field in each request. Others it forwards as clients send them.
fn is_set_by(cdn: Cdn, name: &str) -> bool {
    match cdn {
        Cdn::Cloudflare => {
            matches!(name, "cf-connecting-ip" | "cf-connecting-ipv6" | "cf-ipcountry" | "cf-pseudo-ipv4" | "cf-visitor")
        }
        Cdn::Fastly => name == "fastly-client-ip",
        Cdn::CloudFront => name.starts_with("cloudfront-"),
        _ => false,
    }
}

/// What a trusted peer says of the client's side, where it is valid and believed.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    pub(crate) scheme: Option<Scheme>,
    pub(crate) target: Claim,
    pub(crate) request_id: Option<RequestId>,
}

impl Claims {
    pub(crate) fn of(headers: &HeaderMap, trust: &Trust<'_>) -> Self {
        let Some(peer) = trust.peer else { return Self::default() };
        // The last member of the list is that of the nearest hop, the one we trust.
        let last = |name| {
            let line = headers.get_all(name).iter().next_back()?;
            match line.as_bytes().rsplit(|&byte| byte == b',').next() {
                Some(member) if member.len() < line.len() => HeaderValue::from_bytes(member.trim_ascii()).ok(),
                _ => Some(line.clone()),
            }
        };
        let scheme = || {
            let proto = last(X_FORWARDED_PROTO)?;
            let is = |name: &str| proto.as_bytes().eq_ignore_ascii_case(name.as_bytes());
            match () {
                () if is("https") || is("wss") => Some(Scheme::HTTPS),
                () if is("http") || is("ws") => Some(Scheme::HTTP),
                () => None,
            }
        };
        // A list with anything else in it was not made by a proxy.
        let is_list = |line: &HeaderValue| {
            line.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[], \t".contains(byte))
        };
        let listed = || last(X_FORWARDED_HOST).filter(|_| headers.get_all(X_FORWARDED_HOST).iter().all(is_list));
        let host = || peer.forwarded_host().cloned().or_else(listed);
        Self {
            scheme: peer.forwarded_scheme().cloned().or_else(scheme),
            target: Claim {
                host: if trust.believes(X_FORWARDED_HOST.as_str()) { host() } else { None },
                port: if trust.believes(X_FORWARDED_PORT.as_str()) {
                    last(X_FORWARDED_PORT).and_then(|port| port_number(port.as_bytes()))
                } else {
                    None
                },
            },
            request_id: last(X_REQUEST_ID).as_ref().and_then(RequestId::from_trusted),
        }
    }
}

/// Removes every field that is not believed, also where something else stands for a hyphen.
pub(crate) fn remove(headers: &mut HeaderMap, is_post: bool, trust: &Trust<'_>) {
    let is_removed = |name: &str| {
        // Requests with content have both, and the sieve knows `content_length`, which is as long and ends alike.
        let is_of_content = matches!(name, "content-length" | "content-type");
        let is_suspect = !is_of_content
            && SUSPECTS.may_hold(name)
            && (is_claim(name)
                || is_foreign(name)
                || is_framing_in_disguise(name)
                || !is_post && is_method_override(name));
        (is_suspect || trust.is_named(name)) && (is_rebuilt(name) || !trust.believes(name))
    };
    let removed: Vec<HeaderName> = headers.keys().filter(|name| is_removed(name.as_str())).cloned().collect();
    for name in removed {
        headers.remove(name);
    }
}

static SUSPECTS: Sieve = {
    let [addresses, places, schemes, users, certificates, internals] = NAMES;
    let names = [addresses, places, schemes, users, certificates, internals, CLAIMS, FRAMING, METHOD_OVERRIDES];
    Sieve::new(&names, &BEGINNINGS)
};

const BEGINNINGS: [&str; FAMILIES.len() + 1] = {
    let mut all = [FORWARDED; FAMILIES.len() + 1];
    let mut index = 0;
    while index < FAMILIES.len() {
        all[index] = FAMILIES[index];
        index += 1;
    }
    all
};

fn is_claim(name: &str) -> bool {
    begins(name, FORWARDED) || CLAIMS.iter().any(|claim| is(name, claim))
}

const FORWARDED: &str = "x-forwarded-";

const CLAIMS: &[&str] = &[
    "x-forwarded",
    "x-real-ip",
    "x-request-id",
    // RFC 9440 §2.4
    "client-cert",
    "client-cert-chain",
    "forwarded",
    // httpoxy, CVE-2016-5385
    "proxy",
    // Answered by the server, or not at all (RFC 9110 §10.1.1).
    "expect",
];

/// Whether a setting may say that a trusted proxy is believed about the field `name`.
///
/// Not those that clients send, which every other peer's request would be without; nor those that the layer makes itself,
/// except for the two that it makes of what it believes.
pub(crate) fn may_be_trusted(name: &HeaderName) -> bool {
    let is_target = *name == X_FORWARDED_HOST || *name == X_FORWARDED_PORT;
    let is_forwarding = begins(name.as_str(), FORWARDED);
    is_spelled_well(name.as_str())
        && (is_target || !is_rebuilt(name.as_str()) && (is_forwarding || !is_end_to_end(name)))
}

/// A field that the layer makes itself, or that is for nobody further on.
fn is_rebuilt(name: &str) -> bool {
    let rebuilt = [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, X_FORWARDED_PORT];
    rebuilt.iter().any(|field| field == name)
        || matches!(name, "x-real-ip" | "x-request-id" | "forwarded" | "proxy" | "expect")
}

/// A method that some frameworks take for that of the request. Only a POST is meant to carry one; with any other method it
/// makes a request that was checked, and cached, as a GET into something else.
fn is_method_override(name: &str) -> bool {
    METHOD_OVERRIDES.iter().any(|field| is(name, field))
}

const METHOD_OVERRIDES: &[&str] = &["x-http-method-override", "x-http-method", "x-method-override"];

/// `Content_Length`: no field of this proxy's, but the variable of one to what stands behind it.
fn is_framing_in_disguise(name: &str) -> bool {
    FRAMING.iter().any(|field| is(name, field)) && !is_spelled_well(name)
}

const FRAMING: &[&str] = &["content-length", "content-type", "transfer-encoding"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sieve_lets_through_what_goes() {
        let names = NAMES.iter().copied().chain([CLAIMS, FRAMING, METHOD_OVERRIDES, &BEGINNINGS]).flatten();
        let spelled = names.flat_map(|name| ["-", "_", "."].map(|hyphen| name.replace('-', hyphen)));
        let longer = spelled.flat_map(|name| ["", "a", "-id", "_x-y"].map(|more| format!("{name}{more}")));
        let going = longer.filter(|name| {
            is_claim(name) || is_foreign(name) || is_framing_in_disguise(name) || is_method_override(name)
        });
        let count = going.inspect(|name| assert!(SUSPECTS.may_hold(name), "{name}")).count();
        assert!(count > 500, "{count}");
    }

    #[test]
    fn the_sieve_stops_what_browsers_send() {
        let usual = [
            "host",
            "user-agent",
            "accept",
            "accept-encoding",
            "accept-language",
            "cookie",
            "referer",
            "cache-control",
            "if-none-match",
            "if-modified-since",
            "upgrade-insecure-requests",
            "sec-fetch-dest",
            "sec-fetch-mode",
            "sec-fetch-site",
            "sec-fetch-user",
            "sec-ch-ua",
            "sec-ch-ua-mobile",
            "sec-ch-ua-platform",
            "priority",
            "origin",
            "dnt",
            "authorization",
            "te",
            "connection",
        ];
        assert_eq!(usual.iter().filter(|name| SUSPECTS.may_hold(name)).count(), 0);
    }

    const NAMED: [HeaderName; 5] = [
        HeaderName::from_static("x-forwarded-prefix"),
        HeaderName::from_static("remote-user"),
        HeaderName::from_static("cf-ipcountry"),
        HeaderName::from_static("x-corp-user"),
        HeaderName::from_static("proxy"),
    ];

    /// The fields among `names` that are left of a peer at this address.
    fn left<'a>(
        names: &[&'a str],
        trusted: Option<&TrustedPeer>,
        address: &str,
        fields: &[HeaderName],
    ) -> Vec<&'a str> {
        let mut headers: HeaderMap =
            names.iter().map(|name| (name.parse().unwrap(), HeaderValue::from_static("1"))).collect();
        remove(&mut headers, false, &Trust::new(trusted, address.parse().ok(), fields));
        names.iter().copied().filter(|name| headers.contains_key(*name)).collect()
    }

    const OTHERS: [&str; 6] =
        ["accept", "content-length", "content-type", "transfer-encoding", "x-requested-with", "x_own"];

    const SPOOFED: [&str; 24] = [
        "x-forwarded",
        "x-forwarded-for",
        "x_forwarded_for",
        "x-forwarded-prefix",
        "x-forwarded-anything",
        "x.real.ip",
        "x-request_id",
        "client-cert",
        "client_cert_chain",
        "forwarded",
        "proxy",
        "expect",
        "cf-connecting-ip",
        "cf-ipcountry",
        "remote-user",
        "remote_user",
        "x-original-url",
        "x.rewrite.url",
        "x-middleware-subrequest",
        "ssl-client-verify",
        "x-http-method-override",
        "content_length",
        "content_type",
        "transfer_encoding",
    ];

    #[test]
    fn removes_spoofed_fields_in_any_spelling_and_no_others() {
        assert_eq!(left(&[&OTHERS[..], &SPOOFED].concat(), None, "192.0.2.1", &[]), OTHERS);
    }

    #[test]
    fn removes_the_same_fields_of_a_trusted_proxy() {
        let peer = TrustedPeer::default();
        assert_eq!(left(&[&OTHERS[..], &SPOOFED].concat(), Some(&peer), "10.0.0.1", &[]), OTHERS);
    }

    #[test]
    fn keeps_named_fields_of_a_trusted_proxy_only_and_only_if_spelled_well() {
        let names = [&SPOOFED[..], &["x-corp-user", "x_corp_user", "x-forwarded_prefix"]].concat();
        let peer = TrustedPeer::default();
        let kept = ["x-forwarded-prefix", "cf-ipcountry", "remote-user", "x-corp-user"];
        assert_eq!(left(&names, Some(&peer), "10.0.0.1", &NAMED), kept);
        assert_eq!(left(&names, None, "192.0.2.1", &NAMED), [""; 0]);
    }

    #[test]
    fn keeps_of_a_cdn_only_the_fields_that_it_sets() {
        let names = [&SPOOFED[..], &["x-corp-user"]].concat();
        let peer = TrustedPeer::default();
        // Cloudflare, Fastly
        assert_eq!(left(&names, Some(&peer), "104.16.0.1", &NAMED), ["cf-ipcountry"]);
        assert_eq!(left(&names, Some(&peer), "151.101.1.1", &NAMED), [""; 0]);
    }

    #[test]
    fn only_what_clients_do_not_send_may_be_trusted() {
        for (name, may_be) in [
            ("x-forwarded-host", true),
            ("x-forwarded-prefix", true),
            ("remote-user", true),
            ("x-corp-user", true),
            ("client-cert", true),
            ("remote_user", false),
            ("x-forwarded-for", false),
            ("x-forwarded-proto", false),
            ("x-request-id", false),
            ("forwarded", false),
            ("proxy", false),
            ("host", false),
            ("cookie", false),
            ("content-length", false),
            ("if-none-match", false),
        ] {
            assert_eq!(may_be_trusted(&HeaderName::from_static(name)), may_be, "{name}");
        }
    }

    #[test]
    fn only_a_post_keeps_a_method_override() {
        for is_post in [true, false] {
            for name in METHOD_OVERRIDES {
                let mut headers = HeaderMap::new();
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static("DELETE"));
                remove(&mut headers, is_post, &Trust::new(None, None, &[]));
                assert_eq!(headers.contains_key(*name), is_post, "{name}");
            }
        }
    }
}
