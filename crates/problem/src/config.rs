//! The settings of a layer that differ from their defaults.

use crate::error_pages::ErrorPages;
use crate::status_set::StatusSet;

/// The settings of a layer that differ from their defaults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    pub(crate) pages: ErrorPages,
    /// The statuses of the inner service's responses that get a page.
    pub(crate) replaced: StatusSet,
    /// Whether the hooks can discard responses.
    pub(crate) discards: bool,
}
