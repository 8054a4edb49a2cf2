//! Requests at a fixed rate, sent when they are due and not when the one before is answered: a proxy that stalls is
//! charged for all that had to wait ("coordinated omission" is leaving them out).

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use hdrhistogram::Histogram;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

use super::http1::{Connection, Socket};
use super::{Tally, Target};

pub(super) async fn run(target: &Target, rate: u64, connections: usize, duration: Duration) -> Result<Tally> {
    // On a thread of its own, with all its connections: nothing is handed from core to core while it is timed.
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
        connection.ask(&target.get()).await?;
        let (queue, due) = unbounded_channel();
        queues.push(queue);
        clients.spawn(client(connection, target.get(), due));
    }

    let total = rate * duration.as_secs();
    let started = Instant::now();
    let ticks = Ticks::every(Duration::from_secs(1) / u32::try_from(rate)?)?;
    let mut sent = 0;
    while sent < total {
        ticks.next().await?;
        // By the clock, not by the ticks, of which some may have been missed.
        let due_by_now = (started.elapsed().as_secs_f64() * rate as f64) as u64;
        for number in sent..due_by_now.min(total) {
            let due = started + Duration::from_secs_f64(number as f64 / rate as f64);
            // The receiver is gone when its connection has failed; that error is found below.
            let _ = queues[number as usize % connections].send(due);
        }
        sent = due_by_now.min(total);
    }
    drop(queues);

    let mut latencies = Histogram::new(3)?;
    while let Some(one) = clients.join_next().await {
        latencies.add(one??)?;
    }
    ensure!(latencies.len() == total, "{} of {total} requests were answered", latencies.len());
    Ok(Tally { requests: total, elapsed: started.elapsed(), latencies: Some(latencies) })
}

async fn client(
    mut connection: Connection<Box<dyn Socket>>,
    request: Vec<u8>,
    mut due: UnboundedReceiver<Instant>,
) -> Result<Histogram<u64>> {
    let mut latencies = Histogram::new(3)?;
    while let Some(due) = due.recv().await {
        connection.ask(&request).await?;
        latencies.record(u64::try_from(due.elapsed().as_nanos())?)?;
    }
    Ok(latencies)
}

/// The kernel's timer: tokio's own knows milliseconds, and that is longer than most answers take.
struct Ticks(AsyncFd<OwnedFd>);

impl Ticks {
    fn every(interval: Duration) -> Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let interval = Timespec::try_from(interval).ok().context("an interval that a timer can hold")?;
        let setting = Itimerspec { it_interval: interval, it_value: interval };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting)?;
        Ok(Self(AsyncFd::new(timer)?))
    }

    async fn next(&self) -> Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?));
            if let Ok(read) = read {
                read?;
                return Ok(());
            }
        }
    }
}
