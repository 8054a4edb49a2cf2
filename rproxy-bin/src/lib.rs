//! The rproxy reverse proxy as a library: its configuration, its stack of layers, and the complete proxy.
//!
//! # Examples
//!
//! Run the whole proxy:
//!
//! ```no_run
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     Ok(rproxy::Config::from_env()?.run().await?)
//! }
//! ```
//!
//! Use its [stack](stack()) around a service, in any server:
//!
//! ```
//! use std::convert::Infallible;
//! use std::net::SocketAddr;
//!
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use http_body::Body;
//! use http_body_util::Full;
//! use rproxy::Config;
//! use rproxy_client_ip::PeerAddr;
//! use tower::{BoxError, ServiceExt, service_fn};
//!
//! async fn hello<B>(_: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
//!     Ok(Response::new(Full::from("hello")))
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let stack = rproxy::stack(&Config::default())?;
//!     let service = stack.wrap(service_fn(hello));
//!
//!     let peer = PeerAddr(SocketAddr::from(([192, 0, 2, 1], 4711)));
//!     let get = |path: &str| {
//!         let request = Request::get(path).header("host", "app.example").extension(peer);
//!         service.clone().oneshot(request.body(Full::<Bytes>::default()).unwrap())
//!     };
//!     let response = get("/").await?;
//!     assert_eq!(response.status(), StatusCode::OK);
//!     assert_eq!(response.headers()["x-content-type-options"], "nosniff");
//!     assert_eq!(get("/.git/config").await?.status(), StatusCode::NOT_FOUND);
//!     Ok(())
//! }
//! ```
//!
//! # Overview
//!
//! | Item | Purpose |
//! |---|---|
//! | [`Config`] | all settings, their defaults, and their sources: file, environment, command line |
//! | [`stack()`], [`Stack`] | the layers of all sites in order, built from a `Config`; [`layers()`] lists them |
//! | [`Config::run`] | listeners, reload, drain and signals, as the binary |
//!
//! Each layer is a crate of its own, such as `rproxy-cache`, and is documented there.
//!
//! # Features
//!
//! | Feature | Default | Adds |
//! |---|---|---|
//! | `redis` | yes | State that several machines share in Redis or Valkey: rate limits, and certificates with their ACME account |
//! | `axum` | no | For a stack that axum serves: the peer address from `ConnectInfo`, the target from `OriginalUri` |
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod admin;
mod application;
pub mod cli;
mod close_codes;
mod component_metrics;
pub mod config;
mod demo;
mod edge;
mod error_chain;
pub mod error_response;
mod explain;
mod known_rejection;
pub mod layers;
mod line_writer;
mod log_throttle;
pub mod logging;
mod maintenance;
mod man_page;
pub mod observe;
mod path_prefix;
pub mod preflight;
mod proxy;
mod redirect;
mod rejections;
mod reload;
mod run;
mod sandbox;
mod service_manager;
mod setting;
mod shell;
mod site;
mod startup_advice;
mod startup_log;
mod state;
mod switch;
pub mod trust;
mod values;

pub use self::application::{ApplicationError, ApplicationExit};
pub use self::config::{Config, ConfigError, UnmetRequirements};
pub use self::edge::{Stack, layers, stack};
pub use self::error_chain::ErrorChain;
pub use self::layers::{RateLimitError, StackError};
pub use self::run::{RunError, StartSignals, demo};
pub use self::sandbox::{SandboxError, UserError};
pub use self::startup_advice::SettingError;

/// Compiles the Rust examples in the README as doc tests.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
