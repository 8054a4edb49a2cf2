//! The task that starts an application, restarts it after a failure, and stops it.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::children::{Child, Children, has_group, signal_group};
use super::exit::ApplicationExit;
use super::{Application, ApplicationError};
use crate::config::RestartPolicy;

/// Whether and how an application is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    No,
    Gracefully,
    Now,
}

/// The supervisor of one application.
#[derive(Debug)]
pub(super) struct Supervisor {
    application: Application,
    children: Arc<Children>,
    stop: watch::Receiver<Stop>,
    /// Reports the first accepted connection.
    ready: Option<oneshot::Sender<()>>,
}

impl Supervisor {
    pub(super) fn new(application: Application, children: Arc<Children>, stop: watch::Receiver<Stop>) -> Self {
        Self { application, children, stop, ready: None }
    }

    /// Runs the application until it is stopped, or has ended and is not started again.
    pub(super) async fn run(mut self, ready: oneshot::Sender<()>) -> ApplicationError {
        self.ready = Some(ready);
        let mut pause = MIN_PAUSE;
        loop {
            let began = Instant::now();
            let exit = match self.children.spawn(self.application.process()) {
                Ok(child) => self.attend(child, began).await,
                Err(error) => ApplicationExit::NotStarted(error.kind()),
            };
            let command = self.application.command.to_string();
            if self.is_stopping() || !self.restarts_after(exit) {
                return ApplicationError::Ended { command, exit };
            }
            if began.elapsed() >= STABLE_AFTER {
                pause = MIN_PAUSE;
            }
            let program = self.application.program();
            tracing::error!(program, restart_in = ?pause, "the application {exit}, starting it again");
            tokio::select! {
                () = sleep(pause) => {}
                _ = self.stop.changed() => return ApplicationError::Ended { command, exit },
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow() != Stop::No
    }

    /// Returns whether the application is started again.
    ///
    /// An application that failed before it has ever accepted a connection is not: probably its command is wrong.
    fn restarts_after(&self, exit: ApplicationExit) -> bool {
        let has_been_ready = self.ready.is_none();
        match self.application.restart {
            RestartPolicy::OnFailure => !exit.is_success() && has_been_ready,
            RestartPolicy::Always => true,
            RestartPolicy::Never => false,
        }
    }

    /// Waits until a process has ended, and stops it when it is to stop. Ends the rest of its process group.
    async fn attend(&mut self, mut child: Child, began: Instant) -> ApplicationExit {
        let program = self.application.program().to_owned();
        tracing::info!(program, pid = child.pid.as_raw_nonzero().get(), "the application was started");
        let (mut answers, mut is_reported) = (false, false);
        let exit = loop {
            let accepted = async {
                if answers {
                    return pending().await;
                }
                while self.application.backend.try_connect().await.is_err() {
                    sleep(PROBE_INTERVAL).await;
                }
            };
            let is_late = async {
                match answers || is_reported {
                    true => pending().await,
                    false => sleep(SLOW_START.saturating_sub(began.elapsed())).await,
                }
            };
            tokio::select! {
                exit = &mut child.exit => break exit.unwrap_or(UNKNOWN_EXIT),
                () = accepted => {
                    answers = true;
                    tracing::info!(program, after = ?began.elapsed(), "the application accepts connections");
                    if let Some(ready) = self.ready.take() {
                        let _ = ready.send(());
                    }
                }
                () = is_late => {
                    is_reported = true;
                    let (upstream, pid) = (self.application.backend.origin(), child.pid.as_raw_nonzero().get());
                    tracing::warn!(
                        program,
                        pid,
                        "the application runs, but does not accept connections on {upstream}; it must listen on $PORT, the port of this upstream"
                    );
                }
                _ = self.stop.changed() => {
                    let exit = self.stop_gracefully(&mut child).await;
                    tracing::info!(program, "the application {exit}");
                    return exit;
                }
            }
        };
        // Workers of a server that has crashed would keep its port.
        signal_group(child.pid, Signal::TERM);
        if timeout(ORPHAN_TIMEOUT, end_of_group(child.pid)).await.is_err() {
            signal_group(child.pid, Signal::KILL);
        }
        exit
    }

    /// Sends SIGTERM to the process group, and SIGKILL after a time or when the application is to stop now.
    async fn stop_gracefully(&mut self, child: &mut Child) -> ApplicationExit {
        let mut exit = None;
        if *self.stop.borrow() == Stop::Gracefully {
            signal_group(child.pid, Signal::TERM);
            let ended = async {
                exit = Some((&mut child.exit).await.unwrap_or(UNKNOWN_EXIT));
                end_of_group(child.pid).await;
            };
            tokio::select! {
                () = ended => return exit.unwrap_or(UNKNOWN_EXIT),
                // The sender exists as long as the applications.
                _ = self.stop.wait_for(|stop| *stop == Stop::Now) => {}
                () = sleep(self.application.stop_timeout) => {
                    let program = self.application.program();
                    tracing::warn!(program, "the application did not exit within RPROXY_COMMAND_STOP_TIMEOUT, killing it");
                }
            }
        }
        signal_group(child.pid, Signal::KILL);
        match exit {
            Some(exit) => exit,
            None => (&mut child.exit).await.unwrap_or(UNKNOWN_EXIT),
        }
    }
}

/// Waits until no process of the group exists.
async fn end_of_group(leader: Pid) {
    while has_group(leader) {
        sleep(PROBE_INTERVAL).await;
    }
}

/// The exit of a process whose status another part of the program has read.
const UNKNOWN_EXIT: ApplicationExit = ApplicationExit::Signal(9);
/// The pause before an application is started again. It doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// The time after which a failure is not regarded as a repetition of the previous one.
const STABLE_AFTER: Duration = Duration::from_secs(30);
/// The time after which an application that does not accept connections is reported.
const SLOW_START: Duration = Duration::from_secs(5);
/// The interval of attempts to connect to an application, and of checks of its process group.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);
/// The time that the children of a failed application have to exit after SIGTERM.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(1);
