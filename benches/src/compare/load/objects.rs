//! Loads without cache hits: misses, revalidations, and concurrent requests for one object.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::http1::Connection;
use super::{Tally, Target, fetch};

/// Sends requests, each for a different object.
pub(super) async fn misses(target: &Target, connections: usize, duration: Duration) -> Result<Tally> {
    // The object 0 was requested by the check before.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let before = origin_requests(target).await?;
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..connections {
        let target = target.clone();
        clients.spawn(async move {
            let mut connection = Connection::new(target.tcp(number).await?);
            let mut requests = 0;
            while started.elapsed() < duration {
                connection.exchange(&target.at(NEXT.fetch_add(1, Ordering::Relaxed)).get()).await?;
                requests += 1;
            }
            Ok::<u64, anyhow::Error>(requests)
        });
    }
    let requests = sum(clients).await?;
    let elapsed = started.elapsed();
    let upstream = origin_requests(target).await?.saturating_sub(before + 1);
    ensure!(upstream >= requests, "only {upstream} of {requests} requests were misses");
    Ok(Tally::new(requests, elapsed))
}

/// Sends requests for stale objects at a fixed rate.
pub(super) async fn revalidations(target: &Target, rate: u64, connections: usize, duration: Duration) -> Result<Tally> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let objects = rate * STALE_AFTER.as_secs();
    let before = origin_requests(target).await?;
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..connections {
        let target = target.clone();
        let each = Duration::from_secs_f64(connections as f64 / rate as f64);
        clients.spawn(async move {
            let mut connection = Connection::new(target.tcp(number).await?);
            let mut due = interval(each);
            // A burst after a delay would request fresh objects.
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut requests = 0;
            while started.elapsed() < duration {
                due.tick().await;
                connection.exchange(&target.at(NEXT.fetch_add(1, Ordering::Relaxed) % objects).get()).await?;
                requests += 1;
            }
            Ok::<u64, anyhow::Error>(requests)
        });
    }
    let requests = sum(clients).await?;
    let elapsed = started.elapsed();
    let upstream = origin_requests(target).await?.saturating_sub(before + 1);
    ensure!(upstream * 100 >= requests * 99, "only {upstream} of {requests} requests reached the origin");
    Ok(Tally::new(requests, elapsed))
}

/// Sends concurrent requests for one uncached object, and repeats this with several objects.
pub(super) async fn cold(target: &Target, clients: usize) -> Result<Tally> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut connections = Vec::with_capacity(clients);
    for number in 0..clients {
        connections.push(Connection::new(target.tcp(number).await?));
    }
    let before = origin_requests(target).await?;
    let started = Instant::now();
    for _ in 0..COLD_OBJECTS {
        let request = target.at(NEXT.fetch_add(1, Ordering::Relaxed)).get();
        for connection in &mut connections {
            connection.get_mut().write_all(&request).await?;
        }
        for connection in &mut connections {
            // The request is already sent.
            connection.exchange(&[]).await?;
        }
    }
    let elapsed = started.elapsed();
    let upstream = origin_requests(target).await?.saturating_sub(before + 1);
    let mut tally = Tally::new(clients as u64 * COLD_OBJECTS, elapsed);
    tally.upstream = Some(upstream as f64 / COLD_OBJECTS as f64);
    Ok(tally)
}

/// The time after which an object is requested again: twice its freshness lifetime.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(2);
const COLD_OBJECTS: u64 = 10;

async fn sum(mut clients: JoinSet<Result<u64>>) -> Result<u64> {
    let mut requests = 0;
    while let Some(one) = clients.join_next().await {
        requests += one??;
    }
    Ok(requests)
}

/// Returns the number of requests that the origin has received, including the request for this number.
async fn origin_requests(target: &Target) -> Result<u64> {
    let origin = Target { address: target.origin, path: "/count".to_owned(), certificate: None, ..target.clone() };
    let response = fetch(&origin, &[]).await?;
    let text = String::from_utf8_lossy(response.body()).into_owned();
    total(&text).with_context(|| format!("no number of requests from the origin: {text}"))
}

/// Returns the last number in the first line that consists of numbers.
fn total(text: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let numbers: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        numbers.last().copied()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_request_count_of_the_origin() {
        let nginx =
            "Active connections: 2 \nserver accepts handled requests\n 7 7 31 \nReading: 0 Writing: 1 Waiting: 1 \n";
        assert_eq!((total(nginx), total("12"), total("none"), total("")), (Some(31), Some(12), None, None));
    }
}
