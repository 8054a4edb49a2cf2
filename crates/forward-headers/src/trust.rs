//! Determines the trusted header fields, and removes all other fields that a client could spoof.

use std::net::IpAddr;

use http::Version;
use http::header::{EXPECT, HeaderMap, HeaderName, HeaderValue};
use http::uri::Scheme;
use rproxy_client_ip::{Cdn, TrustedPeer};
use rproxy_core::spelling::{has_prefix, is_canonical, is_spelling_of};

use crate::authority::{ReportedAuthority, port_number};
use crate::hop_by_hop::is_end_to_end;
use crate::name_filter::NameFilter;
use crate::names::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO};
use crate::nearest::last_member;
use crate::request_id::RequestId;
use crate::vendor_fields::{VENDOR_FIELDS, VENDOR_PREFIXES, is_vendor_field};

/// The header fields that are trusted in requests from one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trust<'a> {
    peer: Option<&'a TrustedPeer>,
    cdn: Option<Cdn>,
    /// The fields that are trusted in addition to the client address, the scheme and the request ID.
    fields: &'a [HeaderName],
}

impl<'a> Trust<'a> {
    /// Determines which header fields of a peer are trusted. `address` is the peer's address, if it is known.
    pub(crate) fn new(peer: Option<&'a TrustedPeer>, address: Option<IpAddr>, fields: &'a [HeaderName]) -> Self {
        // The lookup of the CDN is needed only if a field of it could be trusted.
        let needs_cdn = peer.is_some() && !fields.is_empty();
        Self { peer, cdn: address.filter(|_| needs_cdn).and_then(Cdn::from_address), fields }
    }

    /// Returns whether the peer is trusted to send the field `name`.
    fn trusts_field(&self, name: &str) -> bool {
        self.peer.is_some()
            && self.fields.iter().any(|field| field == name)
            && self.cdn.is_none_or(|cdn| is_set_by(cdn, name))
    }

    /// Returns `false` if [`remove_untrusted`] never removes the field `name`, which is so for most fields.
    #[inline]
    pub(crate) fn may_distrust(&self, name: &str) -> bool {
        may_be_spoofable(name) || !self.fields.is_empty() && self.is_restricted(name)
    }

    /// Returns whether `name` is a field, or a spelling of a field, that only trusted proxies may send.
    fn is_restricted(&self, name: &str) -> bool {
        self.fields.iter().any(|field| is_spelling_of(name, field.as_str()))
    }
}

/// Returns whether the CDN overwrites the field `name` in every request. It forwards other fields as clients send them.
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

/// Valid forwarding data that a trusted peer reported about the client's request.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) scheme: Option<Scheme>,
    pub(crate) authority: ReportedAuthority,
    pub(crate) request_id: Option<RequestId>,
}

impl Report {
    pub(crate) fn read(headers: &HeaderMap, trust: &Trust<'_>) -> Self {
        let Some(peer) = trust.peer else { return Self::default() };
        let last = |name| last_member(headers, &name);
        let scheme = || {
            let proto = last(X_FORWARDED_PROTO)?;
            let is = |name: &str| proto.as_bytes().eq_ignore_ascii_case(name.as_bytes());
            match () {
                () if is("https") || is("wss") => Some(Scheme::HTTPS),
                () if is("http") || is("ws") => Some(Scheme::HTTP),
                () => None,
            }
        };
        // No proxy writes a list with other characters.
        let is_list = |line: &HeaderValue| {
            line.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[], \t".contains(byte))
        };
        let listed = || last(X_FORWARDED_HOST).filter(|_| headers.get_all(X_FORWARDED_HOST).iter().all(is_list));
        // `Forwarded` is present only if it is the source of the client address. What it says takes precedence, and its host
        // includes the port.
        let host = peer.forwarded_host().filter(|_| trust.trusts_field(X_FORWARDED_HOST.as_str()));
        let authority = match host {
            Some(host) => ReportedAuthority { host: Some(host.clone()), port: None },
            None => ReportedAuthority {
                host: if trust.trusts_field(X_FORWARDED_HOST.as_str()) { listed() } else { None },
                port: if trust.trusts_field(X_FORWARDED_PORT.as_str()) {
                    last(X_FORWARDED_PORT).and_then(|port| port_number(port.as_bytes()))
                } else {
                    None
                },
            },
        };
        Self {
            scheme: peer.forwarded_scheme().cloned().or_else(scheme),
            authority,
            request_id: RequestId::of_trusted(headers),
        }
    }
}

/// Removes untrusted header fields, including spellings such as `X_Real_IP`.
///
/// `received` is the version of the request.
pub(crate) fn remove_untrusted(headers: &mut HeaderMap, is_post: bool, received: Version, trust: &Trust<'_>) {
    let keeps_expectation = has_expectation(headers, received);
    let is_removed = |name: &str| {
        if name == EXPECT {
            return !keeps_expectation;
        }
        let is_spoofable = may_be_spoofable(name)
            && (is_forwarding_field(name)
                || is_vendor_field(name)
                || is_misspelled_framing_field(name)
                || !is_post && is_method_override(name));
        (is_spoofable || trust.is_restricted(name)) && (is_set_by_layer(name) || !trust.trusts_field(name))
    };
    let removed: Vec<HeaderName> = headers.keys().filter(|name| is_removed(name.as_str())).cloned().collect();
    for name in removed {
        headers.remove(name);
    }
}

/// Returns whether a request has the expectation `100-continue`, the only one that is defined.
///
/// RFC 9110 §10.1.1: it is ignored in HTTP/1.0. A backend could parse other values as `100-continue`, and wait for content
/// in another way than this proxy.
fn has_expectation(headers: &HeaderMap, received: Version) -> bool {
    let mut lines = headers.get_all(EXPECT).iter();
    let is_continue = lines.next().is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    is_continue && lines.next().is_none() && received > Version::HTTP_10
}

/// Returns `false` if no peer can spoof the field `name`.
fn may_be_spoofable(name: &str) -> bool {
    // The filter cannot tell the spoofable fields from these fields of requests with content.
    SPOOFABLE_FIELDS.may_contain(name) && !matches!(name, "content-length" | "content-type")
}

static SPOOFABLE_FIELDS: NameFilter = {
    let [addresses, targets, schemes, users, certificates, frameworks] = VENDOR_FIELDS;
    let forwarding = FORWARDING_FIELDS;
    let names =
        [addresses, targets, schemes, users, certificates, frameworks, forwarding, FRAMING_FIELDS, METHOD_OVERRIDES];
    NameFilter::new(&names, &PREFIXES)
};

const PREFIXES: [&str; VENDOR_PREFIXES.len() + 1] = {
    let mut all = [X_FORWARDED_PREFIX; VENDOR_PREFIXES.len() + 1];
    let mut index = 0;
    while index < VENDOR_PREFIXES.len() {
        all[index] = VENDOR_PREFIXES[index];
        index += 1;
    }
    all
};

fn is_forwarding_field(name: &str) -> bool {
    has_prefix(name, X_FORWARDED_PREFIX) || FORWARDING_FIELDS.iter().any(|field| is_spelling_of(name, field))
}

const X_FORWARDED_PREFIX: &str = "x-forwarded-";

const FORWARDING_FIELDS: &[&str] = &[
    "x-forwarded",
    "x-real-ip",
    "x-request-id",
    // RFC 9440 §2.4
    "client-cert",
    "client-cert-chain",
    "forwarded",
    // httpoxy, CVE-2016-5385
    "proxy",
    // Kept if it is `100-continue`.
    "expect",
];

/// Returns whether a request has a field in which proxies report the client, such as `X-Forwarded-For`.
///
/// Such a field of a peer that is not a trusted proxy is removed, but it indicates that the peer is a proxy.
pub fn has_forwarding_field(headers: &HeaderMap) -> bool {
    let [client_addresses, ..] = VENDOR_FIELDS;
    let is_client_field = |name: &str| {
        has_prefix(name, X_FORWARDED_PREFIX)
            || ["forwarded", "x-forwarded", "x-real-ip"].iter().any(|field| is_spelling_of(name, field))
            || client_addresses.iter().any(|field| is_spelling_of(name, field))
    };
    headers.keys().any(|name| SPOOFABLE_FIELDS.may_contain(name.as_str()) && is_client_field(name.as_str()))
}

/// Returns whether the field `name` can be configured as trusted.
///
/// Fields that clients send cannot, because they would be removed from the requests of all untrusted peers. Nor can the
/// fields that the layer sets, except for the two that it derives from trusted values.
pub(crate) fn is_trustable(name: &HeaderName) -> bool {
    let is_authority_field = *name == X_FORWARDED_HOST || *name == X_FORWARDED_PORT;
    let is_forwarding = has_prefix(name.as_str(), X_FORWARDED_PREFIX);
    is_canonical(name.as_str())
        && (is_authority_field || !is_set_by_layer(name.as_str()) && (is_forwarding || !is_end_to_end(name)))
}

/// Returns whether the layer always sets or always removes the field `name`.
fn is_set_by_layer(name: &str) -> bool {
    let set_fields = [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, X_FORWARDED_PORT];
    set_fields.iter().any(|field| field == name)
        || matches!(name, "x-real-ip" | "x-request-id" | "forwarded" | "proxy" | "expect")
}

/// Returns whether frameworks use the field `name` to override the request method.
///
/// Only a POST may have such a field. Otherwise a request that was checked and cached as a GET would be handled as another
/// method.
fn is_method_override(name: &str) -> bool {
    METHOD_OVERRIDES.iter().any(|field| is_spelling_of(name, field))
}

const METHOD_OVERRIDES: &[&str] = &["x-http-method-override", "x-http-method", "x-method-override"];

/// Returns whether `name` is a misspelling of a framing field, such as `Content_Length`.
///
/// This proxy does not know such a field, but backends with CGI-style names take it for `Content-Length`.
fn is_misspelled_framing_field(name: &str) -> bool {
    FRAMING_FIELDS.iter().any(|field| is_spelling_of(name, field)) && !is_canonical(name)
}

const FRAMING_FIELDS: &[&str] = &["content-length", "content-type", "transfer-encoding"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spoofable_field_filter_contains_all_fields_to_remove() {
        let lists = [FORWARDING_FIELDS, FRAMING_FIELDS, METHOD_OVERRIDES, &PREFIXES];
        let names = VENDOR_FIELDS.iter().copied().chain(lists).flatten();
        let spelled = names.flat_map(|name| ["-", "_", "."].map(|hyphen| name.replace('-', hyphen)));
        let longer = spelled.flat_map(|name| ["", "a", "-id", "_x-y"].map(|more| format!("{name}{more}")));
        let to_remove = longer.filter(|name| {
            is_forwarding_field(name)
                || is_vendor_field(name)
                || is_misspelled_framing_field(name)
                || is_method_override(name)
        });
        let count = to_remove.inspect(|name| assert!(SPOOFABLE_FIELDS.may_contain(name), "{name}")).count();
        assert!(count > 500, "{count}");
    }

    #[test]
    fn spoofable_field_filter_contains_no_common_browser_field() {
        let common = [
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
        assert_eq!(common.iter().filter(|name| SPOOFABLE_FIELDS.may_contain(name)).count(), 0);
    }

    const TRUSTED_FIELDS: [HeaderName; 5] = [
        HeaderName::from_static("x-forwarded-prefix"),
        HeaderName::from_static("remote-user"),
        HeaderName::from_static("cf-ipcountry"),
        HeaderName::from_static("x-corp-user"),
        HeaderName::from_static("proxy"),
    ];

    /// Returns the fields in `names` that the layer keeps in a request from the peer `address`.
    fn kept_fields<'a>(
        names: &[&'a str],
        trusted: Option<&TrustedPeer>,
        address: &str,
        fields: &[HeaderName],
    ) -> Vec<&'a str> {
        let mut headers: HeaderMap =
            names.iter().map(|name| (name.parse().unwrap(), HeaderValue::from_static("1"))).collect();
        remove_untrusted(&mut headers, false, Version::HTTP_11, &Trust::new(trusted, address.parse().ok(), fields));
        names.iter().copied().filter(|name| headers.contains_key(*name)).collect()
    }

    const HARMLESS: [&str; 6] =
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
    fn removes_spoofed_fields_in_any_spelling_and_keeps_all_others() {
        assert_eq!(kept_fields(&[&HARMLESS[..], &SPOOFED].concat(), None, "192.0.2.1", &[]), HARMLESS);
    }

    #[test]
    fn keeps_only_the_expectation_100_continue() {
        for (version, lines, is_kept) in [
            (Version::HTTP_11, &["100-continue"][..], true),
            (Version::HTTP_2, &["100-Continue"], true),
            (Version::HTTP_10, &["100-continue"], false),
            (Version::HTTP_11, &["100-continue", "100-continue"], false),
            (Version::HTTP_11, &["100-continue,"], false),
            (Version::HTTP_11, &["y 100-continue"], false),
            (Version::HTTP_11, &["200-ok"], false),
        ] {
            let mut headers: HeaderMap = lines.iter().map(|line| (EXPECT, HeaderValue::from_static(line))).collect();
            remove_untrusted(&mut headers, false, version, &Trust::new(None, None, &[]));
            assert_eq!(headers.contains_key(EXPECT), is_kept, "{version:?} {lines:?}");
        }
    }

    #[test]
    fn removes_vendor_fields_of_a_trusted_proxy_by_default() {
        let peer = TrustedPeer::default();
        assert_eq!(kept_fields(&[&HARMLESS[..], &SPOOFED].concat(), Some(&peer), "10.0.0.1", &[]), HARMLESS);
    }

    #[test]
    fn keeps_trusted_fields_of_a_trusted_proxy_in_canonical_spelling() {
        let names = [&SPOOFED[..], &["x-corp-user", "x_corp_user", "x-forwarded_prefix"]].concat();
        let peer = TrustedPeer::default();
        let expected = ["x-forwarded-prefix", "cf-ipcountry", "remote-user", "x-corp-user"];
        assert_eq!(kept_fields(&names, Some(&peer), "10.0.0.1", &TRUSTED_FIELDS), expected);
        assert_eq!(kept_fields(&names, None, "192.0.2.1", &TRUSTED_FIELDS), [""; 0]);
    }

    #[test]
    fn trusts_only_the_fields_that_the_cdn_sets_itself() {
        let names = [&SPOOFED[..], &["x-corp-user"]].concat();
        let peer = TrustedPeer::default();
        // Cloudflare, Fastly
        assert_eq!(kept_fields(&names, Some(&peer), "104.16.0.1", &TRUSTED_FIELDS), ["cf-ipcountry"]);
        assert_eq!(kept_fields(&names, Some(&peer), "151.101.1.1", &TRUSTED_FIELDS), [""; 0]);
    }

    #[test]
    fn detects_fields_in_which_proxies_report_the_client_address() {
        for (name, expected) in [
            ("x-forwarded-for", true),
            ("x_forwarded_for", true),
            ("x-forwarded-proto", true),
            ("forwarded", true),
            ("x-real-ip", true),
            ("cf-connecting-ip", true),
            ("true-client-ip", true),
            ("x-request-id", false),
            ("expect", false),
            ("content-type", false),
            ("user-agent", false),
        ] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("1"))]);
            assert_eq!(has_forwarding_field(&headers), expected, "{name}");
        }
    }

    #[test]
    fn common_client_fields_cannot_be_configured_as_trusted() {
        for (name, expected) in [
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
            assert_eq!(is_trustable(&HeaderName::from_static(name)), expected, "{name}");
        }
    }

    #[test]
    fn keeps_method_override_fields_of_post_requests_only() {
        for is_post in [true, false] {
            for name in METHOD_OVERRIDES {
                let mut headers = HeaderMap::new();
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static("DELETE"));
                remove_untrusted(&mut headers, is_post, Version::HTTP_11, &Trust::new(None, None, &[]));
                assert_eq!(headers.contains_key(*name), is_post, "{name}");
            }
        }
    }
}
