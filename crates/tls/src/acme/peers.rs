//! ACME state that is shared with other machines behind the same address.

use std::{fmt, io, sync::Arc};

use async_trait::async_trait;

use super::challenge::{Challenges, KeyAuthorizationDigest};

/// A key-value store and message channel shared by several machines. Keys look like `a.test/certificate.pem`.
#[async_trait]
pub(crate) trait Peers: fmt::Debug + Send + Sync {
    async fn read(&self, key: &str) -> io::Result<Option<Vec<u8>>>;

    async fn write(&self, key: &str, content: &[u8]) -> io::Result<()>;

    /// Writes a value unless the key exists, and returns the value stored under the key.
    async fn write_new(&self, key: &str, content: &[u8]) -> io::Result<Vec<u8>>;

    async fn remove(&self, key: &str) -> io::Result<()>;

    /// Acquires a lock, or returns `None` while another machine holds it.
    ///
    /// The lock of a machine that crashes expires after half a minute.
    async fn try_lock(&self, key: &str) -> io::Result<Option<Box<dyn PeerLock>>>;

    /// Sends a challenge for `name` to the other machines, and waits until they acknowledge it.
    async fn publish_challenge(&self, name: &str, digest: KeyAuthorizationDigest) -> io::Result<()>;

    /// Serves the challenges of other machines for these names, until the connection fails.
    async fn receive_challenges(&self, names: &[String], challenges: &Arc<Challenges>) -> io::Error;
}

/// A lock in the shared store, held until it is released or expires.
#[async_trait]
pub(crate) trait PeerLock: Send + Sync {
    /// Releases the lock in the shared store immediately. A dropped lock is released only when it expires.
    async fn release(self: Box<Self>);
}
