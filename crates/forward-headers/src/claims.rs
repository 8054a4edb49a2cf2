//! What the other side says of who asks and how.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::alike::{begins, is, is_spelled_well};
use crate::foreign::{FAMILIES, NAMES, is_foreign};
use crate::names::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_REQUEST_ID};
use crate::request_id::RequestId;
use crate::sieve::Sieve;

/// What a trusted peer says of the client's side, where it is fit to be passed on.
#[derive(Default)]
pub(crate) struct Claims {
    pub(crate) proto: Option<HeaderValue>,
    pub(crate) host: Option<HeaderValue>,
    pub(crate) port: Option<HeaderValue>,
    pub(crate) request_id: Option<RequestId>,
}

impl Claims {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        // The last member of the list is that of the nearest hop, the one we trust.
        let last = |name| {
            let line = headers.get_all(name).iter().next_back()?;
            match line.as_bytes().rsplit(|&byte| byte == b',').next() {
                Some(member) if member.len() < line.len() => HeaderValue::from_bytes(member.trim_ascii()).ok(),
                _ => Some(line.clone()),
            }
        };
        let proto = last(X_FORWARDED_PROTO).and_then(|proto| match proto.as_bytes().to_ascii_lowercase().as_slice() {
            b"https" | b"wss" => Some(HeaderValue::from_static("https")),
            b"http" | b"ws" => Some(HeaderValue::from_static("http")),
            _ => None,
        });
        // A list with nonsense in it was not made by a proxy.
        let is_list = |line: &HeaderValue| {
            line.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[], \t".contains(byte))
        };
        let host = last(X_FORWARDED_HOST)
            .filter(|host| !host.is_empty() && host.len() <= 261 && !host.as_bytes().contains(&b' '))
            .filter(|_| headers.get_all(X_FORWARDED_HOST).iter().all(is_list));
        let port = last(X_FORWARDED_PORT).filter(|port| port.to_str().is_ok_and(|port| port.parse::<u16>().is_ok()));
        let request_id = last(X_REQUEST_ID).as_ref().and_then(RequestId::from_trusted);
        Self { proto, host, port, request_id }
    }
}

/// Removes every claim, also where something else stands for a hyphen. Of a trusted peer, what is not rebuilt here
/// stays, if it is spelled as it should be.
pub(crate) fn remove(headers: &mut HeaderMap, is_trusted: bool) {
    let goes = |name: &str| {
        SUSPECTS.may_hold(name)
            && (is_claim(name) && !(is_trusted && is_kept(name))
                || is_foreign(name) && !(is_trusted && is_spelled_well(name))
                || is_framing_in_disguise(name))
    };
    while let Some(claim) = headers.keys().find(|name| goes(name.as_str())) {
        let claim: HeaderName = claim.clone();
        headers.remove(claim);
    }
}

static SUSPECTS: Sieve = {
    let [addresses, places, schemes, users, certificates, internals] = NAMES;
    let names = [addresses, places, schemes, users, certificates, internals, CLAIMS, FRAMING];
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

/// A claim that nothing is put in the place of, such as `X-Forwarded-Prefix`.
fn is_kept(name: &str) -> bool {
    let rebuilt = [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, X_FORWARDED_PORT];
    let is_certificate = name == "client-cert" || name == "client-cert-chain";
    is_certificate || name.starts_with("x-forwarded-") && !rebuilt.iter().any(|rebuilt| is(name, rebuilt.as_str()))
}

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
        let names = NAMES.iter().copied().chain([CLAIMS, FRAMING, &BEGINNINGS]).flatten();
        let spelled = names.flat_map(|name| ["-", "_", "."].map(|hyphen| name.replace('-', hyphen)));
        let longer = spelled.flat_map(|name| ["", "a", "-id", "_x-y"].map(|more| format!("{name}{more}")));
        let going = longer.filter(|name| is_claim(name) || is_foreign(name) || is_framing_in_disguise(name));
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

    fn left<'a>(names: &[&'a str], is_trusted: bool) -> Vec<&'a str> {
        let mut headers: HeaderMap =
            names.iter().map(|name| (name.parse().unwrap(), HeaderValue::from_static("1"))).collect();
        remove(&mut headers, is_trusted);
        names.iter().copied().filter(|name| headers.contains_key(*name)).collect()
    }

    #[test]
    fn claims_go_in_any_spelling_and_others_stay() {
        let others = ["accept", "content-length", "content-type", "transfer-encoding", "x-requested-with", "x_own"];
        let claims = [
            "x-forwarded",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded-anything",
            "x.real.ip",
            "x-request_id",
            "client-cert",
            "client_cert_chain",
            "forwarded",
            "proxy",
            "expect",
            "cf-connecting-ip",
            "content_length",
            "content_type",
            "transfer_encoding",
        ];
        assert_eq!(left(&[&others[..], &claims].concat(), false), others);
    }

    #[test]
    fn of_a_trusted_peer_stays_what_is_not_rebuilt_if_it_is_spelled_well() {
        let kept = ["x-forwarded-prefix", "client-cert", "cf-connecting-ip"];
        let claims = [
            "x-forwarded-for",
            "x-forwarded-host",
            "x_forwarded_prefix",
            "cf_connecting_ip",
            "x-real-ip",
            "x-request-id",
            "forwarded",
            "proxy",
            "content_length",
        ];
        assert_eq!(left(&[&kept[..], &claims].concat(), true), kept);
    }
}
