//! Fields in which others than this layer tell an application who asks, or for what.
//!
//! Each belongs to some proxy, CDN or server module. An application behind one of these believes it, and goes on doing
//! so when it is moved: then whoever comes directly can say what they like.

/// Whether the field `name` is one of them, in whatever spelling. Names are in lower case.
pub(crate) fn is_foreign(name: &str) -> bool {
    // By the first letter, as most fields have none of these.
    let (names, prefixes): (&[&str], &[&str]) = match name.as_bytes().first() {
        Some(b'c') => (&["cf-connecting-ip", "cf-connecting-ipv6", "cf-pseudo-ipv4", "client-ip"], &[]),
        Some(b'd') => (&["do-connecting-ip"], &[]),
        Some(b'f') => (&["fastly-client-ip", "fly-client-ip", "front-end-https"], &[]),
        Some(b'i') => (&["incap-client-ip"], &[]),
        Some(b'p') => (&["proxy-client-ip"], &[]),
        Some(b'r') => (&["remote-addr", "remote-user"], &[]),
        Some(b's') => (&[], &["ssl-client-"]),
        Some(b't') => (&["true-client-ip"], &[]),
        Some(b'w') => (&["wl-proxy-client-ip"], &[]),
        Some(b'x') => (X, &["x-ssl-client-"]),
        _ => return false,
    };
    names.iter().any(|other| is(name, other)) || prefixes.iter().any(|prefix| begins(name, prefix))
}

const X: &[&str] = &[
    // Who asks.
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-nf-client-connection-ip",
    "x-original-forwarded-for",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-remote-user",
    "x-sucuri-clientip",
    "x-vercel-forwarded-for",
    // For what, and where: with these a path that is blocked, or cached for all, is asked for by another's name.
    "x-host",
    "x-http-host-override",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
    "x-scheme",
    "x-url-scheme",
];

/// Whether `name` is `claim`, also where something else stands for a hyphen.
pub(crate) fn is(name: &str, claim: &str) -> bool {
    name.len() == claim.len() && begins(name, claim)
}

/// Whether `name` begins as `claim` does, also where something else stands for a hyphen.
pub(crate) fn begins(name: &str, claim: &str) -> bool {
    let same = |(byte, other): (u8, u8)| byte == other || other == b'-' && !byte.is_ascii_alphanumeric();
    name.len() >= claim.len() && name.bytes().zip(claim.bytes()).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_others_are_known_in_any_spelling() {
        for (name, foreign) in [
            ("cf-connecting-ip", true),
            ("cf_connecting_ip", true),
            ("true-client-ip", true),
            ("x-client-ip", true),
            ("x.original.url", true),
            ("x-ssl-client-verify", true),
            ("ssl_client_s_dn", true),
            ("remote_user", true),
            ("x-http-method-override", false),
            ("x-requested-with", false),
            ("cf-ray", false),
            ("cookie", false),
            ("accept", false),
        ] {
            assert_eq!(is_foreign(name), foreign, "{name}");
        }
    }
}
