//! The pages of a layer, and the responses that they replace.

use crate::error_pages::ErrorPages;
use crate::status_set::StatusSet;

/// The pages of a layer, and the responses that they replace.
#[derive(Clone, Debug, Default)]
pub(crate) struct PagesConfig {
    pub(crate) pages: ErrorPages,
    /// The statuses of the inner service's responses that get a page.
    pub(crate) replaced: StatusSet,
}
