//! End to end: the built binary among real counterparts, on ports that the system picks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../crates/tls/tests/support/pebble.rs"]
mod pebble;
#[allow(dead_code, reason = "it is there for other tests, too")]
#[path = "../../../crates/rate-limit/tests/support/redis.rs"]
mod redis;
mod support;

mod cache_rules;
mod caching;
mod clients;
mod draining;
mod edge;
mod forwarding;
mod interim;
mod rate_limits;
mod running;
mod statuses;
mod takeover;
mod tls;
mod upgrades;
mod upstreams;
mod websocket;
