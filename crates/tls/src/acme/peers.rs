//! The other machines behind the same address: what they and this one have in common.

use std::{fmt, io, sync::Arc};

use async_trait::async_trait;

use super::challenge::{Challenges, Proof};

/// A store that several machines share. A key is a path such as `a.test/certificate.pem`.
#[async_trait]
pub(crate) trait Peers: fmt::Debug + Send + Sync {
    async fn read(&self, key: &str) -> io::Result<Option<Vec<u8>>>;

    async fn write(&self, key: &str, content: &[u8]) -> io::Result<()>;

    /// Unless there is something already. Answers with what is there now.
    async fn write_new(&self, key: &str, content: &[u8]) -> io::Result<Vec<u8>>;

    async fn remove(&self, key: &str) -> io::Result<()>;

    /// The lock of this name, or `None` while another machine has it. One that dies has it for half a minute more.
    async fn try_lock(&self, key: &str) -> io::Result<Option<Box<dyn PeerLock>>>;

    /// Tells the others what a challenge for `name` is to prove. Ends when they know.
    async fn tell(&self, name: &str, proof: Proof) -> io::Result<()>;

    /// Answers what the others tell of these names, until the connection ends.
    async fn listen(&self, names: &[String], challenges: &Arc<Challenges>) -> io::Error;
}

/// A lock that is kept for as long as this lives.
#[async_trait]
pub(crate) trait PeerLock: Send + Sync {
    /// Gives it back now.
    async fn release(self: Box<Self>);
}
