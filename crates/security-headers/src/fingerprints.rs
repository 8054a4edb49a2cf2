//! Header fields that reveal the software behind a site, and thereby its known vulnerabilities.
//!
//! The names are those of the OWASP Secure Headers Project, `ci/headers_remove.json` as of 2024-09-02. To update them,
//! compare with <https://owasp.org/www-project-secure-headers/> and change the date here.

/// Fingerprinting header fields, which are removed from every response.
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
    // Locations of source files. Only developer tools use these.
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
    // Service meshes, clusters and tracing: they reveal the internal structure.
    "k-proxy-request", // Knative
    "x-envoy-attempt-count",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-original-dst-host",
    "x-envoy-upstream-service-time",
    "x-kubernetes-pf-flowschema-ui", // The spelling of the list.
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

/// Header fields that are removed unless the request has `X-Nextjs-Data`.
///
/// Next.js's router in the browser sends such requests. It reads redirects from these fields instead of from `Location`,
/// so removing them would break links to pages that a middleware redirects.
pub(crate) const NEXTJS_DATA_FINGERPRINTS: &[&str] = &["x-nextjs-matched-path", "x-nextjs-redirect"];
