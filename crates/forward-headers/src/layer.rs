//! The layer and its settings.

use std::sync::Arc;

use http::HeaderValue;
use tower_layer::Layer;

use crate::service::ForwardHeadersService;

/// Rebuilds forwarding headers, and removes those of the connection.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ForwardHeadersLayer {
    settings: Arc<Settings>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) forwarded: bool,
    /// A whole `Via` entry: protocol version and pseudonym.
    pub(crate) via: Option<HeaderValue>,
}

impl ForwardHeadersLayer {
    /// `X-Forwarded-*`, `X-Real-IP` and `X-Request-Id`; neither `Forwarded` nor `Via`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether to send `Forwarded` (RFC 7239), too.
    pub fn forwarded(mut self, send: bool) -> Self {
        Arc::make_mut(&mut self.settings).forwarded = send;
        self
    }

    /// Names this proxy in the `Via` of requests (RFC 9110 §7.6.3). A pseudonym is a token; anything
    /// else in it is replaced by `_`.
    ///
    /// The entry says version 1.1, whatever the client spoke: which version came in is nobody's
    /// business further in.
    pub fn via(mut self, pseudonym: &str) -> Self {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let pseudonym: String = pseudonym.chars().map(|c| if is_token(c) { c } else { '_' }).collect();
        Arc::make_mut(&mut self.settings).via = HeaderValue::try_from(format!("1.1 {pseudonym}")).ok();
        self
    }
}

impl<S> Layer<S> for ForwardHeadersLayer {
    type Service = ForwardHeadersService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ForwardHeadersService::new(inner, Arc::clone(&self.settings))
    }
}
