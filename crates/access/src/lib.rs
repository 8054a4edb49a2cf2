//! Middleware that decides which clients may access a service.
//!
//! | Layer | Feature | Decides by |
//! |---|---|---|
//! | [`AddressFilterLayer`] | | the client's address |
//! | [`BasicAuthLayer`] | `basic-auth` | a user name and a password (RFC 7617) |
//! | [`ForwardAuthLayer`] | `forward-auth` | the response of an authentication service, such as Authelia or oauth2-proxy |
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//!
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Full;
//! use rproxy_access::{AddressFilterLayer, AddressList, AddressRules};
//! use rproxy_client_ip::ClientIp;
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let hello = service_fn(async |_: Request<()>| {
//!         Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
//!     });
//!     let rules = AddressRules::new().allow(AddressList::parse("private")?).deny(AddressList::parse("10.6.6.0/24")?);
//!     let service = AddressFilterLayer::new(rules).layer(hello);
//!
//!     for (client, status) in [("10.1.2.3", 200), ("10.6.6.6", 403), ("192.0.2.1", 403)] {
//!         // `rproxy_client_ip::ClientIpLayer` inserts this extension.
//!         let request = Request::get("/").extension(ClientIp(client.parse()?)).body(())?;
//!         assert_eq!(service.clone().oneshot(request).await?.status(), StatusCode::from_u16(status)?);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Addresses
//!
//! The most specific range that contains the client's address decides, as a route does. If a range is both allowed and denied,
//! it is denied. Without a matching range, a client is allowed only if there is no allow list. The order of the entries has no
//! effect.
//!
//! | Allow list | Deny list | Allowed clients |
//! |---|---|---|
//! | none | `192.0.2.0/24` | all, except those in `192.0.2.0/24` |
//! | `192.0.2.0/24` | none | those in `192.0.2.0/24` |
//! | `192.0.2.0/24` | `192.0.2.66` | those in `192.0.2.0/24`, except `192.0.2.66` |
//! | `192.0.2.1` | `192.0.2.0/24` | `192.0.2.1` only |
//!
//! An IPv4-mapped IPv6 address counts as the IPv4 address. The address is the extension
//! [`ClientIp`](rproxy_client_ip::ClientIp), which `ClientIpLayer` inserts. The layer never reads a header field.
//!
//! # Basic authentication
//!
//! [`Users`] are read from a file of `htpasswd -B`, with bcrypt or Argon2 hashes. Other kinds of hashes, and those that take
//! longer than about a second to check, are errors when the file is read.
//!
//! - Passwords are verified on threads for blocking work (`tokio::task::spawn_blocking`), with bounded concurrency and a
//!   bounded queue. Concurrent requests with the same credentials share one verification.
//! - Right credentials need no new verification for five minutes. The layer stores a MAC of them with a random key, never the
//!   password, and at most one for each user.
//! - A client that fails ten times in a minute gets 429 without a verification, except with credentials that are stored.
//! - An unknown user takes the same time as a known one.
//! - A password longer than the 72 bytes that bcrypt reads never matches a bcrypt hash.
//! - `Authorization` is forwarded to the inner service, unless
//!   [`remove_credentials`](BasicAuthLayerBuilder::remove_credentials) is set.
//!
//! # Forward auth
//!
//! For each request, the layer sends a GET request without content to the authentication service. It has the header fields of the
//! client that describe the client, such as `Cookie`, and:
//!
//! | Field | Value |
//! |---|---|
//! | `X-Forwarded-Method`, `X-Forwarded-Uri` | method, path and query of the request |
//! | `X-Forwarded-Host`, `X-Forwarded-Proto` | host and scheme of the request |
//! | `X-Forwarded-For`, `X-Real-IP` | the address of the client |
//!
//! | Response | Result |
//! |---|---|
//! | 2xx | the request is forwarded with the [copied fields](ForwardAuthConfigBuilder::copy_field); `Set-Cookie` is added to its response |
//! | any other final status | the client gets this response, with `Location`, `Set-Cookie`, `WWW-Authenticate` and content |
//! | none in time, a failure, an interim status, or more than 16 KiB of copied fields | 503 |
//!
//! Copied fields are always removed from the client's request, in every spelling. A field that the authentication service omits is
//! absent. The layer also covers handshakes of WebSockets, if it is inside of the layer that makes them tunnels.
//!
//! # Caches
//!
//! A request that one of these layers authenticated has the extension [`Authenticated`], and so has its response. A shared cache inside of
//! the layer must treat it like a request with `Authorization` (RFC 9111 §3.5), as `rproxy-cache` does. A cache outside of the
//! layer would serve stored responses without a check.
//!
//! # Rejections
//!
//! | Status | When | Reason | Cause |
//! |---|---|---|---|
//! | 403 | the address is in a denied range | `access_denied` | `denied_address` |
//! | 403 | there is an allow list, and no range contains the address | `access_denied` | `unlisted_address` |
//! | 500 | the request has no `ClientIp` | `access_denied` | `unknown_address` |
//! | 401 | no credentials of a user | `unauthorized` | `no_credentials`, `malformed_credentials`, `wrong_credentials` |
//! | 429 | the client failed too often, with `Retry-After` | `auth_failures` | |
//! | 503 | too many passwords wait for verification, with `Retry-After` | `auth_busy` | |
//! | 503 | no valid response of the authentication service, with `Retry-After` | `auth_service` | `timeout`, `unavailable`, `unexpected_status`, `fields_too_large` |
//!
//! The response has a [`Rejection`] in its extensions, with the range that decided.
//!
//! # Performance
//!
//! A lookup follows a prefix trie: its cost depends on the length of the address, not on the number of ranges. A range takes
//! about 70 bytes of memory for IPv4, and 100 bytes for IPv6.
//!
//! Stored credentials cost one HMAC-SHA256. The failures of clients take at most about 1 MiB.
//!
//! # Order
//!
//! Place the layers inside of `ClientIpLayer`. Place those that authenticate inside of layers that limit requests, validate them, and
//! remove spoofed fields, such as `ForwardHeadersLayer`, and outside of a cache.
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | Feature | Adds |
//! |---|---|
//! | `basic-auth` | [`BasicAuthLayer`], with bcrypt and Argon2 |
//! | `forward-auth` | [`ForwardAuthLayer`] |
//!
//! # Errors
//!
//! Errors of the inner service pass through.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod addresses;
#[cfg(feature = "basic-auth")]
mod basic_auth;
#[cfg(feature = "identity")]
mod decision;
#[cfg(feature = "forward-auth")]
mod forward_auth;
mod future;
#[cfg(feature = "identity")]
mod identity_fields;
mod rejection;

pub use rproxy_client_ip::{AddressDecision, AddressList, AddressListError, AddressRules};
#[cfg(feature = "identity")]
pub use rproxy_core::Authenticated;
pub use rproxy_core::Rejection;

pub use self::addresses::{AddressFilterLayer, AddressFilterService};
#[cfg(feature = "basic-auth")]
pub use self::basic_auth::{
    BasicAuthLayer, BasicAuthLayerBuilder, BasicAuthLayerError, BasicAuthService, Users, UsersError,
};
#[cfg(feature = "identity")]
pub use self::decision::DecisionFuture;
#[cfg(feature = "forward-auth")]
pub use self::forward_auth::{
    ForwardAuthConfig, ForwardAuthConfigBuilder, ForwardAuthConfigError, ForwardAuthLayer, ForwardAuthService,
};
pub use self::future::ResponseFuture;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
