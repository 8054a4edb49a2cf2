//! A rule, which blocks or allows the paths that match a glob.

use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// The glob, as it was written.
    pub(crate) glob: Arc<str>,
    pub(crate) is_blocking: bool,
}
