//! Tests of the server with clients over TCP and TLS.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[cfg(feature = "tls")]
#[path = "../support/conformance.rs"]
mod conformance_support;
#[cfg(feature = "tls")]
#[path = "../support/h2.rs"]
mod h2;

#[cfg(feature = "tls")]
mod conformance;
#[cfg(feature = "tls")]
mod half_close;
#[cfg(feature = "tls")]
mod handshakes;
#[cfg(feature = "tls")]
mod http1;
#[cfg(feature = "tls")]
mod http2;
#[cfg(feature = "tls")]
mod http2_bodies;
#[cfg(feature = "tls")]
mod http2_floods;
#[cfg(feature = "tls")]
mod in_axum;
mod update;
