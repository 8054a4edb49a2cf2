//! Who asks: visitors, over HTTP/1.1 and HTTP/2 and WebSocket; a balancer; and those who take more than they should, who go
//! away in the middle, who say nothing.

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

use super::asking::{Ask, Connection, Target};
use super::authority::HOST;
use super::origin::content;
use super::tally::{Tally, Wrong};

/// Whose word on clients is taken.
pub(super) const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// How long the proxy lets a connection wait.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(8);

/// What one client does, again and again, each time with a pause.
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

/// Starts all of them; each ends by itself some seconds after `stopped` says so.
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
                Role::Http1 => ("HTTP/1.1", self.visit().await),
                Role::Http2 => ("HTTP/2", self.visit_at_once().await),
                Role::WebSocket => ("WebSocket", self.talk().await),
                Role::Balancer => ("balancer", self.balance().await),
                Role::Greedy => ("greedy", self.grab().await),
                Role::Aborting => ("aborted", self.abort().await),
                Role::Silent => ("idle", self.wait().await),
            };
            if let Err(wrong) = done {
                self.tally.judge(kind, began, Err(wrong));
                sleep(Duration::from_millis(200)).await;
            }
        }
    }

    fn has_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// One connection over HTTP/1.1, for some requests.
    async fn visit(&self) -> Result<(), Wrong> {
        let mut connection = self.target.http1(self.from).await?;
        for _ in 0..fastrand::u32(1..300) {
            if self.has_stopped() || !self.one(&mut connection, "HTTP/1.1", Ask::any(), &[]).await {
                break;
            }
            sleep(jittered(40)).await;
        }
        Ok(())
    }

    /// One connection over HTTP/2, for some batches of requests.
    async fn visit_at_once(&self) -> Result<(), Wrong> {
        let Some(connection) = self.target.http2(self.from).await? else { return self.visit().await };
        for _ in 0..fastrand::u32(1..60) {
            let batch = (0..8)
                .filter_map(|_| connection.share())
                .map(|mut stream| async move { self.one(&mut stream, "HTTP/2", Ask::any(), &[]).await });
            if self.has_stopped() || join_all(batch).await.contains(&false) {
                break;
            }
            sleep(jittered(200)).await;
        }
        Ok(())
    }

    /// Another program's connection, with many clients on it.
    async fn balance(&self) -> Result<(), Wrong> {
        let mut connection = self.target.http1(self.from).await?;
        for _ in 0..500 {
            let [.., a, b] = fastrand::u32(..).to_be_bytes();
            let fields = [("x-forwarded-for", format!("198.18.{a}.{b}"))];
            if self.has_stopped() || !self.one(&mut connection, "balancer", Ask::any(), &fields).await {
                break;
            }
            sleep(jittered(40)).await;
        }
        Ok(())
    }

    /// Asks once; whether the connection may be used again.
    async fn one(&self, connection: &mut Connection, kind: &'static str, ask: Ask, fields: &[(&str, String)]) -> bool {
        let began = Instant::now();
        let done = connection.ask(&self.target, &ask, fields).await;
        let done = done.and_then(|is_answered| match is_answered {
            true => Ok(()),
            false => Err(Wrong::Proxy(anyhow!("{ask:?}: 429"))),
        });
        let is_right = done.is_ok();
        self.tally.judge(kind, began, done);
        is_right && connection.is_open().await
    }

    /// More at once than anyone is let have.
    async fn grab(&self) -> Result<(), Wrong> {
        let mut connection = self.target.http1(self.from).await?;
        let (mut answered, mut refused) = (0, 0);
        for _ in 0..400 {
            match connection.ask(&self.target, &Ask::Blocked, &[]).await? {
                true => answered += 1,
                false => refused += 1,
            }
            if !connection.is_open().await {
                return Err(Wrong::Proxy(anyhow!("closed after a refusal")));
            }
        }
        for _ in 0..answered {
            self.tally.right("greedy");
        }
        for _ in 0..refused {
            self.tally.limited("greedy");
        }
        sleep(Duration::from_secs(4)).await;
        // The bucket holds 200, and fills by 100 each second: a client this fast meets its bottom.
        match refused {
            0 if answered >= 400 => Err(Wrong::Proxy(anyhow!("400 requests at once, and none refused"))),
            _ => Ok(()),
        }
    }

    /// A tunnel with some messages, which ends well, or from one moment to the next.
    async fn talk(&self) -> Result<(), Wrong> {
        let stream = self.target.raw(self.from).await?;
        let config = WebSocketConfig::default().read_buffer_size(4096);
        let url = self.target.url("ws", "/echo");
        let (mut socket, _) = client_async_with_config(url, stream, Some(config)).await.map_err(Wrong::upstream)?;
        for _ in 0..fastrand::u32(1..200) {
            if self.has_stopped() {
                break;
            }
            let began = Instant::now();
            let done = said(&mut socket).await;
            let is_right = done.is_ok();
            self.tally.judge("WebSocket", began, done);
            if !is_right {
                return Ok(());
            }
            sleep(jittered(60)).await;
        }
        if fastrand::bool() {
            socket.close(None).await.map_err(Wrong::upstream)?;
            while let Some(Ok(_)) = socket.next().await {}
        }
        Ok(())
    }

    /// Begins something, and is gone.
    async fn abort(&self) -> Result<(), Wrong> {
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
                // With a reset.
                let _ = SockRef::from(stream.socket()).set_linger(Some(Duration::ZERO));
            }
            5 => {
                let Some(mut connection) = self.target.http2(self.from).await? else { return Ok(()) };
                for path in [Ask::Slow(1), Ask::Stream(2), Ask::Large(3)] {
                    let Some(mut stream) = connection.share() else { break };
                    let _ = timeout(Duration::from_millis(5), stream.ask(&self.target, &path, &[])).await;
                }
                // The connection is as good as before.
                self.one(&mut connection, "HTTP/2", Ask::Dynamic(4), &[]).await;
            }
            _ => {
                // A store that was to come of it is not left half done.
                let mut stream = self.target.raw(self.from).await?;
                let _ = stream.write_all(get(&format!("/static/{}.bin", fastrand::u32(..300))).as_bytes()).await;
            }
        }
        self.tally.right("aborted");
        Ok(())
    }

    /// Asks once, and waits until the proxy has had enough of it.
    async fn wait(&self) -> Result<(), Wrong> {
        let mut stream = self.target.raw(self.from).await?;
        let head = format!("GET /dynamic/7 HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.map_err(Wrong::proxy)?;
        let mut answer = Vec::new();
        let end = timeout(IDLE_TIMEOUT * 3, stream.read_to_end(&mut answer)).await;
        match end {
            Ok(Ok(_)) if answer.starts_with(b"HTTP/1.1 200 ") => self.tally.right("idle"),
            Ok(Ok(_)) if answer.starts_with(b"HTTP/1.1 50") => return Err(Wrong::Upstream(anyhow!("a 50x"))),
            Ok(Ok(read)) => return Err(Wrong::Proxy(anyhow!("an end after {read} bytes"))),
            Ok(Err(error)) => return Err(Wrong::proxy(error)),
            Err(_) => return Err(Wrong::Proxy(anyhow!("an idle connection is still open"))),
        }
        Ok(())
    }
}

/// One message there and back.
async fn said<S>(socket: &mut WebSocketStream<S>) -> Result<(), Wrong>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let message = Message::binary(content(fastrand::u32(..), fastrand::usize(..5000)).collect::<Vec<_>>());
    socket.send(message.clone()).await.map_err(Wrong::upstream)?;
    match timeout(Duration::from_secs(20), socket.next()).await {
        Ok(Some(Ok(echo))) if echo == message => Ok(()),
        // As when its backend goes away: the proxy says so in a Close.
        Ok(Some(Ok(Message::Close(_))) | Some(Err(_)) | None) => Err(Wrong::Upstream(anyhow!("the tunnel ended"))),
        Ok(Some(Ok(_))) => Err(Wrong::Proxy(anyhow!("another message came back"))),
        Err(_) => Err(Wrong::Proxy(anyhow!("no message came back"))),
    }
}

/// About so many milliseconds.
fn jittered(milliseconds: u64) -> Duration {
    Duration::from_micros(fastrand::u64(milliseconds * 500..milliseconds * 1500))
}
