//! The upstreams of a worker, which survive a reload.

use std::collections::HashMap;

use http_body::Body;
use rproxy_request_guard::GuardBody;
use rproxy_upstream::{Backends, Upstream};
use tower::BoxError;

/// The upstreams of one worker with their connection pools, by the [identifiers](Backends::id) of their backends.
pub(crate) struct WorkerUpstreams<B>
where
    B: Body + 'static,
{
    by_id: HashMap<usize, Upstream<GuardBody<B>>>,
}

impl<B> WorkerUpstreams<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    /// Returns an upstream for each of `backends`, and drops those for other backends.
    pub(super) fn replace(&mut self, backends: &[Backends]) -> Vec<Upstream<GuardBody<B>>> {
        let previous = std::mem::take(&mut self.by_id);
        let upstreams = backends.iter().map(|backends| {
            let upstream = previous.get(&backends.id()).cloned().unwrap_or_else(|| backends.upstream());
            self.by_id.insert(backends.id(), upstream.clone());
            upstream
        });
        upstreams.collect()
    }
}

impl<B> Default for WorkerUpstreams<B>
where
    B: Body + 'static,
{
    fn default() -> Self {
        Self { by_id: HashMap::new() }
    }
}
