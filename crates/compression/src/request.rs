//! The request: the coding that its response may get.

use http::header::ACCEPT_ENCODING;
use http::{Method, Request};

use crate::coding::{Coding, CodingSet, Preferences};

/// The facts about a request that its response depends on.
#[derive(Debug)]
pub(crate) struct RequestContext {
    /// The coding that the client prefers, if any.
    pub(crate) coding: Option<Coding>,
    pub(crate) is_head: bool,
}

impl RequestContext {
    /// Reads a request.
    pub(crate) fn prepare<B>(request: &mut Request<B>, enabled: CodingSet) -> Self {
        let mut preferences = Preferences::default();
        for (name, value) in request.headers() {
            if *name == ACCEPT_ENCODING {
                preferences.read(value.as_bytes());
            }
        }
        Self { coding: preferences.preferred(enabled), is_head: *request.method() == Method::HEAD }
    }
}
