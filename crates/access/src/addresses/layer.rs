//! A tower layer that rejects clients by their address.

use std::sync::Arc;

use rproxy_client_ip::AddressRules;
use tower_layer::Layer;

use super::service::AddressFilterService;

/// A layer that rejects clients with 403 unless [`AddressRules`] allow their address.
///
/// # Examples
///
/// ```
/// use rproxy_access::{AddressFilterLayer, AddressList, AddressRules};
///
/// let office = AddressList::parse("private, 2001:db8::/32")?;
/// let layer = AddressFilterLayer::new(AddressRules::new().allow(office));
/// # let _ = layer;
/// # Ok::<(), rproxy_access::AddressListError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct AddressFilterLayer {
    rules: Arc<AddressRules>,
}

impl AddressFilterLayer {
    /// Creates a layer that applies `rules` to the extension [`ClientIp`](rproxy_client_ip::ClientIp) of each request.
    pub fn new(rules: AddressRules) -> Self {
        Self { rules: Arc::new(rules) }
    }
}

impl<S> Layer<S> for AddressFilterLayer {
    type Service = AddressFilterService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AddressFilterService::new(inner, Arc::clone(&self.rules))
    }
}
