//! Machines that share a Redis or Valkey: keys of one prefix, and a channel for challenges.

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::StreamExt;
use redis::{
    Client, ConnectionAddr, IntoConnectionInfo, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::{
    sync::OnceCell,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    challenge::{Challenges, Proof},
    peers::{PeerLock, Peers},
    relayed::LIFETIME,
};
use crate::{
    config::{provider, random},
    store::digest,
};

/// What the machines with this prefix have in common.
pub(crate) struct RedisPeers {
    client: Client,
    connection: OnceCell<ConnectionManager>,
    /// `{}` keeps all keys on one node of a cluster, where a transaction can reach them.
    prefix: String,
}

impl RedisPeers {
    /// Understands the URL; connects when there is something to ask. `scope` tells one directory from the next.
    pub(crate) fn new(url: &str, scope: &str) -> Result<Self, String> {
        let info = url.into_connection_info().map_err(|error| error.to_string())?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            // The client takes the process's own provider, and panics where two are linked and none was chosen.
            let _ = rustls::crypto::CryptoProvider::install_default((*provider()).clone());
        }
        let client = Client::open(info).map_err(|error| error.to_string())?;
        Ok(Self { client, connection: OnceCell::new(), prefix: format!("rproxy:{{acme:{scope}}}:") })
    }

    async fn connection(&self) -> io::Result<ConnectionManager> {
        let connect = || async {
            let config = ConnectionManagerConfig::new()
                .set_number_of_retries(1)
                .set_connection_timeout(Some(PATIENCE))
                .set_response_timeout(Some(PATIENCE));
            ConnectionManager::new_with_config(self.client.clone(), config).await
        };
        // Its own patience is for one attempt; an address that swallows packets would be waited for longer.
        let connected = timeout(PATIENCE * 2, self.connection.get_or_try_init(connect)).await;
        let connection = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(failed)?;
        Ok(connection.clone())
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn challenge(&self, name: &str) -> String {
        self.key(&format!("challenge:{name}"))
    }

    /// Takes what was told before this machine listened.
    async fn catch_up(&self, names: &[String], challenges: &Challenges) -> io::Result<()> {
        let mut connection = self.connection().await?;
        for name in names {
            let told = redis::cmd("HGET").arg(self.challenge(name)).arg(PROOF).query_async(&mut connection).await;
            let told: Option<Vec<u8>> = told.map_err(failed)?;
            if let Some(proof) = told.and_then(|proof| proof.try_into().ok()) {
                answer(challenges, name, proof);
            }
        }
        Ok(())
    }

    async fn listen_until_it_fails(&self, names: &[String], challenges: &Challenges) -> io::Result<()> {
        let mut messages = timeout(PATIENCE, self.client.get_async_pubsub())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
            .map_err(failed)?;
        messages.subscribe(self.key(CHANNEL)).await.map_err(failed)?;
        self.catch_up(names, challenges).await?;
        let mut connection = self.connection().await?;
        let (mut sink, mut told) = messages.split();
        loop {
            let message = match timeout(KEEP_ALIVE, told.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // A connection that a firewall has forgotten is silent for ever.
                Err(_) => {
                    let pong = timeout(PATIENCE, sink.ping::<redis::Value>()).await;
                    pong.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(failed)?;
                    continue;
                }
            };
            let payload = message.get_payload_bytes();
            let Some((proof, name)) = payload.split_first_chunk::<32>() else { continue };
            let Some(name) = names.iter().find(|known| known.as_bytes() == name) else {
                self.seen(&mut connection, &String::from_utf8_lossy(name)).await?;
                continue;
            };
            answer(challenges, name, *proof);
            self.seen(&mut connection, name).await?;
        }
    }

    /// Whoever has told waits until all have seen it.
    async fn seen(&self, connection: &mut ConnectionManager, name: &str) -> io::Result<()> {
        redis::cmd("HINCRBY").arg(self.challenge(name)).arg(SEEN).arg(1).query_async(connection).await.map_err(failed)
    }
}

#[async_trait]
impl Peers for RedisPeers {
    async fn read(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        let mut connection = self.connection().await?;
        redis::cmd("GET").arg(self.key(key)).query_async(&mut connection).await.map_err(failed)
    }

    async fn write(&self, key: &str, content: &[u8]) -> io::Result<()> {
        let mut connection = self.connection().await?;
        redis::cmd("SET").arg(self.key(key)).arg(content).query_async(&mut connection).await.map_err(failed)
    }

    async fn write_new(&self, key: &str, content: &[u8]) -> io::Result<Vec<u8>> {
        let mut connection = self.connection().await?;
        let key = self.key(key);
        let mut both = redis::pipe();
        both.atomic().cmd("SETNX").arg(&key).arg(content).ignore().cmd("GET").arg(&key);
        let (present,) = both.query_async::<(Vec<u8>,)>(&mut connection).await.map_err(failed)?;
        Ok(present)
    }

    async fn remove(&self, key: &str) -> io::Result<()> {
        let mut connection = self.connection().await?;
        redis::cmd("DEL").arg(self.key(key)).query_async(&mut connection).await.map_err(failed)
    }

    async fn try_lock(&self, key: &str) -> io::Result<Option<Box<dyn PeerLock>>> {
        let mut connection = self.connection().await?;
        let key = self.key(key);
        let holder = digest(&[random().to_be_bytes(), random().to_be_bytes(), random().to_be_bytes()]);
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(&holder).arg("NX").arg("PX").arg(LEASE.as_millis() as u64);
        let taken: Option<String> = set.query_async(&mut connection).await.map_err(failed)?;
        if taken.is_none() {
            return Ok(None);
        }
        let renewal = tokio::spawn({
            let (mut connection, key, holder) = (connection.clone(), key.clone(), holder.clone());
            async move {
                let renew = Script::new(RENEW);
                loop {
                    sleep(LEASE / 3).await;
                    let mut renew = renew.key(&key);
                    let renewed = renew.arg(&holder).arg(LEASE.as_millis() as u64).invoke_async::<()>(&mut connection);
                    if let Err(error) = renewed.await {
                        tracing::debug!(%error, "the lock of an order was not renewed");
                    }
                }
            }
        });
        Ok(Some(Box::new(Lease { connection, key, holder, renewal })))
    }

    async fn tell(&self, name: &str, proof: Proof) -> io::Result<()> {
        let mut connection = self.connection().await?;
        let key = self.challenge(name);
        let message = [&proof[..], name.as_bytes()].concat();
        let mut tell = redis::pipe();
        tell.atomic()
            .cmd("DEL")
            .arg(&key)
            .ignore()
            .cmd("HSET")
            .arg(&key)
            .arg(PROOF)
            .arg(&proof[..])
            .ignore()
            .cmd("EXPIRE")
            .arg(&key)
            .arg(LIFETIME.as_secs())
            .ignore()
            .cmd("PUBLISH")
            .arg(self.key(CHANNEL))
            .arg(message);
        let (listeners,) = tell.query_async::<(u64,)>(&mut connection).await.map_err(failed)?;
        let asked = Instant::now();
        // One that does not say so in time is on its way out, or will catch up.
        while asked.elapsed() < ATTENTION {
            let seen = redis::cmd("HGET").arg(&key).arg(SEEN).query_async(&mut connection).await;
            let seen: Option<u64> = seen.map_err(failed)?;
            if seen.unwrap_or(0) >= listeners {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        tracing::warn!(name, listeners, "not all machines know of the challenge; the directory may reach one of them");
        Ok(())
    }

    async fn listen(&self, names: &[String], challenges: &Arc<Challenges>) -> io::Error {
        match self.listen_until_it_fails(names, challenges).await {
            Ok(()) => io::ErrorKind::UnexpectedEof.into(),
            Err(error) => error,
        }
    }
}

impl fmt::Debug for RedisPeers {
    // The address may have a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisPeers").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// A key that goes away by itself unless its holder keeps it.
struct Lease {
    connection: ConnectionManager,
    key: String,
    holder: String,
    renewal: JoinHandle<()>,
}

#[async_trait]
impl PeerLock for Lease {
    async fn release(mut self: Box<Self>) {
        self.renewal.abort();
        let release = Script::new(RELEASE);
        let mut release = release.key(&self.key);
        let released = release.arg(&self.holder).invoke_async::<()>(&mut self.connection.clone()).await;
        if let Err(error) = released {
            tracing::debug!(%error, "the lock of an order goes away by itself");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

fn answer(challenges: &Challenges, name: &str, proof: Proof) {
    match challenges.answer_for_another(name, proof) {
        Ok(()) => tracing::info!(name, "another machine orders a certificate; its challenge is answered here too"),
        Err(error) => tracing::warn!(name, error, "the challenge of another machine can't be answered"),
    }
}

fn failed(error: RedisError) -> io::Error {
    io::Error::other(format!("Redis: {error}"))
}

const CHANNEL: &str = "challenges";
const PROOF: &str = "proof";
const SEEN: &str = "seen";

/// How long a machine that died keeps the others from ordering.
const LEASE: Duration = Duration::from_secs(30);
/// How long Redis may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the other machines may take to hear of a challenge.
const ATTENTION: Duration = Duration::from_secs(3);
/// How long a connection that only listens may be silent before it is asked whether it still is one.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

// A lock that has gone to somebody else meanwhile is left alone.
const RENEW: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) else return 0 end";
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";
