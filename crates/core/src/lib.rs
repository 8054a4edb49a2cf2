//! The vocabulary that rproxy's layers share: types and rules without I/O and without a layer of their own.
//!
//! Programs normally use the layer crates, which re-export what belongs to their interface.
//!
//! | Module | Feature | Content |
//! |---|---|---|
//! | [`path`] | `path` | Every decoding of a request path that some server applies. |
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "path")]
pub mod path;
