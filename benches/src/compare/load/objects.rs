//! Requests for what a cache has not: many objects, one time each; objects that are stale; and one that all want at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::http1::Connection;
use super::{Tally, Target, fetch};

/// Each connection asks for an object that nobody has asked for before.
pub(super) async fn misses(target: &Target, connections: usize, duration: Duration) -> Result<Tally> {
    // The one of this number was looked at before.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let before = asked(target).await?;
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..connections {
        let target = target.clone();
        clients.spawn(async move {
            let mut connection = Connection::new(target.tcp(number).await?);
            let mut requests = 0;
            while started.elapsed() < duration {
                connection.ask(&target.at(NEXT.fetch_add(1, Ordering::Relaxed)).get()).await?;
                requests += 1;
            }
            Ok::<u64, anyhow::Error>(requests)
        });
    }
    let requests = sum(clients).await?;
    let elapsed = started.elapsed();
    let upstream = asked(target).await?.saturating_sub(before + 1);
    ensure!(upstream >= requests, "only {upstream} of {requests} requests were misses");
    Ok(Tally::new(requests, elapsed))
}

/// Each object is asked for again when it is stale, and not before: so many per second, for as many as that takes.
pub(super) async fn revalidations(target: &Target, rate: u64, connections: usize, duration: Duration) -> Result<Tally> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let objects = rate * STALE_AFTER.as_secs();
    let before = asked(target).await?;
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..connections {
        let target = target.clone();
        let each = Duration::from_secs_f64(connections as f64 / rate as f64);
        clients.spawn(async move {
            let mut connection = Connection::new(target.tcp(number).await?);
            let mut due = interval(each);
            // Late is late: a burst would ask for what is fresh still.
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut requests = 0;
            while started.elapsed() < duration {
                due.tick().await;
                connection.ask(&target.at(NEXT.fetch_add(1, Ordering::Relaxed) % objects).get()).await?;
                requests += 1;
            }
            Ok::<u64, anyhow::Error>(requests)
        });
    }
    let requests = sum(clients).await?;
    let elapsed = started.elapsed();
    let upstream = asked(target).await?.saturating_sub(before + 1);
    ensure!(upstream * 100 >= requests * 99, "only {upstream} of {requests} requests asked the origin");
    Ok(Tally::new(requests, elapsed))
}

/// All at once want an object that is nowhere yet, and then the next.
pub(super) async fn cold(target: &Target, clients: usize) -> Result<Tally> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut connections = Vec::with_capacity(clients);
    for number in 0..clients {
        connections.push(Connection::new(target.tcp(number).await?));
    }
    let before = asked(target).await?;
    let started = Instant::now();
    for _ in 0..COLD_OBJECTS {
        let request = target.at(NEXT.fetch_add(1, Ordering::Relaxed)).get();
        for connection in &mut connections {
            connection.get_mut().write_all(&request).await?;
        }
        for connection in &mut connections {
            // Nothing more of it is to be sent.
            connection.ask(&[]).await?;
        }
    }
    let elapsed = started.elapsed();
    let upstream = asked(target).await?.saturating_sub(before + 1);
    let mut tally = Tally::new(clients as u64 * COLD_OBJECTS, elapsed);
    tally.upstream = Some(upstream as f64 / COLD_OBJECTS as f64);
    Ok(tally)
}

/// Twice what the origin says that an object is good for.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(2);
const COLD_OBJECTS: u64 = 10;

async fn sum(mut clients: JoinSet<Result<u64>>) -> Result<u64> {
    let mut requests = 0;
    while let Some(one) = clients.join_next().await {
        requests += one??;
    }
    Ok(requests)
}

/// How many requests the origin has had, this one included.
async fn asked(target: &Target) -> Result<u64> {
    let origin = Target { address: target.origin, path: "/asked".to_owned(), certificate: None, ..target.clone() };
    let answer = fetch(&origin, &[]).await?;
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    total(&text).with_context(|| format!("the origin does not say what it was asked: {text}"))
}

/// The last number of the line that has nothing but numbers in it: `nginx` prints connections before requests.
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
    fn the_origins_count_is_read() {
        let nginx =
            "Active connections: 2 \nserver accepts handled requests\n 7 7 31 \nReading: 0 Writing: 1 Waiting: 1 \n";
        assert_eq!((total(nginx), total("12"), total("none"), total("")), (Some(31), Some(12), None, None));
    }
}
