//! The reverse proxy as a library.

pub mod cli;
pub mod config;
pub mod observe;
pub mod problem;

pub use config::{Config, ConfigError};
