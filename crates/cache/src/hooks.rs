//! What a program can decide about a request itself.

use std::fmt;
use std::sync::Arc;

use http::{Extensions, HeaderMap, Method, Request, Uri};

use crate::key::{Key, target};
use crate::query::QueryRules;

/// The head of a request, as a hook sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequestHead<'a> {
    /// `GET`, mostly.
    pub method: &'a Method,
    /// The target as the server left it; with the feature `axum`, as it was before axum's router changed it.
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
            uri: target(request),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }
}

/// A request extension: whether a response with these header fields is for the one request alone.
///
/// A layer further out inserts it that gives each request something of its own, such as the nonce of a
/// `Content-Security-Policy`, which the application writes into some of its responses. Such a response is not stored, and a
/// stored one is not used for the request. Being a plain function pointer, the type can be named without this crate;
/// `rproxy-security-headers` does so.
pub type IsForOneRequest = fn(&HeaderMap) -> bool;

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
