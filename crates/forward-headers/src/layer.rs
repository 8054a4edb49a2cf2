//! The layer and its settings.

use std::sync::Arc;

use http::HeaderName;
use tower_layer::Layer;

use crate::claims;
use crate::forwarded::{Forwarded, obfuscated};
use crate::service::ForwardHeadersService;
use crate::trace_context::TraceContext;
use crate::via::Via;

/// Rebuilds forwarding headers, and removes those of the connection.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ForwardHeadersLayer {
    settings: Arc<Settings>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) forwarded: Option<Forwarded>,
    pub(crate) hides_client: bool,
    pub(crate) via: Option<Via>,
    pub(crate) trace_context: TraceContext,
    pub(crate) trusted_fields: Vec<HeaderName>,
}

impl ForwardHeadersLayer {
    /// `X-Forwarded-*`, `X-Real-IP` and `X-Request-Id`; neither `Forwarded` nor `Via`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether to send `Forwarded` (RFC 7239), too.
    pub fn forwarded(mut self, send: bool) -> Self {
        let hides = self.settings.hides_client;
        let forwarded = self.settings.forwarded.clone();
        self.settings_mut().forwarded =
            send.then(|| forwarded.unwrap_or_else(|| Forwarded { hides, ..Forwarded::default() }));
        self
    }

    /// Sends `Forwarded`, with this proxy's name as its `by`: an obfuscated identifier (RFC 7239 §6.3), which begins
    /// with an underscore and has letters, digits, `.`, `_` and `-`. Whatever else is in `name` is replaced by `_`.
    pub fn forwarded_by(self, name: &str) -> Self {
        let mut layer = self.forwarded(true);
        if let Some(forwarded) = &mut layer.settings_mut().forwarded {
            forwarded.by = Some(obfuscated(name));
        }
        layer
    }

    /// Whether the upstream is to learn no addresses, for one that is somebody else's: no `X-Forwarded-For`, no
    /// `X-Real-IP`, and `for=_hidden` in `Forwarded`.
    pub fn hide_client(mut self, hide: bool) -> Self {
        let settings = self.settings_mut();
        settings.hides_client = hide;
        if let Some(forwarded) = &mut settings.forwarded {
            forwarded.hides = hide;
        }
        self
    }

    /// Names this proxy in the `Via` of requests (RFC 9110 §7.6.3). A pseudonym is a token; anything
    /// else in it is replaced by `_`.
    ///
    /// A request that has been here eight times before is answered 508 (RFC 5842 §7.2): it is in a loop.
    pub fn via(mut self, pseudonym: &str) -> Self {
        self.settings_mut().via = Via::new(pseudonym);
        self
    }

    /// What becomes of `traceparent` and `tracestate` (W3C Trace Context). By default they are passed on if they are
    /// what they should be.
    pub fn trace_context(mut self, trace_context: TraceContext) -> Self {
        self.settings_mut().trace_context = trace_context;
        self
    }

    /// Believes trusted proxies about one more field, beside the client's address, the scheme and the request id. None by
    /// default. The proxies in front have to overwrite or remove it in each request of a client: `X-Forwarded-Host`,
    /// `X-Forwarded-Port`, `X-Forwarded-Prefix`, `Remote-User` or a field of your own.
    ///
    /// Other peers' fields of this name are removed in every spelling. A [content delivery network](rproxy_client_ip::Cdn)
    /// is believed only about a field that it sets itself, such as `CF-IPCountry`.
    ///
    /// `X-Forwarded-Host` and `X-Forwarded-Port` are read as one authority. If it is valid, it becomes the request
    /// extension [`Authority`](http::uri::Authority), the host of `Forwarded`, and both fields. A cache behind this layer has
    /// to tell requests apart by the other fields, or to let requests that have them pass.
    ///
    /// A field that [can't be trusted](Self::is_trustable) is ignored.
    pub fn trust_field(mut self, name: HeaderName) -> Self {
        if Self::is_trustable(&name) {
            self.settings_mut().trusted_fields.push(name);
        }
        self
    }

    /// Whether [`trust_field`](Self::trust_field) takes the field `name`: not if clients send it themselves (`Cookie`), if the
    /// layer makes it from what it knows (`X-Forwarded-For`), or if it is spelled with anything but hyphens.
    pub fn is_trustable(name: &HeaderName) -> bool {
        claims::may_be_trusted(name)
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl<S> Layer<S> for ForwardHeadersLayer {
    type Service = ForwardHeadersService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ForwardHeadersService::new(inner, Arc::clone(&self.settings))
    }
}
