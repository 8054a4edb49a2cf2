//! Tests of the upstream with backends over TCP, TLS and Unix sockets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/http2.rs"]
mod http2_backend;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tls.rs"]
mod tls_backend;

mod backends;
mod balancing;
mod connections;
mod expectation;
mod http1;
mod http2;
mod http2_pool;
mod http2_responses;
mod http2_uploads;
mod in_axum;
mod names;
mod replacement;
mod tls;
mod tls_verification;
