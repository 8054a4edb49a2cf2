//! Middleware that decides which clients may access a service.
//!
//! | Layer | Feature | Decides by |
//! |---|---|---|
//! | [`AddressFilterLayer`] | | the client's address |
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Full;
//! use rproxy_access::{AddressFilterLayer, AddressList, AddressRules};
//! use rproxy_client_ip::ClientIp;
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let hello = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Full::from("hello"))));
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
//! # Rejections
//!
//! | Status | When | Reason | Cause |
//! |---|---|---|---|
//! | 403 | the address is in a denied range | `access_denied` | `denied_address` |
//! | 403 | there is an allow list, and no range contains the address | `access_denied` | `unlisted_address` |
//! | 500 | the request has no `ClientIp` | `access_denied` | `unknown_address` |
//!
//! The response has a [`Rejection`] in its extensions, with the range that decided.
//!
//! # Performance
//!
//! A lookup follows a prefix trie: its cost depends on the length of the address, not on the number of ranges. A range takes
//! about 70 bytes of memory for IPv4, and 100 bytes for IPv6.
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
mod future;
#[cfg(feature = "identity")]
mod identity_fields;

#[cfg(feature = "identity")]
pub use rproxy_core::Authenticated;
pub use rproxy_core::Rejection;

pub use self::addresses::{
    AddressDecision, AddressFilterLayer, AddressFilterService, AddressList, AddressListError, AddressRules,
};
#[cfg(feature = "basic-auth")]
pub use self::basic_auth::{
    BasicAuthLayer, BasicAuthLayerBuilder, BasicAuthLayerError, BasicAuthService, Users, UsersError,
};
#[cfg(feature = "identity")]
pub use self::decision::DecisionFuture;
pub use self::future::{ResponseBody, ResponseFuture};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
