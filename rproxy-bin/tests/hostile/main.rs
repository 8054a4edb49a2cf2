//! Tests of the built binary with hostile clients and failing backends.
//!
//! With `RPROXY_HOSTILE_REPORT=docs/contributing/reliability`, the result tables are written into that directory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../crates/server/tests/support/frames.rs"]
#[allow(dead_code, reason = "shared with the server's own tests")]
mod frames;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod support;

mod backends;
mod broken;
mod corpus;
mod http1;
mod http2;
mod http2_floods;
mod limits;
mod report;
mod responses;
mod strict;
