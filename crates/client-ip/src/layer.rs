//! The layer and its settings.

use std::sync::Arc;

use tower_layer::Layer;

use crate::resolve::Source;
use crate::service::ClientIpService;
use crate::trusted::TrustedProxies;

/// Resolves the client of each request into [`ClientIp`](crate::ClientIp).
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientIpLayer {
    settings: Arc<Settings>,
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) trusted: TrustedProxies,
    pub(crate) source: Source,
}

impl ClientIpLayer {
    /// Believes the `X-Forwarded-For` of `trusted` peers, and nothing of anyone else.
    pub fn new(trusted: TrustedProxies) -> Self {
        Self { settings: Arc::new(Settings { trusted, source: Source::default() }) }
    }

    /// Reads the hops from `source` instead of `X-Forwarded-For`.
    pub fn source(mut self, source: Source) -> Self {
        Arc::make_mut(&mut self.settings).source = source;
        self
    }
}

impl<S> Layer<S> for ClientIpLayer {
    type Service = ClientIpService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClientIpService::new(inner, Arc::clone(&self.settings))
    }
}
