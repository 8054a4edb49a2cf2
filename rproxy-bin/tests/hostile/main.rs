//! Hostile clients and broken backends: what the built binary makes of them.
//!
//! With `RPROXY_HOSTILE_REPORT=docs/contributing/reliability` the tables of what came out are written into that folder.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../crates/server/tests/support/frames.rs"]
#[allow(dead_code, reason = "shared with the server's own tests")]
mod frames;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "shared with the end-to-end tests")]
mod support;

mod broken;
mod corpus;
mod http1;
mod http2;
mod http2_floods;
mod limits;
mod makes;
mod report;
mod responses;
mod strict;
