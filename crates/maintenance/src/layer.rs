//! A tower layer that rejects requests during maintenance.

use std::sync::Arc;

use rproxy_client_ip::{AddressRules, Cidr};
use tower_layer::Layer;

use crate::service::{Config, MaintenanceService};
use crate::switch::Maintenance;

/// A layer that rejects requests with 503 while [`Maintenance`] is on.
///
/// # Examples
///
/// ```
/// use rproxy_client_ip::AddressList;
/// use rproxy_maintenance::{Maintenance, MaintenanceLayer};
///
/// let layer = MaintenanceLayer::new(Maintenance::new()).exempt(AddressList::parse("10.0.0.0/8, loopback")?);
/// # let _ = layer;
/// # Ok::<(), rproxy_client_ip::AddressListError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct MaintenanceLayer {
    config: Arc<Config>,
}

impl MaintenanceLayer {
    /// Creates a layer that `maintenance` turns on and off, without exempt clients.
    pub fn new(maintenance: Maintenance) -> Self {
        Self { config: Arc::new(Config { maintenance, exempt: None }) }
    }

    /// Exempts the clients in `ranges`, such as an [`AddressList`](rproxy_client_ip::AddressList). Replaces the ranges of an earlier
    /// call.
    pub fn exempt(self, ranges: impl IntoIterator<Item = Cidr>) -> Self {
        let maintenance = self.config.maintenance.clone();
        Self { config: Arc::new(Config { maintenance, exempt: Some(Box::new(AddressRules::new().allow(ranges))) }) }
    }
}

impl<S> Layer<S> for MaintenanceLayer {
    type Service = MaintenanceService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        MaintenanceService::new(inner, Arc::clone(&self.config))
    }
}
