//! Compiles the examples of the documentation as doc tests.
//!
//! Each Rust block of these pages is a doc test of this crate, so that no page shows a name that the crates do not have.

/// The examples in `docs/guide/layers.md`.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/layers.md")]
pub struct Layers;

/// The examples in `README.md`.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// The examples in `rproxy-bin/README.md`.
#[cfg(doctest)]
#[doc = include_str!("../../rproxy-bin/README.md")]
pub struct BinaryReadme;
