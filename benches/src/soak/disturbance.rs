//! Disturbances during the load: backend outages and reloads of the proxy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::sync::watch;

use crate::compare::{Process, free_address};

/// Sends a signal to a process.
pub(super) fn signal(id: u32, signal: Signal) -> Result<()> {
    let id = Pid::from_raw(id.cast_signed()).context("a process number above 0")?;
    Ok(kill_process(id, signal)?)
}

/// One of the two backends of the soak test. It keeps its address over restarts.
pub(super) struct Backend {
    address: SocketAddr,
    folder: PathBuf,
    name: &'static str,
    process: Option<Process>,
}

impl Backend {
    pub(super) async fn start(folder: &Path, name: &'static str) -> Result<Self> {
        let mut this = Self { address: free_address()?, folder: folder.to_owned(), name, process: None };
        this.run().await?;
        Ok(this)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    async fn run(&mut self) -> Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["soak-origin", "--listen", &self.address.to_string()]);
        let mut process = Process::spawn(self.name, command, &self.folder)?;
        process.listens_on(self.address).await?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills the backend, and restarts it after the outage.
    async fn restart(&mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            signal(process.id(), Signal::KILL)?;
            tokio::task::spawn_blocking(|| drop(process)).await?;
        }
        tokio::time::sleep(OUTAGE).await;
        self.run().await
    }

    /// Suspends the backend process for the outage, while its sockets stay open.
    async fn pause(&mut self) -> Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        signal(process.id(), Signal::STOP)?;
        tokio::time::sleep(OUTAGE).await;
        signal(process.id(), Signal::CONT)
    }
}

const OUTAGE: Duration = Duration::from_millis(1500);

/// The time ranges of backend outages.
#[derive(Debug, Default)]
pub(super) struct Outages(Mutex<Vec<(Instant, Option<Instant>)>>);

impl Outages {
    pub(super) fn open(&self) {
        self.outages().push((Instant::now(), None));
    }

    /// Ends the outage, with a tolerance for requests that were sent during the outage.
    fn close(&self) {
        if let Some(last) = self.outages().last_mut() {
            last.1 = Some(Instant::now() + Duration::from_secs(1));
        }
    }

    /// Returns whether an outage overlapped the time between `began` and now.
    pub(super) fn overlap(&self, began: Instant) -> bool {
        self.outages().iter().any(|(_, end)| end.is_none_or(|end| end >= began))
    }

    fn outages(&self) -> MutexGuard<'_, Vec<(Instant, Option<Instant>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The schedule of reloads and backend outages.
pub(super) struct Disturbances {
    outages: Arc<Outages>,
    every: Duration,
}

/// The reloads and outages that have taken place.
#[derive(Clone, Debug, Default)]
pub(super) struct Disturbed {
    pub(super) restarts: u32,
    pub(super) pauses: u32,
    pub(super) reloads: u32,
    /// The times of disturbances in seconds since the load began, and whether each was a reload.
    pub(super) marks: Vec<(f64, bool)>,
}

impl Disturbances {
    pub(super) fn new(load: Duration) -> Self {
        Self { outages: Arc::default(), every: (load / 40).clamp(Duration::from_secs(4), Duration::from_secs(30)) }
    }

    pub(super) fn outages(&self) -> Arc<Outages> {
        Arc::clone(&self.outages)
    }

    /// Repeats reloads, backend restarts and backend suspensions until `stop` becomes true.
    pub(super) async fn run(
        self,
        mut backends: [Backend; 2],
        mut reload: impl FnMut(u32) -> Result<()> + Send,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(Disturbed, [Backend; 2])> {
        let (began, mut disturbed) = (Instant::now(), Disturbed::default());
        for turn in 1.. {
            if tokio::time::timeout(self.every, stop.wait_for(|stop| *stop)).await.is_ok() {
                break;
            }
            let backend = &mut backends[turn as usize / 2 % 2];
            disturbed.marks.push((began.elapsed().as_secs_f64(), turn % 2 == 1));
            match turn % 4 {
                1 | 3 => {
                    reload(turn)?;
                    disturbed.reloads += 1;
                }
                2 => {
                    self.outages.open();
                    backend.restart().await?;
                    self.outages.close();
                    disturbed.restarts += 1;
                }
                _ => {
                    self.outages.open();
                    backend.pause().await?;
                    self.outages.close();
                    disturbed.pauses += 1;
                }
            }
        }
        Ok((disturbed, backends))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn outage_overlaps_requests_that_began_before_the_outage_ended() {
        let outages = Outages::default();
        let before = Instant::now();
        assert!(!outages.overlap(before));
        outages.open();
        assert!(outages.overlap(before) && outages.overlap(Instant::now()));
        outages.close();
        assert!(outages.overlap(before) && outages.overlap(Instant::now()));
        assert!(!outages.overlap(Instant::now() + Duration::from_secs(2)));
    }
}
