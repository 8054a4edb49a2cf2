//! Header fields in which proxies, CDNs, server modules and frameworks describe the client to a backend.
//!
//! According to the documentation of each, it sets the field and removes the one that a client sent. Backends trust these
//! fields even behind another proxy. They are therefore removed, unless they are configured as trusted. Fields that clients
//! send themselves are not listed, such as `X-User-Id` and `X-Auth-Token` of APIs, or `X-Middleware-Prefetch` of Next.js's
//! router.

use rproxy_core::spelling::{has_prefix, is_spelling_of};

/// Returns whether `name` is a field, or a spelling of a field, that proxies or frameworks set for backends.
///
/// Names are in lower case.
pub(crate) fn is_vendor_field(name: &str) -> bool {
    VENDOR_FIELDS.iter().copied().flatten().any(|field| is_spelling_of(name, field))
        || VENDOR_PREFIXES.iter().any(|prefix| has_prefix(name, prefix))
}

pub(crate) const VENDOR_FIELDS: [&[&str]; 6] =
    [CLIENT_ADDRESS_FIELDS, TARGET_FIELDS, SCHEME_FIELDS, USER_FIELDS, CERTIFICATE_FIELDS, FRAMEWORK_FIELDS];

/// Vendor fields that contain the client's address.
const CLIENT_ADDRESS_FIELDS: &[&str] = &[
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

/// Vendor fields that override the method, the host or the path of a request.
///
/// With them, a client could request a blocked path under another name, or poison a cache.
const TARGET_FIELDS: &[&str] = &[
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
    // Rack::Sendfile: the mapping of the files that the application lets its server send (CVE-2025-61780).
    "x-accel-mapping",
    "x-sendfile-type",
];

/// Vendor fields that contain the scheme of the client's request.
const SCHEME_FIELDS: &[&str] =
    &["cf-visitor", "front-end-https", "https", "x-https", "x-scheme", "x-ssl", "x-url-scheme"];

/// Vendor fields in which an authenticating proxy names the user.
const USER_FIELDS: &[&str] = &[
    "cf-access-authenticated-user-email",
    // This spelling is removed as hop-by-hop, but CGI maps other spellings to the same variable.
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

/// Vendor fields that contain the client's certificate.
const CERTIFICATE_FIELDS: &[&str] =
    &["ssl-cert", "x-client-cert", "x-client-cert-chain", "x-client-certificate", "x-client-dn", "x-client-verify"];

/// Internal fields of frameworks such as Next.js.
const FRAMEWORK_FIELDS: &[&str] = &[
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

/// Prefixes of vendor field names that are not listed individually.
pub(crate) const VENDOR_PREFIXES: &[&str] = &[
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
    // Envoy, whose documentation requires their removal at the edge
    "x-envoy-",
    // `X-Real-IP` and similar fields
    "x-real-",
    // Vercel, the location of the client
    "x-vercel-ip-",
    // Next.js: it let requests bypass the middleware (CVE-2025-29927).
    "x-middleware-subrequest",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_vendor_fields_in_any_spelling() {
        for (name, expected) in [
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
            assert_eq!(is_vendor_field(name), expected, "{name}");
        }
    }

    #[test]
    fn vendor_field_names_are_unique_and_lower_case() {
        let mut all: Vec<_> = VENDOR_FIELDS.iter().copied().flatten().collect();
        assert!(all.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || b"-46".contains(&byte))));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        // A name with a listed prefix is redundant.
        assert!(!all.iter().any(|name| VENDOR_PREFIXES.iter().any(|prefix| has_prefix(name, prefix))));
    }
}
