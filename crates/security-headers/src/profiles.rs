//! What each profile sends. The values follow the OWASP Secure Headers Project, but where those
//! would break a site that was not made for them (see the crate's page).

use http::HeaderName;
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};

use crate::names::{
    CROSS_ORIGIN_EMBEDDER_POLICY, CROSS_ORIGIN_OPENER_POLICY, CROSS_ORIGIN_RESOURCE_POLICY, PERMISSIONS_POLICY,
    X_PERMITTED_CROSS_DOMAIN_POLICIES,
};
use crate::rules::Scope::{self, Documents, Everything};

/// One header of a profile.
pub(crate) type Header = (HeaderName, &'static str, Scope);

pub(crate) static RECOMMENDED: [Header; 5] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff", Everything),
    // Also on redirects and stylesheets, which have a say in the next request's referrer.
    (REFERRER_POLICY, "strict-origin-when-cross-origin", Everything),
    (X_PERMITTED_CROSS_DOMAIN_POLICIES, "none", Everything),
    (X_FRAME_OPTIONS, "SAMEORIGIN", Documents),
    (CROSS_ORIGIN_OPENER_POLICY, "same-origin-allow-popups", Documents),
];

pub(crate) static STRICT: [Header; 9] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff", Everything),
    (REFERRER_POLICY, "no-referrer", Everything),
    (X_PERMITTED_CROSS_DOMAIN_POLICIES, "none", Everything),
    (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin", Everything),
    (X_FRAME_OPTIONS, "DENY", Documents),
    (CROSS_ORIGIN_OPENER_POLICY, "same-origin", Documents),
    (CROSS_ORIGIN_EMBEDDER_POLICY, "require-corp", Documents),
    // No `upgrade-insecure-requests`: on a site without TLS it breaks every asset, and on one with
    // TLS, HSTS does the same.
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

/// Nothing of an API is meant to be rendered, so what is for documents goes on everything: whatever
/// is rendered after all can do nothing.
pub(crate) static API: [Header; 6] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff", Everything),
    (REFERRER_POLICY, "no-referrer", Everything),
    (X_PERMITTED_CROSS_DOMAIN_POLICIES, "none", Everything),
    // Requests by CORS are not concerned.
    (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin", Everything),
    (X_FRAME_OPTIONS, "DENY", Everything),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'", Everything),
];

pub(crate) static MINIMAL: [Header; 1] = [(X_CONTENT_TYPE_OPTIONS, "nosniff", Everything)];
