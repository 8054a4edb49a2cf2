//! Names of security header fields that [`http::header`] does not define.

use http::HeaderName;

/// `Cross-Origin-Embedder-Policy`, which restricts loading resources from other origins.
pub const CROSS_ORIGIN_EMBEDDER_POLICY: HeaderName = HeaderName::from_static("cross-origin-embedder-policy");

/// `Cross-Origin-Opener-Policy`, which isolates a document from windows of other origins.
pub const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// `Cross-Origin-Resource-Policy`, which restricts the origins that may load a response without CORS.
pub const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// `Permissions-Policy`, which restricts browser features of a document and its frames.
pub const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// `Reporting-Endpoints`, which lists the endpoints for browser reports.
pub const REPORTING_ENDPOINTS: HeaderName = HeaderName::from_static("reporting-endpoints");

/// `X-Permitted-Cross-Domain-Policies`, which restricts the policy files of browser plug-ins.
pub const X_PERMITTED_CROSS_DOMAIN_POLICIES: HeaderName = HeaderName::from_static("x-permitted-cross-domain-policies");
