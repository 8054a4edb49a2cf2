//! The configuration that a layer shares with its services.

use crate::policies::Policies;

#[derive(Debug)]
pub(crate) struct Config<K> {
    pub(crate) policies: Policies<K>,
    /// Whether shadow mode is on: requests over their quota are forwarded, and only the decision is recorded.
    pub(crate) shadow: bool,
}
