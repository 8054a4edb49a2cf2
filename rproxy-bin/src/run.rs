//! What the binary does: run, be told by signals, end.

use std::io::{self, Write};

use rproxy_server::{HandoverError, ServerError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{AccessLog, Config};
use crate::demo::{Site, banner};
use crate::from_config::{StackError, file_certificates};
use crate::proxy::Proxy;
use crate::service_manager;

/// A proxy that can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A listener can't be bound.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A socket that was passed to the process can't be listened on.
    #[error("can't use a socket of LISTEN_FDS")]
    Inherited(#[source] io::Error),
    /// No process can be succeeded, or succeed this one.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The certificates can't be served.
    #[error(transparent)]
    Tls(#[from] rproxy_tls::Error),
    /// A layer can't be built.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The system does not tell of signals.
    #[error("can't wait for signals")]
    Signals(#[source] io::Error),
    /// The demo's site can't be bound.
    #[error("can't serve the demo site")]
    Demo(#[source] io::Error),
}

impl Config {
    /// Runs the proxy until it is told to end: SIGTERM and SIGINT drain, a second one ends at once,
    /// SIGHUP reads certificates and configuration again.
    ///
    /// # Errors
    ///
    /// What can't be started is an error before anything is served.
    pub async fn run(self) -> Result<(), RunError> {
        let signals = Signals::new().map_err(RunError::Signals)?;
        serve(Proxy::start(self)?, signals).await;
        Ok(())
    }

    /// Builds what can be built without leaving a trace, so that what no setting shows by itself is found before
    /// anything is served: `--check` does it.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Config::run), but for what only the network can say.
    pub fn try_build(&self) -> Result<(), RunError> {
        file_certificates(self)?;
        // The access log would start a thread, and the cache look into its folder.
        let mut silent = self.clone();
        silent.access_log = AccessLog::Off;
        silent.cache_disk = None;
        crate::stack(&silent)?;
        Ok(())
    }
}

/// Until it is told to end, and then until what is open has ended.
async fn serve(proxy: Proxy, mut signals: Signals) {
    service_manager::ready();
    let is_handed_over = loop {
        let event = tokio::select! {
            event = signals.next() => event,
            () = proxy.wait_for_handover() => break true,
        };
        match event {
            Event::Reload => {
                service_manager::reloading();
                proxy.reload();
                service_manager::ready();
            }
            Event::Shutdown => break false,
        }
    };
    match is_handed_over {
        // The successor has told that it serves.
        true => tracing::info!("another process took over"),
        false => service_manager::stopping(),
    }
    let log = proxy.access_log();
    tokio::select! {
        () = proxy.drain(is_handed_over) => tracing::info!("drained"),
        () = signals.shutdown() => tracing::warn!("ended at once by a second signal"),
    }
    if let Some(log) = log {
        log.flush();
    }
}

/// Serves a built-in site behind the full stack, as [`Config::run`] does with a backend, and prints what to try.
///
/// # Errors
///
/// What can't be started is an error before anything is served.
pub async fn demo(mut config: Config) -> Result<(), RunError> {
    let signals = Signals::new().map_err(RunError::Signals)?;
    let site = Site::bind().await.map_err(RunError::Demo)?;
    config.upstream = vec![site.address().into()];
    let site = tokio::spawn(site.serve());
    let proxy = Proxy::start(config)?;
    let banner = banner(&proxy.url(), proxy.local_ca().as_deref());
    // Whoever closed standard output does not want to read it.
    let _ = std::io::stdout().write_all(banner.as_bytes());
    serve(proxy, signals).await;
    site.abort();
    Ok(())
}

/// What the process is told by its system.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

enum Event {
    Reload,
    Shutdown,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.terminate.recv() => Event::Shutdown,
            _ = self.interrupt.recv() => Event::Shutdown,
            _ = self.hangup.recv() => Event::Reload,
        }
    }

    /// Resolves with the next signal to end.
    async fn shutdown(&mut self) {
        while let Event::Reload = self.next().await {}
    }
}
