//! Clients of the soak test, including a trusted proxy and clients that exceed limits, abort or stay idle.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::authority::HOST;
use super::origin::content;
use super::requests::{Connection, Target, TestRequest};
use super::tally::{Failure, Tally};

/// The address of the trusted proxy.
pub(super) const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// The rate limit of each client, in requests per second.
pub(super) const RATE: u32 = 100;
/// The number of requests that a client can send at once.
pub(super) const BURST: u32 = 200;
/// The idle timeout of the proxy.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(8);

/// The activity that a client of the soak test repeats.
#[derive(Clone, Copy, Debug)]
enum Role {
    Http1,
    Http2,
    WebSocket,
    Balancer,
    Greedy,
    Aborting,
    Silent,
}

const ROLES: [(Role, u8); 7] = [
    (Role::Http1, 8),
    (Role::Http2, 3),
    (Role::WebSocket, 6),
    (Role::Balancer, 1),
    (Role::Greedy, 1),
    (Role::Aborting, 3),
    (Role::Silent, 20),
];

/// Starts all clients of the soak test. Each ends within seconds after `stopped` becomes true.
pub(super) fn all(target: &Target, tally: &Arc<Tally>, stopped: &watch::Receiver<bool>) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    let mut last = 10;
    for (role, count) in ROLES {
        for _ in 0..count {
            let from = match role {
                Role::Balancer => BALANCER,
                _ => Ipv4Addr::new(127, 0, 0, last),
            };
            last += 1;
            let client =
                Client { role, from, target: target.clone(), tally: Arc::clone(tally), stopped: stopped.clone() };
            clients.spawn(client.run());
        }
    }
    clients
}

struct Client {
    role: Role,
    from: Ipv4Addr,
    target: Target,
    tally: Arc<Tally>,
    stopped: watch::Receiver<bool>,
}

impl Client {
    async fn run(self) {
        while !self.has_stopped() {
            let began = Instant::now();
            let (kind, done) = match self.role {
                Role::Http1 => ("HTTP/1.1", self.send_one_by_one().await),
                Role::Http2 => ("HTTP/2", self.send_concurrently().await),
                Role::WebSocket => ("WebSocket", self.exchange_messages().await),
                Role::Balancer => ("balancer", self.send_for_others().await),
                Role::Greedy => ("greedy", self.exceed_the_rate().await),
                Role::Aborting => ("aborted", self.abort().await),
                Role::Silent => ("idle", self.stay_idle().await),
            };
            if let Err(wrong) = done {
                self.tally.record(kind, began, Err(wrong));
                sleep(Duration::from_millis(200)).await;
            }
        }
    }

    fn has_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Sends several requests on an HTTP/1.1 connection.
    async fn send_one_by_one(&self) -> Result<(), Failure> {
        let mut connection = self.target.http1(self.from).await?;
        for _ in 0..fastrand::u32(1..300) {
            if self.has_stopped() || !self.one(&mut connection, "HTTP/1.1", TestRequest::random(), &[]).await {
                break;
            }
            sleep(jittered(40)).await;
        }
        Ok(())
    }

    /// Sends several batches of concurrent requests on an HTTP/2 connection.
    async fn send_concurrently(&self) -> Result<(), Failure> {
        let Some(connection) = self.target.http2(self.from).await? else { return self.send_one_by_one().await };
        for _ in 0..fastrand::u32(1..60) {
            let batch = (0..8)
                .filter_map(|_| connection.share())
                .map(|mut stream| async move { self.one(&mut stream, "HTTP/2", TestRequest::random(), &[]).await });
            if self.has_stopped() || join_all(batch).await.contains(&false) {
                break;
            }
            sleep(jittered(200)).await;
        }
        Ok(())
    }

    /// Sends requests of many clients on one connection, as a trusted proxy.
    async fn send_for_others(&self) -> Result<(), Failure> {
        let mut connection = self.target.http1(self.from).await?;
        for _ in 0..500 {
            let [.., a, b] = fastrand::u32(..).to_be_bytes();
            let fields = [("x-forwarded-for", format!("198.18.{a}.{b}"))];
            if self.has_stopped() || !self.one(&mut connection, "balancer", TestRequest::random(), &fields).await {
                break;
            }
            sleep(jittered(40)).await;
        }
        Ok(())
    }

    /// Sends one request, and records the result. Returns whether the connection takes another one.
    async fn one(
        &self,
        connection: &mut Connection,
        kind: &'static str,
        test: TestRequest,
        fields: &[(&str, String)],
    ) -> bool {
        let began = Instant::now();
        let done = connection.send(&self.target, &test, fields).await;
        let done = done.and_then(|is_accepted| match is_accepted {
            true => Ok(()),
            false => Err(Failure::Proxy(anyhow!("{test:?}: 429"))),
        });
        let is_right = done.is_ok();
        self.tally.record(kind, began, done);
        is_right && connection.is_open().await
    }

    /// Sends requests at a rate above the rate limit.
    async fn exceed_the_rate(&self) -> Result<(), Failure> {
        let mut connection = self.target.http1(self.from).await?;
        let (mut accepted, mut rejected) = (0_u32, 0_u32);
        let began = Instant::now();
        for _ in 0..2 * BURST {
            match connection.send(&self.target, &TestRequest::Blocked, &[]).await? {
                true => accepted += 1,
                false => rejected += 1,
            }
            if !connection.is_open().await {
                return Err(Failure::Proxy(anyhow!("connection closed after a rejection")));
            }
        }
        // On a busy machine, these requests may not exceed it.
        let quota = u128::from(BURST) + 1 + began.elapsed().as_millis() * u128::from(RATE) / 1000;
        for _ in 0..accepted {
            self.tally.right("greedy");
        }
        for _ in 0..rejected {
            self.tally.limited("greedy");
        }
        sleep(Duration::from_secs(4)).await;
        match u128::from(accepted) > quota {
            true => Err(Failure::Proxy(anyhow!("{accepted} requests accepted, with a quota of {quota}"))),
            false => Ok(()),
        }
    }

    /// Exchanges messages in a WebSocket tunnel, and ends the tunnel with or without a Close frame.
    async fn exchange_messages(&self) -> Result<(), Failure> {
        let stream = self.target.raw(self.from).await?;
        let config = WebSocketConfig::default().read_buffer_size(4096);
        let url = self.target.url("ws", "/echo");
        let (mut socket, _) = client_async_with_config(url, stream, Some(config)).await.map_err(Failure::upstream)?;
        for _ in 0..fastrand::u32(1..200) {
            if self.has_stopped() {
                break;
            }
            let began = Instant::now();
            let done = echo_message(&mut socket).await;
            let is_right = done.is_ok();
            self.tally.record("WebSocket", began, done);
            if !is_right {
                return Ok(());
            }
            sleep(jittered(60)).await;
        }
        if fastrand::bool() {
            socket.close(None).await.map_err(Failure::upstream)?;
            while let Some(Ok(_)) = socket.next().await {}
        }
        Ok(())
    }

    /// Starts a handshake, a request or a response, and aborts the connection.
    async fn abort(&self) -> Result<(), Failure> {
        sleep(jittered(100)).await;
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        match fastrand::u32(..7) {
            0 => {
                let mut stream = self.target.tcp(self.from).await?;
                let _ = stream.write_all(b"\x16\x03\x01\x02").await;
            }
            1 => {
                let mut stream = self.target.raw(self.from).await?;
                let _ = stream.write_all(&get("/dynamic/1").as_bytes()[..20]).await;
            }
            2 => {
                let mut stream = self.target.raw(self.from).await?;
                let head = format!("POST /sink HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 100000\r\n\r\nand no more");
                let _ = stream.write_all(head.as_bytes()).await;
            }
            3 => {
                let mut stream = self.target.raw(self.from).await?;
                let _ = stream.write_all(get("/large/1").as_bytes()).await;
                let _ = stream.read(&mut [0; 10_000]).await;
            }
            4 => {
                let mut stream = self.target.raw(self.from).await?;
                let _ = stream.write_all(get("/stream/1").as_bytes()).await;
                let _ = stream.read(&mut [0; 1000]).await;
                // Closes with a reset.
                let _ = SockRef::from(stream.socket()).set_linger(Some(Duration::ZERO));
            }
            5 => {
                let Some(mut connection) = self.target.http2(self.from).await? else { return Ok(()) };
                for path in [TestRequest::Slow(1), TestRequest::Stream(2), TestRequest::Large(3)] {
                    let Some(mut stream) = connection.share() else { break };
                    let _ = timeout(Duration::from_millis(5), stream.send(&self.target, &path, &[])).await;
                }
                // The connection still works.
                self.one(&mut connection, "HTTP/2", TestRequest::Dynamic(4), &[]).await;
            }
            _ => {
                // The client leaves while the cache stores the response.
                let mut stream = self.target.raw(self.from).await?;
                let _ = stream.write_all(get(&format!("/static/{}.bin", fastrand::u32(..300))).as_bytes()).await;
            }
        }
        self.tally.right("aborted");
        Ok(())
    }

    /// Sends one request, and waits until the proxy closes the idle connection.
    async fn stay_idle(&self) -> Result<(), Failure> {
        let mut stream = self.target.raw(self.from).await?;
        let head = format!("GET /dynamic/7 HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.map_err(Failure::proxy)?;
        let mut response = Vec::new();
        let end = timeout(IDLE_TIMEOUT * 3, stream.read_to_end(&mut response)).await;
        match end {
            Ok(Ok(_)) if response.starts_with(b"HTTP/1.1 200 ") => self.tally.right("idle"),
            Ok(Ok(_)) if response.starts_with(b"HTTP/1.1 50") => return Err(Failure::Upstream(anyhow!("status 50x"))),
            Ok(Ok(read)) => return Err(Failure::Proxy(anyhow!("closed after {read} bytes"))),
            Ok(Err(error)) => return Err(Failure::proxy(error)),
            Err(_) => return Err(Failure::Proxy(anyhow!("an idle connection is still open"))),
        }
        Ok(())
    }
}

/// Sends a WebSocket message, and waits for its echo.
async fn echo_message<S>(socket: &mut WebSocketStream<S>) -> Result<(), Failure>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let message = Message::binary(content(fastrand::u32(..), fastrand::usize(..5000)).collect::<Vec<_>>());
    socket.send(message.clone()).await.map_err(Failure::upstream)?;
    match timeout(Duration::from_secs(20), socket.next()).await {
        Ok(Some(Ok(echo))) if echo == message => Ok(()),
        // The backend ended, which the proxy reports with a Close.
        Ok(Some(Ok(Message::Close(_))) | Some(Err(_)) | None) => Err(Failure::Upstream(anyhow!("the tunnel ended"))),
        Ok(Some(Ok(_))) => Err(Failure::Proxy(anyhow!("the echo differs from the message"))),
        Err(_) => Err(Failure::Proxy(anyhow!("no echo"))),
    }
}

/// Returns a random duration between half and one and a half times `milliseconds`.
fn jittered(milliseconds: u64) -> Duration {
    Duration::from_micros(fastrand::u64(milliseconds * 500..milliseconds * 1500))
}
