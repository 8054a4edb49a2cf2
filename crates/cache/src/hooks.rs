//! What a program can decide about a request itself.

use std::fmt;
use std::sync::Arc;

use http::{Extensions, HeaderMap, Method, Request, Uri};

use crate::key::Key;
use crate::query::QueryRules;

/// The head of a request, as a hook sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequestHead<'a> {
    /// `GET`, mostly.
    pub method: &'a Method,
    /// The target as the server left it.
    pub uri: &'a Uri,
    /// All header fields.
    pub headers: &'a HeaderMap,
    /// What servers and layers further out know of the request.
    pub extensions: &'a Extensions,
}

impl<'a> RequestHead<'a> {
    fn of<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }
}

/// Where a resource is stored, and which requests have no part in it.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) query: QueryRules,
    pub(crate) key: Option<Arc<KeyHook>>,
    pub(crate) bypass: Option<Arc<BypassHook>>,
}

pub(crate) type KeyHook = dyn Fn(RequestHead<'_>, &str) -> String + Send + Sync;
pub(crate) type BypassHook = dyn Fn(RequestHead<'_>) -> bool + Send + Sync;

impl Hooks {
    /// `None` where it can't be told for certain which resource is meant.
    pub(crate) fn key<B>(&self, request: &Request<B>) -> Option<Key> {
        let key = self.query.of_key(Key::of(request)?);
        match &self.key {
            None => Some(key),
            Some(hook) => Key::from_uri(&hook(RequestHead::of(request), key.as_str()).parse().ok()?),
        }
    }

    pub(crate) fn bypasses<B>(&self, request: &Request<B>) -> bool {
        self.bypass.as_ref().is_some_and(|hook| hook(RequestHead::of(request)))
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("query", &self.query)
            .field("key", &self.key.is_some())
            .field("bypass", &self.bypass.is_some())
            .finish()
    }
}
