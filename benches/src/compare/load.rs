//! Load generators: wrk, h2load, and this crate's own for other kinds of load.

mod grpc;
mod h2load;
mod handshake;
mod http1;
mod idle;
mod objects;
mod open_loop;
mod requests;
mod websocket;
mod wrk;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use tokio::process::Command;
use tokio::time::timeout;

pub(crate) use http1::{Target, fetch};
pub(crate) use idle::Idle;
pub(crate) use requests::Requests;

use crate::compare::certificate::{HOST, LOOPBACK};

/// The load on a proxy during one measurement run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// HTTP/1.1 requests, each sent immediately after the previous response on its connection.
    Wrk { connections: usize, requests: Requests },
    /// HTTP/2 requests with several concurrent streams per connection.
    H2load { connections: usize, streams: usize },
    /// Unary gRPC calls with several concurrent streams per connection.
    Grpc { connections: usize, streams: usize },
    /// Requests on new connections, with one request per connection.
    Handshakes { resumed: bool },
    /// WebSocket messages, each sent immediately after the previous echo.
    WebSocket { connections: usize },
    /// Requests at a fixed rate, independent of the responses.
    OpenLoop { rate: u64, connections: usize },
    /// Requests that are all cache misses.
    Misses { connections: usize },
    /// Requests for stale objects at a fixed rate.
    Revalidations { rate: u64, connections: usize },
    /// Concurrent requests for one object that is not cached.
    Cold { clients: usize },
}

/// The time after which a load fails that should have ended.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The result of a load during one measurement run.
#[derive(Debug)]
pub(crate) struct Tally {
    /// The number of requests with a correct response. Any other response is an error.
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// The latencies in nanoseconds, or `None` if not measured.
    pub(crate) latencies: Option<Histogram<u64>>,
    /// The number of requests per object that reached the origin, or `None` if not counted.
    pub(crate) upstream: Option<f64>,
}

impl Tally {
    fn new(requests: u64, elapsed: Duration) -> Self {
        Self { requests, elapsed, latencies: None, upstream: None }
    }
}

impl Load {
    /// Returns the warm-up duration of the load.
    pub(crate) fn warm_up(self) -> Duration {
        match self {
            // Long enough to request each object once.
            Self::Revalidations { .. } => objects::STALE_AFTER + Duration::from_secs(1),
            _ => Duration::from_secs(1),
        }
    }

    /// Generates the load for a duration, and returns the result. Fails on the first incorrect response, since
    /// rejections would look fast.
    pub(crate) async fn run(self, target: &Target, duration: Duration) -> Result<Tally> {
        let tally =
            timeout(duration + TIMEOUT, self.generate(target, duration)).await.context("the load timed out")??;
        ensure!(tally.requests > 0, "no response");
        Ok(tally)
    }

    async fn generate(self, target: &Target, duration: Duration) -> Result<Tally> {
        match self {
            Self::Wrk { connections, requests } => wrk::run(target, connections, requests, duration).await,
            Self::H2load { connections, streams } => h2load::run(target, connections, streams, &[], duration).await,
            Self::Grpc { connections, streams } => grpc::run(target, connections, streams, duration).await,
            Self::Handshakes { resumed } => handshake::run(target, resumed, duration).await,
            Self::WebSocket { connections } => websocket::run(target, connections, duration).await,
            Self::OpenLoop { rate, connections } => open_loop::run(target, rate, connections, duration).await,
            Self::Misses { connections } => objects::misses(target, connections, duration).await,
            Self::Revalidations { rate, connections } => {
                objects::revalidations(target, rate, connections, duration).await
            }
            Self::Cold { clients } => objects::cold(target, clients).await,
        }
    }

    /// Returns a description of the load for the report.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Wrk { connections, requests } => format!("`wrk -t1 -c{connections}`, {}", requests.describe()),
            Self::H2load { connections, streams } => format!("`h2load -t1 -c{connections} -m{streams}`"),
            Self::Grpc { connections, streams } => {
                format!("`h2load -t1 -c{connections} -m{streams}`, a message of 64 bytes in each direction")
            }
            Self::Handshakes { resumed: false } => {
                "16 clients (rustls), a new connection with a full handshake for each GET".to_owned()
            }
            Self::Handshakes { resumed: true } => {
                "16 clients (rustls), a new connection with a resumed session for each GET".to_owned()
            }
            Self::WebSocket { connections } => {
                format!(
                    "{connections} connections, each sends 64 bytes of text as soon as the previous message is back"
                )
            }
            Self::OpenLoop { rate, connections } => format!(
                "{rate} requests per second on {connections} connections, measured from the time at which each request \
                 was due"
            ),
            Self::Misses { connections } => {
                format!("{connections} connections, each requests a new object when it has the previous one")
            }
            Self::Revalidations { rate, connections } => format!(
                "{rate} requests per second on {connections} connections, for objects that are fresh for 1 s and \
                 requested every 2 s; the origin responds with 304"
            ),
            Self::Cold { clients } => format!(
                "{clients} clients request one object at the same time, which the origin serves after 200 ms; ten \
                 objects, one after the other"
            ),
        }
    }
}

impl Target {
    /// Returns the URL for a load generator, which connects to its host and port.
    fn url(&self) -> String {
        format!("{}://{LOOPBACK}:{}{}", self.scheme(), self.address.port(), self.path)
    }

    /// Returns the URL in requests.
    fn public_url(&self) -> String {
        format!("{}://{HOST}{}", self.scheme(), self.path)
    }

    fn scheme(&self) -> &'static str {
        if self.certificate.is_some() { "https" } else { "http" }
    }
}

/// Runs a load generator program, and returns its output.
async fn output_of(mut command: Command) -> Result<String> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.kill_on_drop(true).output().await.with_context(|| format!("starting {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{program} ended with {}: {}", output.status, error.trim());
    Ok(text)
}

/// Returns one of several loopback addresses, because a single address has too few ports.
fn source(number: usize) -> SocketAddr {
    let last = u8::try_from(number % 64).unwrap_or_default();
    SocketAddr::from(([127, 0, 0, 2 + last], 0))
}
