//! The layer and its settings.

use std::sync::Arc;

use http::{HeaderValue, Version};
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
    pub(crate) via: Option<Via>,
}

/// The entries of this proxy in `Via`, by the protocol that a request came in (RFC 9110 §7.6.3).
#[derive(Clone, Debug)]
pub(crate) struct Via {
    pseudonym: String,
    http10: HeaderValue,
    http11: HeaderValue,
    http2: HeaderValue,
}

impl Via {
    pub(crate) fn new(pseudonym: &str) -> Option<Self> {
        let entry = |version| HeaderValue::try_from(format!("{version} {pseudonym}")).ok();
        Some(Self {
            pseudonym: pseudonym.to_owned(),
            http10: entry("1.0")?,
            http11: entry("1.1")?,
            http2: entry("2.0")?,
        })
    }

    pub(crate) fn pseudonym(&self) -> &str {
        &self.pseudonym
    }

    pub(crate) fn entry(&self, received: Version) -> HeaderValue {
        match received {
            Version::HTTP_2 => self.http2.clone(),
            Version::HTTP_11 => self.http11.clone(),
            _ => self.http10.clone(),
        }
    }
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
    /// A request that has been here eight times before is answered 508 (RFC 5842 §7.2): it is in a loop.
    pub fn via(mut self, pseudonym: &str) -> Self {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let pseudonym: String = pseudonym.chars().map(|c| if is_token(c) { c } else { '_' }).collect();
        Arc::make_mut(&mut self.settings).via = Via::new(&pseudonym);
        self
    }
}

impl<S> Layer<S> for ForwardHeadersLayer {
    type Service = ForwardHeadersService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ForwardHeadersService::new(inner, Arc::clone(&self.settings))
    }
}
