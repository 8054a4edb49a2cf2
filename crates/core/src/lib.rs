//! Types and rules that the layers of rproxy share. Without I/O, and without a layer of its own.
//!
//! Most programs use the layer crates instead, which re-export the types of their interfaces.
//!
//! # Modules
//!
//! | Module | Feature | Content |
//! |---|---|---|
//! | [`path`] | `path` | Every decoding of a request path that some server applies. |
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "path")]
pub mod path;
