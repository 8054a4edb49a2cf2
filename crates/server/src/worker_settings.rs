//! The settings of a worker.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

#[cfg(feature = "tls")]
use rproxy_tls::Certificates;

use crate::connection_settings::ConnectionSettings;

/// The settings that all workers of a server share.
#[derive(Clone)]
pub(crate) struct WorkerSettings {
    /// The number of workers.
    pub(crate) workers: usize,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Certificates>,
    pub(crate) connections: ConnectionSettings,
    pub(crate) wait_on_drain: Option<Arc<WaitOnDrain>>,
}

impl WorkerSettings {
    /// Returns the default settings for this number of workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers,
            #[cfg(feature = "tls")]
            tls: None,
            connections: ConnectionSettings::default(),
            wait_on_drain: None,
        }
    }
}

/// A function that creates a future; draining waits for the future to complete.
pub(crate) type WaitOnDrain = dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;
