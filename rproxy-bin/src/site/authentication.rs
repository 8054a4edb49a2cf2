//! The layers that authenticate the clients of one site or route.

use std::collections::HashMap;

use bytes::Bytes;
use http_body_util::Empty;
use rproxy_access::{BasicAuthLayer, ForwardAuthConfig, ForwardAuthLayer};
use rproxy_core::OptionalLayer;
use rproxy_upstream::{Backends, Upstream};
use tower_layer::Stack;

/// The authentication of clients, of which at least one kind is configured.
#[derive(Clone, Debug)]
pub(crate) struct Authentication {
    pub(crate) basic: Option<BasicAuthLayer>,
    pub(crate) forward: Option<ForwardAuth>,
}

/// An authentication service.
#[derive(Clone, Debug)]
pub(crate) struct ForwardAuth {
    pub(crate) config: ForwardAuthConfig,
    pub(crate) backends: Backends,
}

/// The layers of an [`Authentication`], with basic auth as the outer one.
pub(crate) type AuthenticationLayer = Stack<OptionalLayer<ForwardAuthLayer<AuthClient>>, OptionalLayer<BasicAuthLayer>>;

type AuthClient = Upstream<Empty<Bytes>>;

/// The connections of one worker to authentication services, by the [identifiers](Backends::id) of their backends.
#[derive(Default)]
pub(crate) struct AuthClients {
    by_id: HashMap<usize, AuthClient>,
}

impl Authentication {
    pub(crate) fn layer(&self, clients: &mut AuthClients) -> AuthenticationLayer {
        let forward = self.forward.as_ref().map(|ForwardAuth { config, backends }| {
            let client = clients.by_id.entry(backends.id()).or_insert_with(|| backends.upstream()).clone();
            ForwardAuthLayer::new(client, config.clone())
        });
        Stack::new(OptionalLayer::new(forward), OptionalLayer::new(self.basic.clone()))
    }
}
