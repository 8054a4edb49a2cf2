//! A [`tower_layer::Layer`] that answers 404 to requests for sensitive paths, however they are
//! spelled.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http::{Request, Response, StatusCode};
//! use rproxy_path_filter::{PathFilterLayer, PathRules};
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let files = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::from("a file"))));
//!     let filtered = PathFilterLayer::new(PathRules::sensitive()).layer(files);
//!
//!     for (path, status) in [
//!         ("/index.html", StatusCode::OK),
//!         ("/.env", StatusCode::NOT_FOUND),
//!         ("/static/%252e%252e/.ENV;x", StatusCode::NOT_FOUND),
//!         ("/.well-known/security.txt", StatusCode::OK),
//!     ] {
//!         let response = filtered.clone().oneshot(Request::get(path).body(())?).await?;
//!         assert_eq!(response.status(), status, "{path}");
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # What it does
//!
//! A path is judged in every [reading](PathRules::explain) that some server might make of it: as it
//! is; percent-decoded once, twice, and on, with and without `%2F`; with dot segments removed, slashes
//! merged, backslashes as slashes, `;` parameters cut, cut at a NUL or a decoded `?`, control
//! characters and invalid UTF-8 dropped, overlong UTF-8 decoded, look-alikes of ASCII folded as Unicode's compatibility
//! forms (NFKC) and the code pages of Windows do, dots, spaces and wildcards at the end of names trimmed; in any order;
//! letters always in lower case. It is blocked if *any* reading is.
//!
//! In one reading, the last rule that matches decides: a `block` after an `allow` blocks, an `allow`
//! after a `block` allows. An exemption therefore can't be used to get around a rule: a path that
//! reads as exempt in one way and as blocked in another is blocked.
//!
//! [`PathRules::sensitive`] is a list of what is not meant to be served and often is by accident:
//! dotfiles, repositories, environments, keys, dumps, backups. Only the path is looked at, never the
//! query.
//!
//! The list is held against a corpus of some 1,400 evasions and 2,000 honest paths (`tests/corpus`), and the readings against nginx,
//! Python's own server, Flask, Starlette, Node, Express and a reader in every known way at once: what passes, none of them takes
//! for a sensitive file, in any of thousands of disguises.
//!
//! A router that strips a prefix from the path, as axum's `Router::nest` does, leaves the layers below it the rest. With the feature
//! `axum` the rules are for the path that the client sent (axum's `OriginalUri`); without it, and with other routers, put the
//! layer outside of the router.
//!
//! An ordinary path costs one scan and a few hash look-ups; it is copied only if it needs more than
//! one reading.
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | Feature | Adds |
//! |---|---|
//! | `axum` | Checks the path that the client sent (axum's `OriginalUri`), also below `Router::nest` |
//!
//! # How it fails
//!
//! A blocked path is answered `404`, or [another status](PathFilterLayer::status), with [`PathFilterDecision`] in the
//! response's extensions. A path with so many readings that they can't all be judged is blocked. What passes goes on as
//! it was written; [`reject_ambiguous`](PathFilterLayer::reject_ambiguous) lets nothing pass that has more readings than one. A glob that is none is a
//! [`PathRulesError`] when the rules are built.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod config;
mod decision;
mod future;
/// The functions that the fuzz targets call. Not part of the public API.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod layer;
mod literal_prefilter;
mod original_uri;
mod rules;
mod sensitive_paths;
mod service;

pub use self::decision::PathFilterDecision;
pub use self::future::{ResponseBody, ResponseFuture};
pub use self::layer::PathFilterLayer;
pub use self::rules::{PathExplanation, PathRules, PathRulesBuilder, PathRulesError};
pub use self::service::PathFilterService;
