//! What happens to the backends and to the proxy meanwhile.

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
    let id = Pid::from_raw(id.cast_signed()).context("a process has a number above 0")?;
    Ok(kill_process(id, signal)?)
}

/// One of the two backends, which comes back where it was.
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

    /// Killed in the middle of what it does, away for a while, and started again.
    async fn restart(&mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            signal(process.id(), Signal::KILL)?;
            tokio::task::spawn_blocking(|| drop(process)).await?;
        }
        tokio::time::sleep(AWAY).await;
        self.run().await
    }

    /// There, and saying nothing.
    async fn pause(&mut self) -> Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        signal(process.id(), Signal::STOP)?;
        tokio::time::sleep(AWAY).await;
        signal(process.id(), Signal::CONT)
    }
}

const AWAY: Duration = Duration::from_millis(1500);

/// When backends were away.
#[derive(Debug, Default)]
pub(super) struct Windows(Mutex<Vec<(Instant, Option<Instant>)>>);

impl Windows {
    pub(super) fn open(&self) {
        self.windows().push((Instant::now(), None));
    }

    /// What still is on its way when a backend is back may have been sent to it before.
    fn close(&self) {
        if let Some(last) = self.windows().last_mut() {
            last.1 = Some(Instant::now() + Duration::from_secs(1));
        }
    }

    /// Whether a backend was away at any time from `began` until now.
    pub(super) fn touch(&self, began: Instant) -> bool {
        self.windows().iter().any(|(_, end)| end.is_none_or(|end| end >= began))
    }

    fn windows(&self) -> MutexGuard<'_, Vec<(Instant, Option<Instant>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is done, and when.
pub(super) struct Disturbances {
    windows: Arc<Windows>,
    every: Duration,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub(super) struct Disturbed {
    pub(super) restarts: u32,
    pub(super) pauses: u32,
    pub(super) reloads: u32,
    /// When what happened, for the plot: seconds since the load began, and whether it was a reload.
    pub(super) marks: Vec<(f64, bool)>,
}

impl Disturbances {
    pub(super) fn new(load: Duration) -> Self {
        Self { windows: Arc::default(), every: (load / 40).clamp(Duration::from_secs(4), Duration::from_secs(30)) }
    }

    pub(super) fn windows(&self) -> Arc<Windows> {
        Arc::clone(&self.windows)
    }

    /// Reloads, restarts one, reloads, pauses the other, and so on until `stop` says so.
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
                    self.windows.open();
                    backend.restart().await?;
                    self.windows.close();
                    disturbed.restarts += 1;
                }
                _ => {
                    self.windows.open();
                    backend.pause().await?;
                    self.windows.close();
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
    async fn a_window_reaches_what_began_before_it_ended() {
        let windows = Windows::default();
        let before = Instant::now();
        assert!(!windows.touch(before));
        windows.open();
        assert!(windows.touch(before) && windows.touch(Instant::now()));
        windows.close();
        assert!(windows.touch(before) && windows.touch(Instant::now()));
        assert!(!windows.touch(Instant::now() + Duration::from_secs(2)));
    }
}
