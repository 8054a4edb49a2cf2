//! End-to-end tests of the built binary with real clients and servers, on ports that the system selects.
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
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../../../crates/rate-limit/tests/support/redis.rs"]
mod redis;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "shared with the tests of hostile clients")]
mod support;

mod access;
mod application_process;
mod applications;
mod authentication;
mod cache_completion;
mod cache_hits;
mod cache_rules;
mod cache_ttl;
mod caching;
mod certificates;
mod clients;
mod compression;
mod demo;
mod draining;
mod endurance;
mod error_pages;
mod expectation;
mod file_servers;
mod forwarding;
mod guide;
mod handover;
mod header_rules;
mod interim;
mod layer_settings;
mod maintenance;
mod migrated;
mod name_case;
mod path_filter;
mod process_log;
mod rate_limits;
mod reload;
mod route_confusion;
mod running;
mod sandbox;
mod send_file;
mod sites;
mod spellings;
mod spoofing;
mod static_files;
mod statuses;
mod switch;
mod target_rules;
mod tls;
mod upgrades;
mod upstreams;
mod websocket;
