//! A load at a fixed request rate, with latency measured from the scheduled time (no coordinated omission).
//!
//! A stall of the proxy counts for each request that is due during the stall.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use hdrhistogram::Histogram;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::http1::{Connection, Socket};
use super::{Tally, Target};

pub(super) async fn run(target: &Target, rate: u64, connections: usize, duration: Duration) -> Result<Tally> {
    // All connections are on one thread, so that no timed request moves between cores.
    let target = target.clone();
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(drive(&target, rate, connections, duration))
    });
    let joined = tokio::task::spawn_blocking(|| thread.join()).await?;
    joined.map_err(|_| anyhow!("the generator panicked"))?
}

async fn drive(target: &Target, rate: u64, connections: usize, duration: Duration) -> Result<Tally> {
    let connector = target.connector()?;
    let mut clients = JoinSet::new();
    let mut queues = Vec::with_capacity(connections);
    for number in 0..connections {
        let mut connection = Connection::new(target.socket(number, connector.as_ref()).await?);
        connection.exchange(&target.get()).await?;
        let (queue, due) = unbounded_channel();
        queues.push(queue);
        clients.spawn(client(connection, target.get(), due));
    }

    let total = rate * duration.as_secs();
    let started = Instant::now();
    thread::spawn(move || pace(started, rate, total, &queues));
    let mut latencies = Histogram::new(3)?;
    while let Some(one) = clients.join_next().await {
        latencies.add(one??)?;
    }
    ensure!(latencies.len() == total, "{} of {total} requests got a response", latencies.len());
    Ok(Tally { latencies: Some(latencies), ..Tally::new(total, started.elapsed()) })
}

async fn client(
    mut connection: Connection<Box<dyn Socket>>,
    request: Vec<u8>,
    mut due: UnboundedReceiver<Instant>,
) -> Result<Histogram<u64>> {
    let mut latencies = Histogram::new(3)?;
    while let Some(due) = due.recv().await {
        connection.exchange(&request).await?;
        latencies.record(u64::try_from(due.elapsed().as_nanos())?)?;
    }
    Ok(latencies)
}

/// Distributes the scheduled requests over the connections, round robin.
///
/// Sleeps on a thread, since tokio's timers have a resolution of a millisecond, more than most responses take.
fn pace(started: Instant, rate: u64, total: u64, queues: &[UnboundedSender<Instant>]) {
    for (number, queue) in (0..total).zip(queues.iter().cycle()) {
        let due = started + Duration::from_secs_f64(number as f64 / rate as f64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A closed queue means that its connection failed, which ends the round.
        if queue.send(due).is_err() {
            return;
        }
    }
}
