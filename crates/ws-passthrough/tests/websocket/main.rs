//! Tests of the layer between clients and servers over TCP.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/proxy.rs"]
mod proxy;

mod http1;
mod http2;
mod http2_upstream;
mod in_axum;
mod limits;
mod messages;
#[cfg(feature = "axum")]
mod nested_in_axum;
mod upgrades;
