//! The configuration that a layer shares with its services.

use http::StatusCode;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) status: StatusCode,
    pub(crate) shadow: bool,
    pub(crate) reject_ambiguous: bool,
}
