//! A rate limit store in a Redis or Valkey server.

mod connections;
mod script;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::io::tcp::TcpSettings;
use ::redis::{Client, ConnectionAddr, IntoConnectionInfo};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::connections::Connections;
pub use self::connections::RedisStats;
use self::script::ScriptCall;
use crate::store::{Charge, RateLimitStore, StoreError, StoreFuture, StoreObserver};

/// A [`RateLimitStore`] in a Redis (version 5 or newer) or Valkey server.
///
/// It needs the feature `redis` and a tokio runtime.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use rproxy_rate_limit::{Quota, RateLimitLayer, RedisStore, StoreFallback};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisStore::new("redis://127.0.0.1:6379/")?.timeout(Duration::from_millis(20));
/// let layer = RateLimitLayer::builder(Quota::per_second(100).burst(200))
///     .store(store, StoreFallback::Local)
///     .build()?;
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
///
/// # How it works
///
/// - A request takes one round trip. A script charges all policies of the request at once.
/// - A [refund](crate::RateLimitLayerBuilder::refund) is another request, which runs in the background. At most 4,096
///   run at a time; further ones are dropped, so their requests count.
/// - The scripts use the server's clock, so the clocks of the proxies need not agree.
/// - A key takes about 100 bytes in the server until it has its whole quota again. Set `maxmemory` if the number of
///   clients may be large.
/// - Keys are stored as hashes (SHA-256, cut to 128 bits): the server sees no tokens, and long keys take no more memory.
/// - Processes that share quotas must give each policy the same name and the same quota. Others must use a different
///   [prefix](Self::key_prefix) or database, such as `redis://127.0.0.1/1`.
/// - Redis Cluster is not supported, because the keys of one request would be on different nodes.
/// - Each thread has its own connection, up to the number of cores (at most 64). Requests are pipelined. The first request
///   of a thread opens the connection and waits for it.
///
/// # Slow or failed servers
///
/// A request waits at most for the [timeout](Self::timeout). A connection is closed when it breaks or when three requests
/// in a row time out. Until it is open again, requests do not wait: the [`StoreFallback`](crate::StoreFallback) handles
/// them. Reconnection starts after 100 ms, with a back-off that doubles up to 2 s.
#[derive(Clone)]
#[must_use]
pub struct RedisStore {
    connections: Arc<Connections>,
    key_prefix: Arc<str>,
    timeout: Duration,
    /// A limit on concurrent refunds, which run in the background.
    refunds: Arc<Semaphore>,
}

impl RedisStore {
    /// Creates a store in the Redis server at `url`. It connects at the first request.
    ///
    /// The URL is `redis://USER:PASSWORD@HOST:PORT/DATABASE`, of which only the host is required, or
    /// `redis+unix:///PATH`. TLS (`rediss://`) is not supported.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL has another form.
    pub fn new(url: &str) -> Result<Self, RedisUrlError> {
        let info = url.into_connection_info().map_err(|error| RedisUrlError { reason: reason(&error) })?;
        // If another crate enables TLS in the driver, it would use the process's default crypto provider, and panic
        // without one.
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Err(RedisUrlError { reason: "TLS to the Redis server is not supported".to_owned() });
        }
        // Nagle's algorithm would hold a pipelined request back until the response to the previous one.
        let client = Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)));
        let client = client.map_err(|error| RedisUrlError { reason: reason(&error) })?;
        Ok(Self {
            connections: Arc::new(Connections::new(client)),
            key_prefix: "rproxy".into(),
            timeout: DEFAULT_TIMEOUT,
            refunds: Arc::new(Semaphore::new(MAX_PENDING_REFUNDS)),
        })
    }

    /// Sets the prefix of all keys in the Redis server; default `rproxy`.
    pub fn key_prefix(self, prefix: &str) -> Self {
        Self { key_prefix: prefix.into(), ..self }
    }

    /// Sets the maximum time that a request waits for the Redis server; default 50 ms.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Returns the counters of requests and connections, which are shared by all clones of the store.
    pub fn stats(&self) -> RedisStats {
        self.connections.stats()
    }
}

impl RateLimitStore for RedisStore {
    fn charge(&self, charges: &[Charge]) -> StoreFuture {
        let call = ScriptCall::charge(&self.key_prefix, charges);
        let (connections, time_limit) = (Arc::clone(&self.connections), self.timeout);
        Box::pin(async move { connections.run(&call, time_limit).await })
    }

    fn refund(&self, charges: Vec<Charge>, observer: StoreObserver) {
        let Ok(runtime) = Handle::try_current() else { return observer.observe(Err(&StoreError::NotConnected)) };
        let Ok(permit) = Arc::clone(&self.refunds).try_acquire_owned() else {
            return observer.observe(Err(&StoreError::Overloaded));
        };
        let call = ScriptCall::refund(&self.key_prefix, &charges);
        let (connections, time_limit) = (Arc::clone(&self.connections), self.timeout);
        runtime.spawn(async move {
            observer.observe(connections.run(&call, time_limit).await.as_ref().map(drop));
            drop(permit);
        });
    }
}

/// Omits the URL from the debug output, because it may contain a password.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("key_prefix", &self.key_prefix)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The error for text that is not a valid Redis URL. It omits the URL, which may contain a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad Redis URL: {reason}")]
pub struct RedisUrlError {
    reason: String,
}

fn reason(error: &::redis::RedisError) -> String {
    match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.to_string(),
    }
}

const DEFAULT_TIMEOUT: Duration = Duration::from_millis(50);
// About 1 MiB.
const MAX_PENDING_REFUNDS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_redis_urls_without_tls_and_omits_them_from_debug_output() {
        for url in ["redis://127.0.0.1/", "redis://me:secret@[::1]:6380/3", "valkey://a.example", "redis+unix:///run/r"]
        {
            let store = RedisStore::new(url).unwrap();
            assert!(!format!("{store:?}").contains("secret"));
        }
        for url in ["rediss://me:secret@a.example", "valkeys://a.example", "http://me:secret@a.example", "a", ""] {
            let error = RedisStore::new(url).unwrap_err().to_string();
            assert!(error.starts_with("bad Redis URL: ") && !error.contains("secret"), "{error}");
        }
    }
}
