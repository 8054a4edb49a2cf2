//! The settings of an upstream, with the state that all of its requests share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::backend_list::BackendList;
use crate::balance::Balance;
use crate::connector::Connector;
use crate::expectation::ExpectContinue;
use crate::hash::HashKey;
use crate::health_check::HealthCheck;
use crate::retry_budget::RetryBudget;

/// The settings and the state that are shared by all requests of an upstream.
pub(crate) struct Settings {
    pub(crate) backends: BackendList,
    pub(crate) balance: Balance,
    pub(crate) hash_key: HashKey,
    pub(crate) connector: Connector,
    pub(crate) timeout: Duration,
    pub(crate) read_timeout: Duration,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_idle: usize,
    pub(crate) queue_timeout: Duration,
    pub(crate) http2_ping_interval: Option<Duration>,
    pub(crate) expect_continue: ExpectContinue,
    pub(crate) retries: u32,
    pub(crate) budget: RetryBudget,
    pub(crate) hold: Duration,
    /// The notification that a backend has recovered, was replaced or has drained.
    pub(crate) changed: Arc<Notify>,
    pub(crate) health_check: Option<HealthCheck>,
}
