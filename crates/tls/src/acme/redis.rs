//! Shared ACME state in Redis or Valkey: account, certificates, locks, and a channel for challenges.

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
    challenge::{Challenges, KeyAuthorizationDigest},
    peer_challenge::LIFETIME,
    peers::{PeerLock, Peers},
};
use crate::crypto::{digest, provider, random};

/// A Redis client for the ACME state of all machines that use the same Redis and ACME directory.
pub(crate) struct RedisPeers {
    client: Client,
    connection: OnceCell<ConnectionManager>,
    /// The prefix of all Redis keys. Its hash tag `{...}` keeps them on one cluster node, as transactions require.
    prefix: String,
}

impl RedisPeers {
    /// Parses the Redis URL, without connecting. `scope` identifies the ACME directory.
    pub(crate) fn new(url: &str, scope: &str) -> Result<Self, String> {
        let info = url.into_connection_info().map_err(|error| error.to_string())?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            // The Redis client uses the default provider of the process, and panics if two are linked and none is set.
            let _ = rustls::crypto::CryptoProvider::install_default((*provider()).clone());
        }
        let client = Client::open(info).map_err(|error| error.to_string())?;
        Ok(Self { client, connection: OnceCell::new(), prefix: format!("rproxy:{{acme:{scope}}}:") })
    }

    async fn connection(&self) -> io::Result<ConnectionManager> {
        let connect = || async {
            let config = ConnectionManagerConfig::new()
                .set_number_of_retries(1)
                .set_connection_timeout(Some(TIMEOUT))
                .set_response_timeout(Some(TIMEOUT));
            ConnectionManager::new_with_config(self.client.clone(), config).await
        };
        // The connection timeout above applies to a single attempt.
        let connected = timeout(TIMEOUT * 2, self.connection.get_or_try_init(connect)).await;
        let connection = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(redis_error)?;
        Ok(connection.clone())
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn challenge_key(&self, name: &str) -> String {
        self.key(&format!("challenge:{name}"))
    }

    /// Serves the challenges that other machines published before this machine subscribed.
    async fn serve_pending(&self, names: &[String], challenges: &Challenges) -> io::Result<()> {
        let mut connection = self.connection().await?;
        for name in names {
            let value = redis::cmd("HGET")
                .arg(self.challenge_key(name))
                .arg(DIGEST_FIELD)
                .query_async::<Option<Vec<u8>>>(&mut connection)
                .await
                .map_err(redis_error)?;
            if let Some(digest) = value.and_then(|digest| digest.try_into().ok()) {
                serve_challenge(challenges, name, digest);
            }
        }
        Ok(())
    }

    async fn subscribe(&self, names: &[String], challenges: &Challenges) -> io::Result<()> {
        let mut pubsub = timeout(TIMEOUT, self.client.get_async_pubsub())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
            .map_err(redis_error)?;
        pubsub.subscribe(self.key(CHANNEL)).await.map_err(redis_error)?;
        self.serve_pending(names, challenges).await?;
        let mut connection = self.connection().await?;
        let (mut sink, mut messages) = pubsub.split();
        loop {
            let message = match timeout(PING_INTERVAL, messages.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // A ping detects a connection that a firewall has dropped silently.
                Err(_) => {
                    let pong = timeout(TIMEOUT, sink.ping::<redis::Value>()).await;
                    pong.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(redis_error)?;
                    continue;
                }
            };
            let payload = message.get_payload_bytes();
            let Some((digest, name)) = payload.split_first_chunk::<32>() else { continue };
            let Some(name) = names.iter().find(|known| known.as_bytes() == name) else {
                self.acknowledge(&mut connection, &String::from_utf8_lossy(name)).await?;
                continue;
            };
            serve_challenge(challenges, name, *digest);
            self.acknowledge(&mut connection, name).await?;
        }
    }

    /// Records in Redis that this machine has received the challenge. The publisher waits for this.
    async fn acknowledge(&self, connection: &mut ConnectionManager, name: &str) -> io::Result<()> {
        redis::cmd("HINCRBY")
            .arg(self.challenge_key(name))
            .arg(ACKNOWLEDGED_FIELD)
            .arg(1)
            .query_async(connection)
            .await
            .map_err(redis_error)
    }
}

#[async_trait]
impl Peers for RedisPeers {
    async fn read(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        let mut connection = self.connection().await?;
        redis::cmd("GET").arg(self.key(key)).query_async(&mut connection).await.map_err(redis_error)
    }

    async fn write(&self, key: &str, content: &[u8]) -> io::Result<()> {
        let mut connection = self.connection().await?;
        redis::cmd("SET").arg(self.key(key)).arg(content).query_async(&mut connection).await.map_err(redis_error)
    }

    async fn write_new(&self, key: &str, content: &[u8]) -> io::Result<Vec<u8>> {
        let mut connection = self.connection().await?;
        let key = self.key(key);
        let mut transaction = redis::pipe();
        transaction.atomic().cmd("SETNX").arg(&key).arg(content).ignore().cmd("GET").arg(&key);
        let (value,) = transaction.query_async::<(Vec<u8>,)>(&mut connection).await.map_err(redis_error)?;
        Ok(value)
    }

    async fn remove(&self, key: &str) -> io::Result<()> {
        let mut connection = self.connection().await?;
        redis::cmd("DEL").arg(self.key(key)).query_async(&mut connection).await.map_err(redis_error)
    }

    async fn try_lock(&self, key: &str) -> io::Result<Option<Box<dyn PeerLock>>> {
        let mut connection = self.connection().await?;
        let key = self.key(key);
        let holder = digest(&[random().to_be_bytes(), random().to_be_bytes(), random().to_be_bytes()]);
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(&holder).arg("NX").arg("PX").arg(LOCK_TTL.as_millis() as u64);
        let reply: Option<String> = set.query_async(&mut connection).await.map_err(redis_error)?;
        if reply.is_none() {
            return Ok(None);
        }
        let renewal = tokio::spawn({
            let (mut connection, key, holder) = (connection.clone(), key.clone(), holder.clone());
            async move {
                let script = Script::new(RENEW);
                loop {
                    sleep(LOCK_TTL / 3).await;
                    let mut renew = script.key(&key);
                    renew.arg(&holder).arg(LOCK_TTL.as_millis() as u64);
                    if let Err(error) = renew.invoke_async::<()>(&mut connection).await {
                        tracing::debug!(%error, "cannot renew the Redis lock of a certificate order, retrying");
                    }
                }
            }
        });
        Ok(Some(Box::new(RedisLock { connection, key, holder, renewal })))
    }

    async fn publish_challenge(&self, name: &str, digest: KeyAuthorizationDigest) -> io::Result<()> {
        let mut connection = self.connection().await?;
        let key = self.challenge_key(name);
        let message = [&digest[..], name.as_bytes()].concat();
        let mut publish = redis::pipe();
        publish
            .atomic()
            .cmd("DEL")
            .arg(&key)
            .ignore()
            .cmd("HSET")
            .arg(&key)
            .arg(DIGEST_FIELD)
            .arg(&digest[..])
            .ignore()
            .cmd("EXPIRE")
            .arg(&key)
            .arg(LIFETIME.as_secs())
            .ignore()
            .cmd("PUBLISH")
            .arg(self.key(CHANNEL))
            .arg(message);
        let (subscribers,) = publish.query_async::<(u64,)>(&mut connection).await.map_err(redis_error)?;
        let published = Instant::now();
        // A machine that does not acknowledge in time is shutting down, or reads the challenge when it subscribes.
        while published.elapsed() < ACKNOWLEDGE_TIMEOUT {
            let acknowledged: Option<u64> = redis::cmd("HGET")
                .arg(&key)
                .arg(ACKNOWLEDGED_FIELD)
                .query_async(&mut connection)
                .await
                .map_err(redis_error)?;
            if acknowledged.unwrap_or(0) >= subscribers {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        tracing::warn!(
            name,
            machines = subscribers,
            "not all machines have received the ACME challenge, its validation may fail"
        );
        Ok(())
    }

    async fn receive_challenges(&self, names: &[String], challenges: &Arc<Challenges>) -> io::Error {
        match self.subscribe(names, challenges).await {
            Ok(()) => io::ErrorKind::UnexpectedEof.into(),
            Err(error) => error,
        }
    }
}

impl fmt::Debug for RedisPeers {
    // Omits the URL, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisPeers").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// A lock in Redis that expires unless its holder renews it.
struct RedisLock {
    connection: ConnectionManager,
    key: String,
    holder: String,
    renewal: JoinHandle<()>,
}

#[async_trait]
impl PeerLock for RedisLock {
    async fn release(mut self: Box<Self>) {
        self.renewal.abort();
        let release = Script::new(RELEASE);
        let mut release = release.key(&self.key);
        let released = release.arg(&self.holder).invoke_async::<()>(&mut self.connection.clone()).await;
        if let Err(error) = released {
            tracing::debug!(%error, "cannot release the Redis lock of a certificate order, it expires within 30 s");
        }
    }
}

impl Drop for RedisLock {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

fn serve_challenge(challenges: &Challenges, name: &str, digest: KeyAuthorizationDigest) {
    match challenges.serve_for_peer(name, digest) {
        Ok(()) => tracing::info!(name, "serving the ACME challenge of another machine"),
        Err(error) => tracing::warn!(name, error, "cannot serve the ACME challenge of another machine"),
    }
}

fn redis_error(error: RedisError) -> io::Error {
    io::Error::other(format!("Redis: {error}"))
}

const CHANNEL: &str = "challenges";
const DIGEST_FIELD: &str = "proof";
const ACKNOWLEDGED_FIELD: &str = "seen";

/// The time after which the lock of a crashed machine expires.
const LOCK_TTL: Duration = Duration::from_secs(30);
/// The timeout for connecting to Redis, and for each command.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum time that the publisher of a challenge waits for other machines to acknowledge it.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(3);
/// The time without a message after which a subscribed connection is checked with a ping.
const PING_INTERVAL: Duration = Duration::from_secs(30);

// Both scripts do nothing if another machine holds the lock by now.
const RENEW: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) else return 0 end";
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";
