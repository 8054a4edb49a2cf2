//! Middleware that responds with 503 while a service is in maintenance.
//!
//! [`Maintenance`] is the switch, and [`MaintenanceLayer`] rejects requests while it is on, except those of exempt clients.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use rproxy_client_ip::{AddressList, ClientIp};
//! use rproxy_maintenance::{Maintenance, MaintenanceLayer};
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let hello = service_fn(async |_: Request<()>| {
//!         Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
//!     });
//!     let maintenance = Maintenance::new();
//!     let layer = MaintenanceLayer::new(maintenance.clone()).exempt(AddressList::parse("10.0.0.0/8")?);
//!     let service = layer.layer(hello);
//!     // `rproxy_client_ip::ClientIpLayer` inserts the extension.
//!     let request = |client: &str| Request::get("/").extension(ClientIp(client.parse().unwrap())).body(()).unwrap();
//!
//!     maintenance.enable(Duration::from_secs(300));
//!     let response = service.clone().oneshot(request("192.0.2.1")).await?;
//!     assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str()?), (503, "300"));
//!     assert_eq!(service.clone().oneshot(request("10.1.2.3")).await?.status(), 200);
//!
//!     maintenance.disable();
//!     assert_eq!(service.oneshot(request("192.0.2.1")).await?.status(), 200);
//!     Ok(())
//! }
//! ```
//!
//! # Rejections
//!
//! | Status | When | Reason |
//! |---|---|---|
//! | 503 | maintenance is on, and the client is not exempt | `maintenance` |
//!
//! The response has `Retry-After` and a [`Rejection`] in its extensions. `ProblemLayer` of `rproxy-problem` formats it, with the page
//! `maintenance.html` if there is one.
//!
//! # Exempt clients
//!
//! The address of a client is the extension [`ClientIp`](rproxy_client_ip::ClientIp). A request without it is not exempt. An
//! IPv4-mapped IPv6 address counts as the IPv4 address. The layer never reads a header field.
//!
//! # Requests in flight
//!
//! The switch decides when a request arrives. Requests in flight finish, and open tunnels such as WebSockets stay open, because
//! the layer never sees their bytes. Handshakes of new tunnels are rejected like any request.
//!
//! # Order
//!
//! Place the layer inside of layers that validate and limit requests, so that their rejections stay the same, and outside of
//! those with a cost for the service: authentication, caches, backends. Health checks of the service need a route outside
//! of the layer, if they must not fail.
//!
//! # Performance
//!
//! A request costs one atomic load, and a lookup in a prefix trie while maintenance is on.
//!
//! # Errors
//!
//! Errors of the inner service pass through.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod future;
mod layer;
mod service;
mod switch;

pub use rproxy_core::{Rejection, ResponseBody};

pub use self::future::ResponseFuture;
pub use self::layer::MaintenanceLayer;
pub use self::service::MaintenanceService;
pub use self::switch::Maintenance;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
