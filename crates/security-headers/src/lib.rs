//! A [`tower_layer::Layer`] that adds security headers to responses and removes what tells an
//! attacker which software made them.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http::uri::Scheme;
//! use http::{Request, Response, header};
//! use rproxy_security_headers::SecurityHeadersLayer;
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let application = service_fn(async |_: Request<()>| {
//!         let response = Response::builder()
//!             .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
//!             .header(header::REFERRER_POLICY, "no-referrer")
//!             .header(header::SERVER, "Werkzeug/2.0.1 Python/3.9")
//!             .body("<!doctype html>");
//!         Ok::<_, Infallible>(response.unwrap_or_default())
//!     });
//!     let layer = SecurityHeadersLayer::recommended()
//!         .content_security_policy("default-src 'self'; img-src *")
//!         .without(header::X_FRAME_OPTIONS);
//!
//!     let request = Request::get("/").extension(Scheme::HTTPS).body(())?;
//!     let response = layer.layer(application).oneshot(request).await?;
//!
//!     let headers = response.headers();
//!     assert_eq!(headers["strict-transport-security"], "max-age=31536000");
//!     assert_eq!(headers["content-security-policy"], "default-src 'self'; img-src *");
//!     assert_eq!(headers["x-content-type-options"], "nosniff");
//!     assert_eq!(headers["referrer-policy"], "no-referrer", "the application's own word stands");
//!     assert!(!headers.contains_key("x-frame-options") && !headers.contains_key("server"));
//!     Ok(())
//! }
//! ```
//!
//! # What it does
//!
//! A header is added only where the application did not send its own. To say more than the
//! application there is [`override_header`](SecurityHeadersLayer::override_header) and
//! [`remove_header`](SecurityHeadersLayer::remove_header). [`SecurityHeadersLayer::recommended`] adds
//! what does not break a site that knows nothing of it:
//!
//! | Header | Value | On | Why this value |
//! |---|---|---|---|
//! | `Strict-Transport-Security` | `max-age=31536000` | TLS | for this host only: of its subdomains the layer knows nothing |
//! | `X-Content-Type-Options` | `nosniff` | all | an upload is never taken for a script |
//! | `Referrer-Policy` | `strict-origin-when-cross-origin` | all | browsers' own default, for those that have another |
//! | `X-Permitted-Cross-Domain-Policies` | `none` | all | plug-ins read no policy file from here |
//! | `X-Frame-Options` | `SAMEORIGIN` | documents | no foreign page frames this one to steal clicks |
//!
//! There is no `Content-Security-Policy` by default: one that protects is made for its site, and one
//! that is made for no site in particular breaks most. `Cross-Origin-Resource-Policy` and
//! `Cross-Origin-Embedder-Policy` would break assets on other origins. `X-XSS-Protection` is not sent:
//! the filters it ruled are gone, and where they were not, they made holes. A page that other sites
//! open as a pop-up (an identity provider's, say) wants
//! `.without(names::CROSS_ORIGIN_OPENER_POLICY)`. The other profiles are
//! [`strict`](SecurityHeadersLayer::strict), [`api`](SecurityHeadersLayer::api) and
//! [`minimal`](SecurityHeadersLayer::minimal).
//!
//! # Policies put together
//!
//! [`ContentSecurityPolicy::builder`] takes directives and sources as types, and refuses what browsers would ignore
//! without a word; [`PermissionsPolicy`] and [`ReportingEndpoints`] do the same for their headers. Where a policy says
//! [`CspSource::Nonce`] (in text `'nonce-{nonce}'`), each request gets a [`CspNonce`] of 128 random bits: as an extension for
//! an application in the same program, in a [field](SecurityHeadersLayer::nonce_field) for one that is another process,
//! and in the policy of the response, the application's own included. Such a page must not be stored by shared caches
//! (`Cache-Control: no-store` or `private`): to its next reader the policy has another nonce, and its scripts don't run.
//!
//! # Documents
//!
//! Documents are HTML, XML with its SVG and XHTML, and whatever comes without a `Content-Type`; on a
//! stylesheet or an image the headers for documents would be bytes for nothing. Where the
//! application's own `Content-Security-Policy` has `frame-ancestors`, there is no `X-Frame-Options` to
//! contradict it.
//!
//! # Fingerprints
//!
//! `Server`, `X-Powered-By` and the rest of the fingerprinting headers that OWASP lists (`ci/headers_remove.json` of its
//! Secure Headers Project, as of 2024-09-02) are removed.
//! [`keep_header`](SecurityHeadersLayer::keep_header) exempts one. `X-Nextjs-Redirect` and `X-Nextjs-Matched-Path`
//! stay on answers to requests with `X-Nextjs-Data`: Next.js's router in the browser steers by them.
//!
//! # TLS
//!
//! `Strict-Transport-Security` goes out over TLS only (RFC 6797 §7.2): when the request has the
//! extension [`http::uri::Scheme`] and it is HTTPS, or when told so by
//! [`assume_https`](SecurityHeadersLayer::assume_https), for a proxy further out that ends TLS.
//!
//! Informational responses (1xx), with them the 101 of a WebSocket, lose fingerprints and are given nothing. A 304 is given no
//! more than `Strict-Transport-Security`: caches would write the rest over what the application
//! itself said when it sent the whole (RFC 9111 §3.2).
//!
//! # How it fails
//!
//! It does not: it refuses no request, passes on the inner service's errors unchanged, and leaves
//! bodies alone. What can be wrong is refused when it is built ([`HstsError`], [`CspError`], [`PermissionsError`],
//! [`ReportingError`]). Constant headers are made once; a response costs no allocation beyond what its header map needs
//! to grow, and one for the nonce where there is one. Should the system have no random numbers to give, a policy that
//! wants a nonce is sent without, and so allows less.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod cookies;
mod csp;
mod fingerprints;
mod future;
/// The functions that the fuzz targets call. Not part of the public API.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod header_name_set;
mod hsts;
mod layer;
pub mod names;
mod nonce;
mod permissions;
mod profiles;
mod reporting;
mod rules;
mod service;

pub use self::cookies::CookieAttributes;
pub use self::csp::{
    ContentSecurityPolicy, ContentSecurityPolicyBuilder, CspDirective, CspError, CspSource, CspSourceText, SandboxFlag,
};
pub use self::future::ResponseFuture;
pub use self::hsts::{Hsts, HstsError};
pub use self::layer::SecurityHeadersLayer;
pub use self::nonce::CspNonce;
pub use self::permissions::{Allowlist, Feature, PermissionsError, PermissionsPolicy};
pub use self::reporting::{ReportingEndpoints, ReportingError};
pub use self::service::SecurityHeadersService;
