//! A rule, which blocks or allows the paths that match a glob.

use std::sync::Arc;

use rproxy_core::path::normalized;

use crate::error::PathRulesError;
use crate::globs::{build_glob, with_folder};

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// The text of the glob, as in the configuration.
    pub(crate) glob: Arc<str>,
    pub(crate) is_blocking: bool,
}

impl Rule {
    /// Creates a rule, if its glob is valid and begins with `/` or `*`.
    pub(crate) fn new(glob: &str, is_blocking: bool) -> Result<Self, PathRulesError> {
        let error = |reason: &str| PathRulesError::InvalidGlob { glob: glob.to_owned(), reason: reason.to_owned() };
        if !glob.starts_with(['/', '*']) {
            return Err(error("a glob must begin with / or *"));
        }
        for glob in with_folder(&normalized(glob)) {
            build_glob(&glob).map_err(|cause| error(&cause.kind().to_string()))?;
        }
        Ok(Self { glob: glob.into(), is_blocking })
    }
}
