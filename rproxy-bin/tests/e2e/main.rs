//! End to end: the built binary among real counterparts, on ports that the system picks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../crates/tls/tests/support/pebble.rs"]
mod pebble;
#[path = "../support/mod.rs"]
mod support;

mod cache_rules;
mod caching;
mod clients;
mod draining;
mod edge;
mod forwarding;
mod interim;
mod running;
mod statuses;
mod takeover;
mod tls;
mod upgrades;
mod upstreams;
mod websocket;
