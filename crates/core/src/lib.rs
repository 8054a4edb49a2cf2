//! Types and path rules that several layers of rproxy share. Without I/O, and without a layer of its own.
//!
//! Most programs use the layer crates instead, which re-export the types of their interfaces.
//!
//! # Contents
//!
//! | Item | Feature | Content |
//! |---|---|---|
//! | [`field_name`] | | A parser of field names that is fast for common ones. |
//! | [`path`] | `path` | Every decoding of a request path that some server applies. |
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod field_name;
#[cfg(feature = "path")]
pub mod path;

pub use self::field_name::field_name;
