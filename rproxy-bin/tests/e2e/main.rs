//! End to end: the built binary among real counterparts, on ports that the system picks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../crates/tls/tests/support/client.rs"]
mod client;
#[path = "../../../crates/server/tests/support/conformance.rs"]
mod conformance;
#[path = "../../../crates/server/tests/support/h2.rs"]
#[allow(dead_code)]
mod h2;
#[path = "../../../crates/tls/tests/support/pebble.rs"]
mod pebble;
#[allow(dead_code, reason = "it is there for other tests, too")]
#[path = "../../../crates/rate-limit/tests/support/redis.rs"]
mod redis;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "shared with the tests of hostile clients")]
mod support;

mod cache_completion;
mod cache_rules;
mod caching;
mod clients;
mod draining;
mod edge;
mod endurance;
mod forwarding;
mod guide;
mod interim;
mod rate_limits;
mod readers;
mod running;
mod sites;
mod spoofing;
mod statuses;
mod takeover;
mod tls;
mod upgrades;
mod upstreams;
mod websocket;
