//! The cache as a client and an origin see it, with a clock that the tests hold.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod behind;
mod bodies;
mod bypass;
mod completion;
mod credentials;
mod hooks;
mod methods;
mod nonces;
mod other_variants;
mod purging;
mod queries;
mod reuse;
mod second_opinion;
mod stale;
mod trailers;
mod validation;
mod variants;
mod world;
