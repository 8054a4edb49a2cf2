//! The configuration that a layer shares with its services.

use crate::policies::Policies;

#[derive(Debug)]
pub(crate) struct Config<K> {
    pub(crate) policies: Policies<K>,
    /// Whether to forward requests that would be rejected, without telling the client.
    pub(crate) shadow: bool,
}
