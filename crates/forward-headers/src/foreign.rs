//! Fields in which other proxies, servers and frameworks tell an application about the client or the request.
//!
//! Each belongs to some proxy, CDN, server module or framework, whose documentation says that it is set there and removed
//! from clients' requests. An application believes them wherever it is deployed, so they are removed unless a setting says
//! that a trusted proxy sets them. What clients send by themselves is not here, such as `X-User-Id` and `X-Auth-Token` of
//! APIs, or `X-Middleware-Prefetch` of Next.js's router.

use crate::alike::{begins, is};

/// Whether the field `name` is one of them, in whatever spelling. Names are in lower case.
pub(crate) fn is_foreign(name: &str) -> bool {
    NAMES.iter().copied().flatten().any(|other| is(name, other)) || FAMILIES.iter().any(|family| begins(name, family))
}

pub(crate) const NAMES: [&[&str]; 6] = [ADDRESSES, PLACES, SCHEMES, USERS, CERTIFICATES, INTERNALS];

/// Who asks.
const ADDRESSES: &[&str] = &[
    "ali-cdn-real-ip",
    "cdn-src-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-ipcountry",
    "cf-pseudo-ipv4",
    "client-ip",
    "cluster-client-ip",
    "do-connecting-ip",
    "forwarded-for",
    "forwarded-for-ip",
    "http-client-ip",
    "http-x-forwarded-for",
    "incap-client-ip",
    "proxy-client-ip",
    "real-ip",
    "remote-addr",
    "source-ip",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-client-ip",
    "x-clientip",
    "x-cluster-client-ip",
    "x-coming-from",
    "x-custom-ip-authorization",
    "x-gateway-client-ip",
    "x-nf-client-connection-ip",
    "x-original-forwarded-for",
    "x-original-remote-addr",
    "x-originally-forwarded-for",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-source-ip",
    "x-sucuri-clientip",
    "x-true-client-ip",
    "x-true-ip",
    "x-vercel-forwarded-for",
    "x-vercel-proxied-for",
];

/// For what, and where: with these a path that is blocked, or cached for all, is asked for by another's name.
const PLACES: &[&str] = &[
    "x-backend-host",
    "x-backend-server",
    "x-host",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-override-url",
    "x-proxy-host",
    "x-proxy-url",
    "x-request-uri",
    "x-request-url",
    "x-rewrite-path",
    "x-rewrite-uri",
    "x-rewrite-url",
    "x-script-name",
    // Rack::Sendfile: which files the application tells its server to send (CVE-2025-61780).
    "x-accel-mapping",
    "x-sendfile-type",
];

/// Whether it came over TLS.
const SCHEMES: &[&str] = &["cf-visitor", "front-end-https", "https", "x-https", "x-scheme", "x-ssl", "x-url-scheme"];

/// Which user it is, by the word of a proxy that asks for passwords.
const USERS: &[&str] = &[
    "cf-access-authenticated-user-email",
    // Removed as hop-by-hop in this spelling; CGI reads others as the same.
    "proxy-authorization",
    "remote-email",
    "remote-groups",
    "remote-name",
    "remote-user",
    "x-anonymous-consumer",
    "x-authenticated-groups",
    "x-authenticated-user",
    "x-authenticated-userid",
    "x-proxy-user",
    "x-remote-group",
    "x-remote-user",
    "x-vouch-user",
];

/// Which certificate it has.
const CERTIFICATES: &[&str] =
    &["ssl-cert", "x-client-cert", "x-client-cert-chain", "x-client-certificate", "x-client-dn", "x-client-verify"];

/// What a framework says to itself.
const INTERNALS: &[&str] = &[
    // Next.js
    "x-middleware-invoke",
    "x-middleware-next",
    "x-middleware-override-headers",
    "x-middleware-redirect",
    "x-middleware-rewrite",
    "x-middleware-set-cookie",
    "x-middleware-skip",
    "x-invoke-path",
    "x-invoke-query",
    "x-invoke-status",
    "x-matched-path",
    "x-now-route-matches",
];

/// Whole families.
pub(crate) const FAMILIES: &[&str] = &[
    "cloudfront-",
    "fastly-",
    "fly-",
    "tailscale-user-",
    // Apache's mod_ssl, and nginx by convention.
    "ssl-client-",
    "x-ssl-client-",
    // AWS's load balancer
    "x-amzn-oidc-",
    // App Engine and Identity-Aware Proxy
    "x-appengine-",
    "x-goog-authenticated-user-",
    // IIS's Application Request Routing, Front Door, App Service
    "x-arr-",
    "x-azure-",
    "x-ms-client-principal",
    // oauth2-proxy, authentik, Grafana's and Gitea's proxies, Kong, Pomerium
    "x-auth-request-",
    "x-authentik-",
    "x-webauth-",
    "x-consumer-",
    "x-pomerium-claim-",
    // Kubernetes' authenticating proxy
    "x-remote-extra-",
    // Envoy, which wants them sanitised at the edge
    "x-envoy-",
    // `X-Real-IP` and what was made after it
    "x-real-",
    // Vercel's word on where the client is
    "x-vercel-ip-",
    // Next.js: with it a request got past the middleware (CVE-2025-29927).
    "x-middleware-subrequest",
];

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
            ("proxy_authorization", true),
            ("x-remote-group", true),
            ("x-remote-extra-scopes", true),
            ("x_authenticated_userid", true),
            ("x_webauth_user", true),
            ("x-envoy-original-path", true),
            ("x-middleware-subrequest", true),
            ("x-middleware-subrequest-id", true),
            ("cloudfront-viewer-address", true),
            ("https", true),
            ("x-http-method-override", false),
            ("x-middleware-prefetch", false),
            ("x-user-id", false),
            ("x-auth-token", false),
            ("x-requested-with", false),
            ("x-amz-date", false),
            ("x-goog-api-key", false),
            ("x-ms-version", false),
            ("upgrade-insecure-requests", false),
            ("cf-ray", false),
            ("cookie", false),
            ("accept", false),
            ("", false),
        ] {
            assert_eq!(is_foreign(name), foreign, "{name}");
        }
    }

    #[test]
    fn each_is_there_once_and_in_lower_case() {
        let mut all: Vec<_> = NAMES.iter().copied().flatten().collect();
        assert!(all.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || b"-46".contains(&byte))));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        // What belongs to a family need not be named.
        assert!(!all.iter().any(|name| FAMILIES.iter().any(|family| begins(name, family))));
    }
}
