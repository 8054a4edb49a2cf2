//! A tower layer that lets an authentication service decide.

use tower_layer::Layer;

use super::config::ForwardAuthConfig;
use super::service::ForwardAuthService;

/// A layer that admits the requests that an authentication service admits.
///
/// `C` is the client: a service that sends requests to the authentication service, such as `Upstream` of `rproxy-upstream` or
/// the client of hyper-util. It must be cheap to clone.
#[derive(Clone, Debug)]
#[must_use]
pub struct ForwardAuthLayer<C> {
    client: C,
    config: ForwardAuthConfig,
}

impl<C> ForwardAuthLayer<C> {
    /// Creates a layer that sends requests with `client`.
    pub fn new(client: C, config: ForwardAuthConfig) -> Self {
        Self { client, config }
    }
}

impl<S, C> Layer<S> for ForwardAuthLayer<C>
where
    C: Clone,
{
    type Service = ForwardAuthService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        ForwardAuthService::new(inner, self.client.clone(), self.config.clone())
    }
}
