//! End to end: the built binary among real counterparts, on ports that the system picks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../crates/server/tests/support/h2.rs"]
#[allow(dead_code)]
mod h2;
#[path = "../../../crates/tls/tests/support/pebble.rs"]
mod pebble;
mod support;

mod cache_rules;
mod caching;
mod clients;
mod draining;
mod edge;
mod forwarding;
mod interim;
mod readers;
mod running;
mod spoofing;
mod statuses;
mod takeover;
mod tls;
mod upgrades;
mod upstreams;
mod websocket;
