//! A tower layer that sets forwarding fields and removes hop-by-hop fields.

use std::sync::Arc;

use http::HeaderName;
use tower_layer::Layer;

use crate::config::Config;
use crate::forwarded::{Forwarded, obfuscated};
use crate::service::ForwardHeadersService;
use crate::trace_context::TraceContext;
use crate::trust;
use crate::via::Via;

/// A layer that sets the forwarding fields of requests, and removes hop-by-hop fields.
///
/// # Examples
///
/// ```
/// use rproxy_forward_headers::ForwardHeadersLayer;
///
/// let layer = ForwardHeadersLayer::new().forwarded(true).via("rproxy");
/// # let _ = layer;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ForwardHeadersLayer {
    config: Arc<Config>,
}

impl ForwardHeadersLayer {
    /// Creates a layer that sends `X-Forwarded-*`, `X-Real-IP` and `X-Request-Id`.
    ///
    /// `Forwarded` and `Via` are not sent unless they are configured.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether to also send `Forwarded` (RFC 7239); default `false`.
    pub fn forwarded(mut self, send: bool) -> Self {
        let hides_client = self.config.hides_client;
        let forwarded = self.config.forwarded.clone();
        self.config_mut().forwarded =
            send.then(|| forwarded.unwrap_or_else(|| Forwarded { hides_client, ..Forwarded::default() }));
        self
    }

    /// Sends `Forwarded` with a `by` parameter that identifies this proxy.
    ///
    /// The name is an obfuscated identifier (RFC 7239 §6.3): an underscore, followed by letters, digits, `.`, `_` and `-`.
    /// An underscore is added if it is missing, and other characters are replaced by underscores.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_forward_headers::ForwardHeadersLayer;
    ///
    /// let layer = ForwardHeadersLayer::new().forwarded_by("_edge");
    /// # let _ = layer;
    /// ```
    pub fn forwarded_by(self, name: &str) -> Self {
        let mut layer = self.forwarded(true);
        if let Some(forwarded) = &mut layer.config_mut().forwarded {
            forwarded.by = Some(obfuscated(name));
        }
        layer
    }

    /// Sets whether to hide client addresses from the upstream, such as one that a third party runs; default `false`.
    ///
    /// `X-Forwarded-For` and `X-Real-IP` are then not sent, and `Forwarded` contains `for=_hidden`.
    pub fn hide_client(mut self, hide: bool) -> Self {
        let config = self.config_mut();
        config.hides_client = hide;
        if let Some(forwarded) = &mut config.forwarded {
            forwarded.hides_client = hide;
        }
        self
    }

    /// Appends this proxy's pseudonym to the `Via` of requests (RFC 9110 §7.6.3), and detects loops.
    ///
    /// The pseudonym is a token, in which other characters are replaced by underscores. A request that has passed this proxy
    /// eight times before is rejected with 508 (RFC 5842 §7.2).
    pub fn via(mut self, pseudonym: &str) -> Self {
        self.config_mut().via = Via::new(pseudonym);
        self
    }

    /// Sets the policy for `traceparent` and `tracestate` (W3C Trace Context).
    ///
    /// By default, valid ones are forwarded.
    pub fn trace_context(mut self, trace_context: TraceContext) -> Self {
        self.config_mut().trace_context = trace_context;
        self
    }

    /// Trusts an additional field from trusted proxies, such as `X-Forwarded-Host` or `Remote-User`.
    ///
    /// By default only the client address, the scheme and the request ID of trusted proxies are used. The trusted proxies
    /// must overwrite or remove the field in each request of a client.
    ///
    /// - Fields of this name from other peers are removed, in any spelling.
    /// - A [content delivery network](rproxy_client_ip::Cdn) is trusted only for fields that it sets itself, such as
    ///   `CF-IPCountry`.
    /// - `X-Forwarded-Host` and `X-Forwarded-Port` form one authority. If it is valid, the layer inserts it as the request
    ///   extension [`Authority`](http::uri::Authority), and uses it for both fields and for the host in `Forwarded`.
    /// - A cache inside of this layer must add other trusted fields to its key, or bypass requests that have them.
    ///
    /// Fields that are not [trustable](Self::is_trustable) are ignored.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_forward_headers::ForwardHeadersLayer;
    ///
    /// let layer = ForwardHeadersLayer::new()
    ///     .trust_field("x-forwarded-host".parse()?)
    ///     .trust_field("remote-user".parse()?);
    /// # let _ = layer;
    /// # Ok::<(), http::header::InvalidHeaderName>(())
    /// ```
    pub fn trust_field(mut self, name: HeaderName) -> Self {
        if Self::is_trustable(&name) {
            self.config_mut().trusted_fields.push(name);
        }
        self
    }

    /// Returns whether [`trust_field`](Self::trust_field) accepts the field `name`.
    ///
    /// It does not accept fields that clients send themselves, such as `Cookie`, fields that the layer sets, such as
    /// `X-Forwarded-For`, and names with other characters than letters, digits and hyphens.
    pub fn is_trustable(name: &HeaderName) -> bool {
        trust::is_trustable(name)
    }

    fn config_mut(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.config)
    }
}

impl<S> Layer<S> for ForwardHeadersLayer {
    type Service = ForwardHeadersService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ForwardHeadersService::new(inner, Arc::clone(&self.config))
    }
}
