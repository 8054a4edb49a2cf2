//! The programs of the documentation, compiled by `cargo test --doc`.
//!
//! Each Rust block of these pages is a doc test of this crate, so that no page shows a name that the crates do not have.

/// Docs: `docs/guide/layers.md`.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/layers.md")]
pub struct Layers;

/// Docs: `README.md`.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// Docs: `rproxy-bin/README.md`.
#[cfg(doctest)]
#[doc = include_str!("../../rproxy-bin/README.md")]
pub struct BinaryReadme;
