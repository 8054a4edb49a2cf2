//! Tests of the cache from the perspective of clients and the origin, with a settable clock.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bodies;
mod bypass;
mod completion;
mod credentials;
mod harness;
mod hooks;
mod http_cache_semantics;
mod methods;
mod other_variants;
mod purging;
mod queries;
mod request_specific;
mod reuse;
mod second_level;
mod stale;
mod trailers;
mod validation;
mod variants;
