//! Names of security headers that [`http::header`] does not have.

use http::HeaderName;

/// `Cross-Origin-Embedder-Policy`: whether a document may load what other origins did not offer.
pub const CROSS_ORIGIN_EMBEDDER_POLICY: HeaderName = HeaderName::from_static("cross-origin-embedder-policy");

/// `Cross-Origin-Opener-Policy`: whether a document shares its window's handle with other origins.
pub const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// `Cross-Origin-Resource-Policy`: which origins may load a response without asking by CORS.
pub const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// `Permissions-Policy`: which of the browser's powers a document and its frames have.
pub const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// `Reporting-Endpoints`: where browsers send their reports about a document.
pub const REPORTING_ENDPOINTS: HeaderName = HeaderName::from_static("reporting-endpoints");

/// `X-Permitted-Cross-Domain-Policies`: whether plug-ins may look for policy files.
pub const X_PERMITTED_CROSS_DOMAIN_POLICIES: HeaderName = HeaderName::from_static("x-permitted-cross-domain-policies");
