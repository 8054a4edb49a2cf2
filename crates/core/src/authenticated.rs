//! The mark of an authenticated request.

use std::sync::Arc;

/// A request and response extension: a layer authenticated the client by credentials in the request.
///
/// A shared cache must treat the request as one with `Authorization` (RFC 9111 §3.5), even if the credentials were a cookie, or
/// if the layer removed them. Layers of any crate can insert it.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use rproxy_core::Authenticated;
///
/// let mut request = Request::new(());
/// request.extensions_mut().insert(Authenticated::new().with_user("alice"));
/// let authenticated = request.extensions().get::<Authenticated>();
/// assert_eq!(authenticated.and_then(Authenticated::user), Some("alice"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authenticated {
    user: Option<Arc<str>>,
}

impl Authenticated {
    /// Creates a mark without the name of the user.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name of the user.
    #[must_use]
    pub fn with_user(self, user: impl Into<Arc<str>>) -> Self {
        Self { user: Some(user.into()) }
    }

    /// Returns the name of the user, if the layer knows it.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }
}
