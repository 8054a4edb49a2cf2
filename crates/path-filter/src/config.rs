//! The configuration that a layer shares with its services.

use std::fmt;
use std::sync::Arc;

use http::{StatusCode, Uri};

use crate::rules::PathRules;

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) rules: PathRules,
    pub(crate) status: StatusCode,
    pub(crate) shadow: bool,
    pub(crate) reject_ambiguous: bool,
    pub(crate) rewrite: Option<Rewrite>,
}

/// A function that returns the URI as rewritten by an inner service, or `None` if the URI is unchanged.
#[derive(Clone)]
pub(crate) struct Rewrite(pub(crate) Arc<RewriteFn>);

type RewriteFn = dyn Fn(&Uri) -> Option<Uri> + Send + Sync;

impl fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rewrite(..)")
    }
}
