//! Headers that tell which software answered, and so which holes to try.
//!
//! The names are those of the OWASP Secure Headers Project, `ci/headers_remove.json` as of
//! 2024-09-02: compare with <https://owasp.org/www-project-secure-headers/> when updating, and note
//! the date here.

/// Removed from every response.
pub(crate) const FINGERPRINTS: &[&str] = &[
    // Any server, framework or language.
    "server",
    "product",
    "powered-by",
    "x-powered-by",
    "x-server-powered-by",
    "x-cf-powered-by",
    "x-turbo-charged-by",
    "x-content-encoded-by",
    "x-framework",
    "x-generated-by",
    "x-generator",
    "x-php-version",
    "x-old-content-length",
    "host-header",
    // Where sources are. Only developer tools follow these.
    "sourcemap",
    "x-sourcemap",
    "x-sourcefiles",
    // Content management.
    "x-cms",
    "x-powered-cms",
    "x-cocoon-version",
    "x-joomla-version",
    "x-umbraco-version",
    "x-redirect-by", // WordPress
    "liferay-portal",
    "oraclecommercecloud-version",
    "pega-host",
    "x-powered-by-plesk",
    // Microsoft: ASP.NET, Exchange.
    "x-aspnet-version",
    "x-aspnetmvc-version",
    "x-owa-version",
    "x-beserver",
    "x-feserver",
    "x-calculatedbetarget",
    "x-diaginfo",
    // Caches and accelerators.
    "x-mod-pagespeed",
    "x-page-speed",
    "x-varnish-backend",
    "x-varnish-server",
    "x-litespeed-cache",
    "x-litespeed-cache-control",
    "x-litespeed-purge",
    "x-litespeed-tag",
    "x-litespeed-vary",
    // Meshes, clusters and their tracing: a map of what is inside.
    "k-proxy-request", // Knative
    "x-envoy-attempt-count",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-original-dst-host",
    "x-envoy-upstream-service-time",
    "x-kubernetes-pf-flowschema-ui", // as the list spells it
    "x-kubernetes-pf-flowschema-uid",
    "x-kubernetes-pf-prioritylevel-uid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    // Monitoring: Dynatrace.
    "x-dtagentid",
    "x-dthealthcheck",
    "x-dtinjectedservlet",
    "x-oneagent-js-injection",
    "x-ruxit-js-agent",
    // Applications.
    "$wsep", // WebSphere
    "x-jitsi-release",
    "x-atmosphere-error",
    "x-atmosphere-first-request",
    "x-atmosphere-tracking-id",
    "x-nextjs-cache",
    "x-nextjs-page",
];

/// Removed, but from answers to requests with `X-Nextjs-Data`. Such a request is made by Next.js's
/// router in the browser, and the answer to it carries a redirect here *instead of* in `Location`:
/// without it, links to pages that a middleware redirects would lead nowhere.
pub(crate) const NEXTJS_DATA_FINGERPRINTS: &[&str] = &["x-nextjs-matched-path", "x-nextjs-redirect"];
