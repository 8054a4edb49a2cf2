//! The headers that each profile of the layer adds to responses.
//!
//! The values follow the OWASP Secure Headers Project, except for those that would break sites that were not built for
//! them (see the crate documentation).

use http::HeaderName;
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};

use crate::names::{
    CROSS_ORIGIN_EMBEDDER_POLICY, CROSS_ORIGIN_OPENER_POLICY, CROSS_ORIGIN_RESOURCE_POLICY, PERMISSIONS_POLICY,
    X_PERMITTED_CROSS_DOMAIN_POLICIES,
};
use crate::rules::Scope::{self, Documents, Everything};

/// A header of a profile: its name, its value, and the responses to which it is added.
pub(crate) type Header = (HeaderName, &'static str, Scope);

pub(crate) static RECOMMENDED: [Header; 4] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff", Everything),
    // Redirects and stylesheets set the referrer policy of the requests that follow from them.
    (REFERRER_POLICY, "strict-origin-when-cross-origin", Everything),
    (X_PERMITTED_CROSS_DOMAIN_POLICIES, "none", Everything),
    (X_FRAME_OPTIONS, "SAMEORIGIN", Documents),
];

pub(crate) static STRICT: [Header; 9] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff", Everything),
    (REFERRER_POLICY, "no-referrer", Everything),
    (X_PERMITTED_CROSS_DOMAIN_POLICIES, "none", Everything),
    (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin", Everything),
    (X_FRAME_OPTIONS, "DENY", Documents),
    (CROSS_ORIGIN_OPENER_POLICY, "same-origin", Documents),
    (CROSS_ORIGIN_EMBEDDER_POLICY, "require-corp", Documents),
    // Without `upgrade-insecure-requests`: it breaks all assets of a site without TLS, and with TLS, HSTS has the same
    // effect.
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
        Documents,
    ),
    (
        PERMISSIONS_POLICY,
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), hid=(), \
         idle-detection=(), magnetometer=(), microphone=(), midi=(), payment=(), serial=(), usb=(), \
         xr-spatial-tracking=()",
        Documents,
    ),
];

/// The headers that the API profile adds.
///
/// Headers for documents are sent with all responses, so that a browser that renders an API response runs nothing in it.
pub(crate) static API: [Header; 6] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff", Everything),
    (REFERRER_POLICY, "no-referrer", Everything),
    (X_PERMITTED_CROSS_DOMAIN_POLICIES, "none", Everything),
    // Does not affect CORS requests.
    (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin", Everything),
    (X_FRAME_OPTIONS, "DENY", Everything),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'", Everything),
];

pub(crate) static MINIMAL: [Header; 1] = [(X_CONTENT_TYPE_OPTIONS, "nosniff", Everything)];
