//! Quotas in Redis or Valkey, for all that ask the same server.

mod connections;
mod script;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::io::tcp::TcpSettings;
use ::redis::{Client, ConnectionAddr, IntoConnectionInfo};

use self::connections::Connections;
pub use self::connections::RedisStats;
use self::script::Evaluation;
use crate::store::{Charge, RateLimitStore, StoreFuture};

/// Keeps quotas in a Redis (5 or newer) or Valkey server. Needs the feature `redis`, and a tokio runtime.
///
/// ```
/// use std::time::Duration;
///
/// use rproxy_rate_limit::{Fallback, Quota, RateLimitLayer, RedisStore};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisStore::new("redis://127.0.0.1:6379/")?.deadline(Duration::from_millis(20));
/// let layer = RateLimitLayer::new(Quota::per_second(100).burst(200)).store(store, Fallback::Local);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
///
/// A request is one round trip, of a script that counts it under all of its policies at once, by the clock of the
/// server: those of the machines need not agree. A key is kept until it has its whole quota again, in some 100 bytes,
/// under a hash (SHA-256, of which 128 bits are kept), so that nobody's token stands there and none is too long;
/// give the server a `maxmemory` if addresses may be many. Whatever counts together has to have the same quotas under
/// the same names; others want a [prefix](Self::prefix) or a database (`redis://127.0.0.1/1`) of their own. A
/// Redis Cluster is of no use, as the keys of one request belong together.
///
/// Each thread has a connection of its own, up to as many as there are cores, over which its requests go one behind
/// the other without waiting for each other. It is opened at the first request, which waits for it.
///
/// # When the server is slow or gone
///
/// No request waits for longer than the [deadline](Self::deadline). A connection that breaks, or that has left three
/// requests in a row without an answer, is given up: until there is another, requests do not wait at all, and what
/// becomes of them is up to the [`Fallback`](crate::Fallback). It is tried again after 100 ms, then after twice that,
/// and so on up to 2 s.
#[derive(Clone)]
#[must_use]
pub struct RedisStore {
    connections: Arc<Connections>,
    prefix: Arc<str>,
    deadline: Duration,
}

impl RedisStore {
    /// Of the server at this URL: `redis://USER:PASSWORD@HOST:PORT/DATABASE`, where all but the host may be left out, or
    /// `redis+unix:///PATH`. TLS (`rediss://`) is not supported. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// If the URL is none of these.
    pub fn new(url: &str) -> Result<Self, RedisUrlError> {
        let info = url.into_connection_info().map_err(|error| RedisUrlError { reason: reason(&error) })?;
        // The driver would speak it where another crate has asked for that, with whatever provider the process has, or a
        // panic where it has none.
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Err(RedisUrlError { reason: "TLS is not supported".to_owned() });
        }
        // Requests go one behind the other: none of them may wait for the answer to the one before.
        let client = Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)));
        let client = client.map_err(|error| RedisUrlError { reason: reason(&error) })?;
        Ok(Self { connections: Arc::new(Connections::new(client)), prefix: "rproxy".into(), deadline: DEADLINE })
    }

    /// What keys start with in Redis; `rproxy` by default.
    pub fn prefix(self, prefix: &str) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// How long a request waits for its answer at the longest; 50 ms by default.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// What there has been so far.
    pub fn stats(&self) -> RedisStats {
        self.connections.stats()
    }
}

impl RateLimitStore for RedisStore {
    fn charge(&self, charges: &[Charge]) -> StoreFuture {
        let evaluation = Evaluation::new(&self.prefix, charges);
        let (connections, deadline) = (Arc::clone(&self.connections), self.deadline);
        Box::pin(async move { connections.evaluate(&evaluation, deadline).await })
    }
}

/// Without the URL, which may have a password in it.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("prefix", &self.prefix)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// A URL that names no Redis server. It does not show it, as there may be a password in it.
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

const DEADLINE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_that_of_a_server_without_tls_and_is_not_shown() {
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
