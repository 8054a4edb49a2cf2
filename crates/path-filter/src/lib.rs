//! Middleware that rejects requests for sensitive paths, including encoded and obfuscated forms.
//!
//! [`PathFilterLayer`] responds with 404 to requests whose path matches a rule: environment files, repositories, private
//! keys, dumps, backups of configuration files. Clients cannot evade a rule by encoding the path.
//!
//! # Example
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
//!     let files = service_fn(async |_: Request<()>| {
//!         Ok::<_, Infallible>(Response::new(String::from("a file")))
//!     });
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
//! # Decodings
//!
//! Servers differ in how they normalise a path. A path is therefore checked in [every decoding](PathRules::explain)
//! that some server applies, in any order and repeatedly:
//!
//! - percent-decoding, once or several times, with and without `%2F`;
//! - removal of dot segments, duplicate slashes, `;` parameters, control characters and invalid UTF-8;
//! - backslashes as slashes; truncation at NUL or at an encoded `?`;
//! - overlong UTF-8; look-alikes of ASCII, folded by Unicode's compatibility forms (NFKC) and the code pages of
//!   Windows;
//! - removal of dots, spaces and wildcards at the end of names;
//! - lower case, composed characters (NFC), and Latin-1 or Windows-1252 where bytes are not UTF-8.
//!
//! The path is blocked if any decoding is. Only the path is checked, never the query.
//!
//! # Rules
//!
//! Within one decoding, the last matching rule decides: a `block` after an `allow` blocks, an `allow` after a `block`
//! allows. An exemption cannot be used to evade a rule: a path with an exempt and a blocked decoding is blocked.
//!
//! Two curated lists exist. The
//! [reference](https://github.com/rproxy/rproxy/blob/main/docs/reference/blocked-paths.md) shows their globs.
//!
//! | List | Blocks | Suits |
//! |---|---|---|
//! | [`PathRules::sensitive`], `default` | known secrets: `.env`, `.git`, `.ssh`, private keys and dumps by name, ... | every application |
//! | [`PathRules::strict`], `strict` | also all other dotfiles, and keys, dumps, logs, configuration and build files of any name | static sites |
//!
//! The default list blocks no paths of applications and no files of users: it is tested with 745 paths of 105 applications
//! (`tests/corpus/applications.txt`) and 2,000 other legitimate paths. Both lists allow well-known URIs
//! (`/.well-known/...`), except secrets below them. They are tested with 1,400 evasions, and the default list against nginx,
//! Python's `http.server`, Flask, Starlette, Node.js and Express: none of them resolves a forwarded path to a listed secret.
//!
//! ```
//! use rproxy_path_filter::{PathRules, PathRulesError};
//!
//! let rules = PathRules::builder().strict()?.block("/private/**")?.allow("/.github/**")?.build()?;
//! assert!(rules.blocking_rule("/.DS_Store").is_some());
//! assert!(rules.blocking_rule("/.github/workflows/ci.yml").is_none());
//! # Ok::<(), PathRulesError>(())
//! ```
//!
//! # Responses
//!
//! | Status | When |
//! |---|---|
//! | 404, or [another status](PathFilterLayer::status) | a rule blocks the path, or the path has too many decodings to check |
//! | 400 | the path is ambiguous, with [`reject_ambiguous`](PathFilterLayer::reject_ambiguous) |
//!
//! The response has a [`Rejection`] with the rule in its extensions. With [`shadow`](PathFilterLayer::shadow) all requests
//! are forwarded, and only a [`PathFilterDecision`] is recorded. A forwarded path is not changed. An invalid glob is a
//! [`PathRulesError`] when the rules are built.
//!
//! # Below a router
//!
//! A router that strips a prefix from the path, such as axum's `Router::nest`, hides the prefix from inner layers. With
//! the feature `axum` the rules apply to the path that the client sent (axum's `OriginalUri`). Without the feature, and
//! with other routers, place the layer outside the router.
//!
//! If an inner service strips a prefix, [`rewrite`](PathFilterLayer::rewrite) makes the layer check the rest of the path
//! as well, which is the path on the backend.
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | Feature | Adds |
//! |---|---|
//! | `axum` | Uses the path that the client sent (axum's `OriginalUri`), also below `Router::nest` |
//!
//! # Performance
//!
//! An ordinary path costs one scan and a few hash lookups. It is copied only if it has more than one decoding.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod compiled_list;
mod config;
mod curated;
mod decision;
mod default_paths;
mod error;
mod explanation;
mod future;
/// Functions that the fuzz targets of this crate call. Not part of the public API.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod globs;
mod gram_filter;
mod layer;
mod list;
mod literal_prefilter;
mod original_uri;
mod rule;
mod rules;
mod service;
mod strict_paths;

pub use rproxy_core::{Rejection, ResponseBody};

pub use self::decision::PathFilterDecision;
pub use self::error::PathRulesError;
pub use self::explanation::PathExplanation;
pub use self::future::ResponseFuture;
pub use self::layer::PathFilterLayer;
pub use self::rules::{PathRules, PathRulesBuilder};
pub use self::service::PathFilterService;

/// Compiles the examples in the README as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
