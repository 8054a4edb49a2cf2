//! Runs the proxy: start, signal handling and graceful shutdown.

use std::io::{self, Write};
use std::time::Duration;

use rproxy_server::{HandoverError, ServerError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use crate::application::{self, ApplicationError, ApplicationEvent, Applications};
use crate::config::{Config, UnmetRequirements};
use crate::demo::{Site, banner};
use crate::layers::StackError;
use crate::logging;
use crate::proxy::Proxy;
use crate::sandbox::SandboxError;
use crate::service_manager;
use crate::startup_advice::{self, SettingError};
use crate::state::ProcessState;

/// An error that prevents the proxy from starting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A listener, directory or file cannot be used. The message names the setting and what to do.
    #[error(transparent)]
    Setting(SettingError),
    /// This machine or user does not meet the requirements of the configuration.
    #[error(transparent)]
    Requirements(#[from] UnmetRequirements),
    /// The server of a listener cannot be started.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A socket passed by the service manager (`LISTEN_FDS`) cannot be used.
    #[error("cannot use a socket from LISTEN_FDS")]
    Inherited(#[source] io::Error),
    /// The handover of listeners to or from another process failed.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// A certificate cannot be loaded.
    #[error(transparent)]
    Tls(#[from] rproxy_tls::Error),
    /// A layer cannot be built.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The process cannot give up its privileges.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The signal handlers cannot be installed.
    #[error("cannot install signal handlers")]
    Signals(#[source] io::Error),
    /// An application that rproxy starts failed.
    #[error(transparent)]
    Application(#[from] ApplicationError),
    /// The listener of the demo site cannot be bound.
    #[error("cannot bind the listener of the demo site")]
    Demo(#[source] io::Error),
}

impl Config {
    /// Runs the proxy until a signal stops it.
    ///
    /// SIGTERM and SIGINT start a graceful shutdown, and a second one ends it at once. SIGHUP reloads certificates
    /// and configuration.
    ///
    /// # Errors
    ///
    /// Returns an error if the proxy cannot start. It serves nothing in this case. After an application that it started has
    /// ended, it drains and returns [`RunError::Application`].
    pub async fn run(self) -> Result<(), RunError> {
        self.run_with(StartSignals::install().map_err(RunError::Signals)?).await
    }

    /// Runs the proxy like [`run`](Config::run), with signal handlers that were installed before the configuration was
    /// loaded.
    ///
    /// # Errors
    ///
    /// Returns an error if the proxy cannot start. It serves nothing in this case.
    pub async fn run_with(self, signals: StartSignals) -> Result<(), RunError> {
        let signals = Signals::new(signals).map_err(RunError::Signals)?;
        let proxy = Proxy::start(self)?;
        logging::write_in_background();
        let applications = Applications::start(proxy.applications())?;
        serve(proxy, signals, applications).await
    }

    /// Builds the layers and loads the certificate files without side effects, to check the configuration.
    ///
    /// This finds errors that no setting shows by itself.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`run`](Config::run), except for those that only the network shows.
    pub fn try_build(&self) -> Result<(), RunError> {
        self.tls.file_certificates().map_err(|error| startup_advice::certificates(&self.tls.cache_dir, error))?;
        ProcessState::without_files().stack(self)?;
        application::declared(self)?;
        Ok(())
    }
}

/// Serves requests until a shutdown signal, a handover or the end of an application, then drains the listeners and stops
/// the applications.
async fn serve(proxy: Proxy, mut signals: Signals, mut applications: Applications) -> Result<(), RunError> {
    let mut ended = None;
    let is_handed_over = loop {
        let event = tokio::select! {
            application = applications.next() => match application {
                ApplicationEvent::Ready => {
                    proxy.set_applications_ready();
                    service_manager::ready();
                    continue;
                }
                ApplicationEvent::Ended(error) => {
                    ended = Some(error);
                    break false;
                }
            },
            event = signals.next() => event,
            () = proxy.wait_for_handover() => break true,
        };
        match event {
            Event::Reload => {
                service_manager::reloading();
                proxy.reload().await;
                service_manager::ready();
            }
            Event::Shutdown => break false,
        }
    };
    if let Some(application) = &ended {
        tracing::error!("{application}, stopping");
    }
    match is_handed_over {
        // The new process has already reported that it is ready.
        true => tracing::info!("a new process received the listeners, draining the connections of this process"),
        false => service_manager::stopping(),
    }
    let log = proxy.access_log();
    let is_drained = tokio::select! {
        () = proxy.drain(is_handed_over) => {
            tracing::info!("drained");
            true
        }
        () = signals.shutdown() => {
            tracing::warn!("second signal received, closing all connections");
            false
        }
        // Requests that wait for the application would wait for the whole drain timeout.
        () = sleep(DRAIN_WITHOUT_APPLICATION), if ended.is_some() => {
            tracing::warn!("closing the connections of requests that wait for the application");
            true
        }
    };
    // Only now, because the requests in flight needed them.
    let is_stopped = is_drained
        && tokio::select! {
            () = applications.stop() => true,
            () = signals.shutdown() => false,
        };
    if !is_stopped {
        applications.kill().await;
    }
    if let Some(log) = log {
        log.flush();
    }
    match ended {
        Some(ended) => Err(ended.into()),
        None => Ok(()),
    }
}

/// The maximum time of draining after an application has ended.
const DRAIN_WITHOUT_APPLICATION: Duration = Duration::from_secs(5);

/// Runs the proxy in front of a built-in demo site, and prints commands to try.
///
/// # Errors
///
/// Returns an error if the proxy cannot start. It serves nothing in this case.
pub async fn demo(mut config: Config, signals: StartSignals) -> Result<(), RunError> {
    let signals = Signals::new(signals).map_err(RunError::Signals)?;
    let site = Site::bind().await.map_err(RunError::Demo)?;
    config.upstream.backends = vec![site.address().into()];
    let proxy = Proxy::start(config)?;
    let site = tokio::spawn(site.serve(proxy.demo_state()));
    let banner = banner(&proxy.url(), proxy.local_ca().as_deref());
    // Without a reader of standard output, the banner is not needed.
    let _ = std::io::stdout().write_all(banner.as_bytes());
    let ended = serve(proxy, signals, Applications::start(Vec::new())?).await;
    site.abort();
    ended
}

/// The handlers of the signals that must not end a starting process: SIGHUP, SIGUSR1 and SIGUSR2.
///
/// A SIGHUP that arrives during the start leads to a reload after it.
///
/// # Examples
///
/// ```no_run
/// use rproxy::{Config, StartSignals};
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let signals = StartSignals::install()?;
///     Ok(Config::from_env()?.run_with(signals).await?)
/// }
/// ```
#[derive(Debug)]
pub struct StartSignals {
    hangup: Signal,
    /// SIGUSR1 and SIGUSR2, which are ignored because their default action would end the process. Log rotation tools
    /// and other servers' scripts send them.
    ignored: [Signal; 2],
}

impl StartSignals {
    /// Installs the handlers. Call this in the context of the tokio runtime that will run the proxy.
    ///
    /// # Errors
    ///
    /// Returns an error if a handler cannot be installed.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            ignored: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }
}

/// The Unix signals that the process handles.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    start: StartSignals,
}

enum Event {
    Reload,
    Shutdown,
}

impl Signals {
    fn new(start: StartSignals) -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, start })
    }

    async fn next(&mut self) -> Event {
        let StartSignals { hangup, ignored: [usr1, usr2] } = &mut self.start;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Event::Shutdown,
                _ = self.interrupt.recv() => return Event::Shutdown,
                _ = hangup.recv() => return Event::Reload,
                // The logs go to standard output and standard error, so there is no file to reopen.
                _ = usr1.recv() => {}
                _ = usr2.recv() => {}
            }
        }
    }

    /// Waits for the next shutdown signal.
    async fn shutdown(&mut self) {
        while let Event::Reload = self.next().await {}
    }
}
