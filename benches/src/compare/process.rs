//! Child processes that are terminated when their handle is dropped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A program and its child processes, in a separate process group.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    group: Pid,
    log: PathBuf,
}

impl Process {
    /// Starts a program in a separate process group. Its output goes to `NAME.log` in `folder`.
    pub(crate) fn spawn(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log)?;
        command.stdin(std::process::Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.process_group(0).kill_on_drop(true).spawn().with_context(|| format!("starting {name}"))?;
        let group =
            child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("the process has already exited")?;
        Ok(Self { name: name.to_owned(), child, group, log })
    }

    pub(crate) fn id(&self) -> u32 {
        self.group.as_raw_pid().cast_unsigned()
    }

    /// Waits until the program accepts connections at an address.
    pub(crate) async fn listens_on(&mut self, address: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} exited with {status}: {}", self.name, self.last_log_lines());
            }
            ensure!(Instant::now() < deadline, "{} does not listen: {}", self.name, self.last_log_lines());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn last_log_lines(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join(" | ")
    }
}

impl Drop for Process {
    /// Sends SIGTERM before SIGKILL, because workers of nginx and Varnish survive a killed parent process.
    fn drop(&mut self) {
        let _ = kill_process_group(self.group, Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(3);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        // Kills the remaining processes. While one exists, the kernel does not reuse the group's number.
        let _ = kill_process_group(self.group, Signal::KILL);
    }
}

/// Returns a loopback address with a currently unused port.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::processor::Usage;

    #[tokio::test]
    async fn dropping_a_process_terminates_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        // The shell exits on SIGTERM, its child ignores it.
        command.args(["-c", "(trap '' TERM; echo ready; while :; do sleep 0.05; done) & wait"]);
        let process = Process::spawn("shell", command, folder.path()).unwrap();
        let log = folder.path().join("shell.log");
        while fs::read_to_string(&log).unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let group = process.group;
        assert!(Usage::of(process.id()).unwrap().processes() >= 2);
        drop(process);
        // A killed process exists until its new parent reaps it.
        while rustix::process::test_kill_process_group(group).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn failed_start_error_contains_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such option >&2; exit 3"]);
        let mut process = Process::spawn("shell", command, folder.path()).unwrap();
        let error = process.listens_on(free_address().unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("no such option") && error.contains('3'), "{error}");
    }
}
