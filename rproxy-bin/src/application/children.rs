//! The child processes, and the reaping of ended ones.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, kill_process_group, test_kill_process_group, wait, waitpid,
};
use tokio::sync::oneshot;

use super::exit::ApplicationExit;

/// The running child processes of all applications.
///
/// tokio's child processes are not used: as process 1, rproxy must wait for any process, and would take the exit status of
/// tokio's.
#[derive(Debug)]
pub(super) struct Children {
    running: Mutex<HashMap<Pid, oneshot::Sender<ApplicationExit>>>,
    /// Whether this process is process 1, to which the system assigns orphaned processes.
    is_init: bool,
}

/// A running child process, which is the leader of a process group.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: Pid,
    /// How the process ended.
    pub(super) exit: oneshot::Receiver<ApplicationExit>,
}

impl Children {
    pub(super) fn new() -> Self {
        Self { running: Mutex::default(), is_init: std::process::id() == 1 }
    }

    /// Starts a process.
    pub(super) fn spawn(&self, mut command: Command) -> io::Result<Child> {
        // The lock prevents that the process is reaped before it is known.
        let mut running = self.running();
        let pid = Pid::from_child(&command.spawn()?);
        let (ended, exit) = oneshot::channel();
        running.insert(pid, ended);
        Ok(Child { pid, exit })
    }

    /// Reaps all processes that have ended.
    pub(super) fn reap(&self) {
        let mut running = self.running();
        if self.is_init {
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                if let Some(exit) = ApplicationExit::of(status)
                    && let Some(ended) = running.remove(&pid)
                {
                    let _ = ended.send(exit);
                }
            }
            return;
        }
        let ended = running.keys().filter_map(|pid| {
            let (pid, status) = waitpid(Some(*pid), WaitOptions::NOHANG).ok()??;
            Some((pid, ApplicationExit::of(status)?))
        });
        for (pid, exit) in ended.collect::<Vec<_>>() {
            if let Some(ended) = running.remove(&pid) {
                let _ = ended.send(exit);
            }
        }
    }

    /// Sends a signal to the first process of each application.
    pub(super) fn signal_all(&self, signal: Signal) {
        for pid in self.running().keys() {
            // A process that has just ended needs no signal.
            let _ = kill_process(*pid, signal);
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Pid, oneshot::Sender<ApplicationExit>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a signal to all processes of a group.
pub(super) fn signal_group(leader: Pid, signal: Signal) {
    // A group that has just ended needs no signal.
    let _ = kill_process_group(leader, signal);
}

/// Returns whether a process of the group exists.
pub(super) fn has_group(leader: Pid) -> bool {
    test_kill_process_group(leader).is_ok()
}
