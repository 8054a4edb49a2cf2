//! Resource use of the proxy, read from its metrics: memory, descriptors, tasks and connections.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// The resource use of the proxy at one point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Level {
    pub(super) resident: f64,
    pub(super) descriptors: f64,
    pub(super) tasks: f64,
    pub(super) connections: f64,
    pub(super) tunnels: f64,
    pub(super) in_flight: f64,
    /// The total number of requests that the proxy has counted.
    pub(super) requests: f64,
    pub(super) panics: f64,
    pub(super) processor: f64,
}

/// The seconds since the load began, and the resource use at that time.
pub(super) type Sample = (f64, Level);

pub(super) struct Watch {
    admin: SocketAddr,
}

impl Watch {
    pub(super) fn new(admin: SocketAddr) -> Self {
        Self { admin }
    }

    pub(super) async fn level(&self) -> Result<Level> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(self.admin).await?)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::get("/metrics").header(HOST, "localhost").body(Empty::<Bytes>::new())?;
        let body = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
        drop(sender);
        connection.abort();
        Level::parse(str::from_utf8(&body)?)
    }

    /// Reads the resource use at an interval until `stop` becomes true.
    pub(super) async fn run(self: Arc<Self>, every: Duration, mut stop: watch::Receiver<bool>) -> Vec<Sample> {
        let (began, mut samples) = (Instant::now(), Vec::new());
        while tokio::time::timeout(every, stop.wait_for(|stop| *stop)).await.is_err() {
            match self.level().await {
                Ok(level) => samples.push((began.elapsed().as_secs_f64(), level)),
                Err(error) => eprintln!("metrics: {error:#}"),
            }
        }
        samples
    }

    /// Waits until the resource use has returned to `before`, or until a timeout. Returns the last level.
    pub(super) async fn settled(&self, before: &Level) -> Result<Level> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let level = self.level().await?;
            if level.is_back_to(before) || Instant::now() > deadline {
                return Ok(level);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// The timeout for resources to be freed, longer than the 90 s idle timeout of backend connections.
const TIMEOUT: Duration = Duration::from_secs(150);

impl Level {
    /// Returns whether all resources except memory have returned to the level `before`.
    pub(super) fn is_back_to(&self, before: &Self) -> bool {
        self.descriptors <= before.descriptors
            && self.tasks <= before.tasks
            && self.connections == 0.0
            && self.tunnels == 0.0
            && self.in_flight == 0.0
    }

    fn parse(exposition: &str) -> Result<Self> {
        let mut sums: HashMap<&str, f64> = HashMap::new();
        for line in exposition.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            let name = name.split('{').next().unwrap_or(name);
            *sums.entry(name).or_default() += value.parse::<f64>().with_context(|| line.to_owned())?;
        }
        let level = |name: &str| sums.get(name).copied().with_context(|| format!("no {name} among the metrics"));
        ensure!(!sums.is_empty(), "no metrics");
        Ok(Self {
            resident: level("process_resident_memory_bytes")?,
            descriptors: level("process_open_fds")?,
            tasks: level("rproxy_tasks")?,
            connections: level("rproxy_connections")?,
            tunnels: level("rproxy_tunnels")?,
            in_flight: level("rproxy_requests_in_flight")?,
            requests: sums.get("rproxy_requests_total").copied().unwrap_or_default(),
            panics: level("rproxy_panics_total")?,
            processor: level("process_cpu_seconds_total")?,
        })
    }
}

/// Returns the change of a figure per second, by linear regression.
pub(super) fn slope(samples: &[Sample], figure: fn(&Level) -> f64) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (middle, level) = (mean(&|(at, _)| *at), mean(&|(_, level)| figure(level)));
    let covariance: f64 = samples.iter().map(|(at, level_at)| (at - middle) * (figure(level_at) - level)).sum();
    let variance: f64 = samples.iter().map(|(at, _)| (at - middle).powi(2)).sum();
    if variance > 0.0 { covariance / variance } else { 0.0 }
}

/// Returns the second half of the samples.
pub(super) fn last_half(samples: &[Sample]) -> &[Sample] {
    &samples[samples.len() / 2..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_resource_use_from_the_metrics() {
        let text = "# TYPE rproxy_requests counter\nrproxy_requests_total{method=\"GET\",code=\"200\"} 5\n\
            rproxy_requests_total{method=\"GET\",code=\"404\"} 2\nprocess_resident_memory_bytes 1048576\n\
            process_open_fds 20\nrproxy_tasks 7\nrproxy_connections 3\nrproxy_tunnels 1\nrproxy_requests_in_flight 2\n\
            rproxy_panics_total 0\nprocess_cpu_seconds_total 1.5\n# EOF\n";
        let level = Level::parse(text).unwrap();
        assert_eq!((level.resident, level.requests, level.tasks), (1_048_576.0, 7.0, 7.0));
        assert!(Level::parse("process_open_fds 20\n").unwrap_err().to_string().starts_with("no "));
    }

    #[test]
    fn slope_is_exact_for_a_line_and_zero_for_noise() {
        let sample = |at: u32, resident: f64| (f64::from(at), Level { resident, ..Level::default() });
        let line: Vec<_> = (0..10).map(|at| sample(at, 5.0 + 3.0 * f64::from(at))).collect();
        assert!((slope(&line, |level| level.resident) - 3.0).abs() < 1e-9);
        let noise: Vec<_> = (0..11).map(|at| sample(at, f64::from(at % 2))).collect();
        assert!(slope(&noise, |level| level.resident).abs() < 1e-9);
        assert_eq!(slope(&[], |level| level.resident), 0.0);
        assert_eq!(last_half(&line).len(), 5);
    }
}
