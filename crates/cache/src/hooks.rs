//! Hooks for custom cache keys, and for requests that bypass the cache.

use std::fmt;
use std::sync::Arc;

use http::{Extensions, HeaderMap, Method, Request, Uri};

use crate::key::{CacheKey, request_target};
use crate::query::QueryRules;

/// The head of a request, as passed to the cache hooks.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequestHead<'a> {
    /// The request method, usually `GET`.
    pub method: &'a Method,
    /// The request target. With the feature `axum`, it is the target before axum's router changed it.
    pub uri: &'a Uri,
    /// The header section of the request.
    pub headers: &'a HeaderMap,
    /// The request extensions that the server and outer layers inserted.
    pub extensions: &'a Extensions,
}

impl<'a> RequestHead<'a> {
    fn from_request<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request_target(request),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }
}

/// A request extension: a function that returns whether a response is specific to this request.
///
/// An outer layer inserts it if it gives each request a unique value that the application writes into some of its responses, such as
/// the nonce of a `Content-Security-Policy`. Such a response is not stored, and a stored one does not serve the request. The type is
/// a plain function pointer, so that other crates, such as `rproxy-security-headers`, can name it without this crate.
pub type RequestSpecificCheck = fn(&HeaderMap) -> bool;

/// The hooks that determine the cache key of a request, and whether the request bypasses the cache.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) query: QueryRules,
    pub(crate) key: Option<Arc<KeyHook>>,
    pub(crate) bypass: Option<Arc<BypassHook>>,
}

pub(crate) type KeyHook = dyn Fn(RequestHead<'_>, &str) -> String + Send + Sync;
pub(crate) type BypassHook = dyn Fn(RequestHead<'_>) -> bool + Send + Sync;

impl Hooks {
    /// Returns the cache key of a request, or `None` if the request has no unambiguous key.
    pub(crate) fn key<B>(&self, request: &Request<B>) -> Option<CacheKey> {
        let key = self.query.apply_to_key(CacheKey::from_request(request)?);
        match &self.key {
            None => Some(key),
            Some(hook) => CacheKey::from_uri(&hook(RequestHead::from_request(request), key.as_str()).parse().ok()?),
        }
    }

    /// Whether the bypass hook excludes a request from the cache.
    pub(crate) fn bypasses<B>(&self, request: &Request<B>) -> bool {
        self.bypass.as_ref().is_some_and(|hook| hook(RequestHead::from_request(request)))
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
