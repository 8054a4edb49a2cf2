//! Middleware for problem details and error pages.
//!
//! [`ProblemLayer`] formats the responses of layers that reject requests as the client prefers: as an HTML page, as
//! `application/problem+json` (RFC 9457), as a gRPC status, or as plain text. It also turns panics into a 500.
//!
//! # Example
//!
//! ```
//! use axum::Router;
//! use axum::body::Body;
//! use axum::middleware::{self, Next};
//! use axum::response::Response;
//! use http::{Request, StatusCode};
//! use rproxy_problem::{ProblemLayer, Rejection};
//! use tower::{BoxError, ServiceExt};
//!
//! /// A layer that rejects requests.
//! async fn office_hours(request: Request<Body>, next: Next) -> Response {
//!     if request.uri().path() != "/closed" {
//!         return next.run(request).await;
//!     }
//!     let rejection = Rejection::new("office_hours", "closed", StatusCode::FORBIDDEN);
//!     rejection.with_message("This site is open from 9 to 17.").into_response(Body::from("Forbidden\n"))
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let app = Router::new()
//!         .fallback(async || "open")
//!         .layer(middleware::from_fn(office_hours))
//!         .layer(ProblemLayer::new());
//!
//!     let request = Request::get("/closed").header("accept", "application/json").body(Body::empty())?;
//!     let response = app.oneshot(request).await?;
//!     assert_eq!(response.status(), StatusCode::FORBIDDEN);
//!     assert_eq!(response.headers()["content-type"], "application/problem+json");
//!     Ok(())
//! }
//! ```
//!
//! # Formatted responses
//!
//! The layer formats responses with an error status and a [`Rejection`] in their extensions. All layers of rproxy insert this
//! extension, and other layers can insert it as well. Error responses of the inner service have no such extension and pass
//! unchanged, with [an exception](#errors-of-the-inner-service).
//!
//! | Client | Response |
//! |---|---|
//! | `Accept` prefers `text/html`, as that of a browser does when it opens a page | an HTML page with the status and a sentence for the visitor; light or dark |
//! | `Accept` prefers `application/json` or `application/problem+json` to `text/plain` | `application/problem+json` with `type`, `title`, `status`, and the sentence as `detail` |
//! | gRPC call (POST with `application/grpc`, `application/grpc-web` or `application/grpc-web-text`) | status 200, no content, `grpc-status` and `grpc-message` |
//! | any other | the plain text of the layer |
//!
//! The [message](Rejection::message) of the rejection is the sentence; without one, a page has a sentence about the status.
//! The [detail](Rejection::detail) of the rejection appears in no response.
//!
//! All responses except those to gRPC calls have `Vary: accept` and, unless a field says otherwise, `Cache-Control: no-store`.
//! `Retry-After` is added if the rejection has one and the response does not. Responses to HEAD have no content, which
//! servers would send over HTTP/2.
//!
//! The page has no scripts and loads nothing. Its `Content-Security-Policy` replaces that of the response, and allows only
//! its own style sheet.
//!
//! # Pages of the operator
//!
//! [`ErrorPages`] are HTML pages that [`ProblemLayer::pages`] sends instead of the built-in one, by status. They change nothing for
//! clients that prefer JSON, text or gRPC. `Content-Security-Policy` is replaced by
//! [that of the pages](ErrorPages::content_security_policy), which allows inline styles and no scripts.
//!
//! # Errors of the inner service
//!
//! Error responses of the inner service pass unchanged, unless [`ProblemLayer::replace_errors`] names their status. If there is a
//! page for the status and the client prefers `text/html`, the page then replaces their content:
//!
//! - Fields about the content are removed: `Content-Encoding`, `Content-Range`, `Content-Disposition`, `Last-Modified`, `ETag`, digests
//!   and others, and those about its storage, such as `Expires`. `Cache-Control` is `no-store`.
//! - Status, `Set-Cookie`, `Retry-After`, `WWW-Authenticate`, `Allow` and all other fields stay. `Proxy-Status` is not added.
//! - The content of the inner service is dropped. At most 64 KiB that have arrived are read before, so that a cache below the layer
//!   can store them.
//! - gRPC calls and requests that open a tunnel, such as a WebSocket, get the response of the inner service.
//!
//! Other clients get the response of the inner service with `Vary: accept`. [`ProblemHooks::replaces_error`] makes exceptions.
//!
//! # Panics
//!
//! A panic of the inner service becomes a 500 with the reason `panic`, or an error of the body if the response has started.
//! A panic fails a single request. Over HTTP/1.1, it also closes the connection after the response has started, because
//! nothing else signals an incomplete body. This needs `panic = "unwind"`, which is the default.
//!
//! # Hooks
//!
//! [`ProblemHooks`] adds a request ID or a note to pages, and the name of a proxy for `Proxy-Status` (RFC 9209), and reports
//! panics.
//!
//! # Order
//!
//! Place the layer outside of all layers that reject requests, and inside of layers that log or count responses. Those find
//! the [`Rejection`] in the extensions of the response, even of a gRPC response.
//!
//! # Performance
//!
//! A request with `Accept` costs one reference count; the field is parsed only for a rejection. A response that is not
//! an error costs a comparison of its status. Neither allocates.
//!
//! With pages, each request costs another reference count. A page is parsed once, and a response shares its text: a client that
//! reads slowly holds only the texts of the placeholders.
//!
//! # Errors
//!
//! Errors of the inner service pass through.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod accept;
mod body;
mod config;
mod error_pages;
mod escape;
mod future;
mod grpc;
mod hooks;
mod layer;
mod page;
mod panic;
mod presentation;
mod service;
mod status_set;

pub use rproxy_core::Rejection;

pub use self::body::ResponseBody;
pub use self::error_pages::{ErrorPages, ErrorPagesError};
pub use self::future::ResponseFuture;
pub use self::hooks::{PageTexts, ProblemHooks};
pub use self::layer::ProblemLayer;
pub use self::service::ProblemService;
pub use self::status_set::{StatusSet, StatusSetError};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
