//! The cache as a client and an origin see it, with a clock that the tests hold.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bodies;
mod bypass;
mod hooks;
mod methods;
mod purging;
mod reuse;
mod stale;
mod validation;
mod world;
