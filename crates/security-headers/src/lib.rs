//! Middleware that adds security headers to responses and removes fingerprinting headers.
//!
//! [`SecurityHeadersLayer`] adds a field only if the application did not set it. Four profiles cover common cases:
//! [`recommended`](SecurityHeadersLayer::recommended), [`strict`](SecurityHeadersLayer::strict),
//! [`api`](SecurityHeadersLayer::api) and [`minimal`](SecurityHeadersLayer::minimal).
//!
//! # Example
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
//!     assert_eq!(headers["referrer-policy"], "no-referrer", "the application's field is kept");
//!     assert!(!headers.contains_key("x-frame-options") && !headers.contains_key("server"));
//!     Ok(())
//! }
//! ```
//!
//! # The recommended profile
//!
//! [`SecurityHeadersLayer::recommended`] adds fields that do not break a site which was written without them:
//!
//! | Field | Value | On | Effect |
//! |---|---|---|---|
//! | `Strict-Transport-Security` | `max-age=31536000` | TLS | browsers use HTTPS only, for this host without its subdomains |
//! | `X-Content-Type-Options` | `nosniff` | all | an upload is not executed as a script |
//! | `Referrer-Policy` | `strict-origin-when-cross-origin` | all | the default of current browsers, for older ones |
//! | `X-Permitted-Cross-Domain-Policies` | `none` | all | plug-ins read no policy file from this host |
//! | `X-Frame-Options` | `SAMEORIGIN` | documents | other sites cannot frame the page (clickjacking) |
//!
//! *Documents* are HTML, XML, SVG, XHTML and responses without a `Content-Type`.
//!
//! Not included:
//!
//! - `Content-Security-Policy`: an effective policy is specific to a site, and a generic one breaks most sites.
//! - `Cross-Origin-Opener-Policy`: it breaks sign-in and payment pop-ups that need `window.opener`.
//! - `Cross-Origin-Resource-Policy` and `Cross-Origin-Embedder-Policy`: they break assets on other origins.
//! - `X-XSS-Protection`: the filters that it controlled were removed from browsers.
//!
//! `X-Frame-Options` is not added if the application's `Content-Security-Policy` has `frame-ancestors`. Neither is added on
//! [paths that other sites may embed](SecurityHeadersLayer::embeddable_paths).
//!
//! # Precedence
//!
//! | Method | Effect |
//! |---|---|
//! | [`header`](SecurityHeadersLayer::header) | adds a field if the application did not set it |
//! | [`without`](SecurityHeadersLayer::without) | leaves a field to the application |
//! | [`override_header`](SecurityHeadersLayer::override_header) | replaces the application's field |
//! | [`remove_header`](SecurityHeadersLayer::remove_header) | removes the application's field |
//! | [`keep_header`](SecurityHeadersLayer::keep_header) | keeps a fingerprinting field |
//!
//! # Typed policies
//!
//! [`ContentSecurityPolicy::builder`], [`PermissionsPolicy`], [`ReportingEndpoints`] and [`Hsts`] build field values
//! from types, and reject input that browsers would ignore.
//!
//! If a policy contains [`CspSource::Nonce`] (in text `'nonce-{nonce}'`), each request gets a [`CspNonce`] of 128
//! random bits: as a request extension, in a [request field](SecurityHeadersLayer::nonce_field) for an application in
//! another process, and in the policy of the response. Shared caches must not store such a document (`Cache-Control:
//! no-store` or `private`), because the next client gets another nonce and its scripts do not run.
//!
//! # Fingerprinting fields
//!
//! `Server`, `X-Powered-By` and the other fields of OWASP's list (`ci/headers_remove.json` of the Secure Headers
//! Project, 2024-09-02) are removed. `X-Nextjs-Redirect` and `X-Nextjs-Matched-Path` are kept in responses to requests
//! with `X-Nextjs-Data`, because the router of Next.js needs them.
//!
//! # TLS and statuses
//!
//! - `Strict-Transport-Security` is sent over TLS only (RFC 6797 §7.2): if the request has the extension
//!   `http::uri::Scheme` with HTTPS, or with [`assume_https`](SecurityHeadersLayer::assume_https) behind a proxy that
//!   terminates TLS. It is not sent for IP addresses, `localhost` and names below it.
//! - Informational responses (1xx, including the 101 of a WebSocket) get no fields.
//! - A 304 gets only `Strict-Transport-Security`, because caches replace the stored fields with those of a 304 (RFC
//!   9111 §3.2).
//!
//! # Errors
//!
//! The layer rejects no request, forwards errors of the inner service and does not touch bodies. Invalid settings are
//! errors when a value is built: [`HstsError`], [`CspError`], [`PermissionsError`], [`ReportingError`]. If the
//! operating system returns no random numbers, a policy with a nonce is sent without it, which allows less.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod cookies;
mod csp;
mod embedding;
mod fingerprints;
mod future;
/// Functions that the fuzz targets of this crate call. Not part of the public API.
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

/// Compiles and runs the examples in the README as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
