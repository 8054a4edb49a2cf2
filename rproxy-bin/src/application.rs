//! The applications that rproxy starts: `rproxy -- COMMAND`, or the setting `command` of a site.
//!
//! Listeners are bound before an application starts, and requests wait until it accepts connections (`upstream_hold`).
//! An application that fails is started again after a pause. While rproxy drains, it continues to run. After that, it gets
//! SIGTERM.
//!
//! Each application is the leader of a process group, so that a signal of the terminal does not end it before rproxy has
//! drained, and so that its own children end with it. As process 1 of a container, rproxy also reaps orphaned processes.

mod children;
mod exit;
mod supervisor;

use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rproxy_upstream::Backend;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use self::children::Children;
pub use self::exit::ApplicationExit;
use self::supervisor::{Stop, Supervisor};
use crate::config::{ApplicationCommand, Config, RestartPolicy};

/// An error of an application that rproxy starts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplicationError {
    /// The upstream is not a single backend on this machine.
    #[error(
        "the application `{0}` requires an RPROXY_UPSTREAM on this machine: one backend such as 127.0.0.1:3000 or unix:/run/app.sock"
    )]
    Upstream(String),
    /// Two applications have the same upstream.
    #[error(
        "the applications `{first}` and `{second}` cannot both listen on {upstream}: set RPROXY_UPSTREAM of one to another port"
    )]
    SharedUpstream {
        /// The command of one application.
        first: String,
        /// The command of the other application.
        second: String,
        /// The upstream of both.
        upstream: String,
    },
    /// A reload changes the upstream of a running application.
    #[error(
        "the application `{command}` runs with the upstream {running}, and RPROXY_UPSTREAM is {configured} now: restart rproxy to apply this"
    )]
    Moved {
        /// The command of the application.
        command: String,
        /// The upstream with which the application was started.
        running: String,
        /// The upstream in the new configuration.
        configured: String,
    },
    /// Another process listens on the port of the application.
    #[error(
        "the application `{command}` cannot listen on {address}: another process does; stop it, or set RPROXY_UPSTREAM to another port"
    )]
    PortInUse {
        /// The command of the application.
        command: String,
        /// The address of the upstream.
        address: SocketAddr,
    },
    /// The handlers of the signals for applications cannot be installed.
    #[error("cannot install the signal handlers for applications")]
    Signals(#[source] io::Error),
    /// An application ended, and is not started again.
    #[error("the application `{command}` {exit}")]
    Ended {
        /// The command of the application.
        command: String,
        /// How it ended.
        exit: ApplicationExit,
    },
    /// The task that starts the application again ended unexpectedly.
    #[error("the supervision of an application failed")]
    Supervisor(#[source] tokio::task::JoinError),
}

/// An application that a site declares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Application {
    command: ApplicationCommand,
    backend: Backend,
    address: Address,
    restart: RestartPolicy,
    stop_timeout: Duration,
}

/// The address on which an application listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Address {
    Tcp(SocketAddr),
    Unix,
}

/// Returns the applications of all sites that declare a `command`.
///
/// Sites and routes that inherit a command use the same application.
pub(crate) fn declared(config: &Config) -> Result<Vec<Application>, ApplicationError> {
    let sites = config.sites.iter().map(|site| &site.config);
    let own = sites.filter(|site| site.value_source("command") != config.value_source("command"));
    let applications: Vec<_> =
        std::iter::once(config).chain(own).filter_map(Application::of).collect::<Result<_, _>>()?;
    for (index, application) in applications.iter().enumerate() {
        if let Some(other) = applications[..index].iter().find(|other| other.shares_address(application)) {
            return Err(ApplicationError::SharedUpstream {
                first: other.command.to_string(),
                second: application.command.to_string(),
                upstream: application.backend.origin().to_owned(),
            });
        }
    }
    Ok(applications)
}

/// Returns the applications that a new configuration declares.
///
/// # Errors
///
/// Returns an error if it changes the upstream of a running application, which would get no more requests.
pub(crate) fn redeclared(config: &Config, running: &[Application]) -> Result<Vec<Application>, ApplicationError> {
    let declared = declared(config)?;
    for running in running {
        let same_command = || declared.iter().filter(|application| application.command == running.command);
        if let Some(moved) = same_command().next()
            && !same_command().any(|application| application.shares_address(running))
        {
            return Err(ApplicationError::Moved {
                command: running.command.to_string(),
                running: running.backend.origin().to_owned(),
                configured: moved.backend.origin().to_owned(),
            });
        }
    }
    Ok(declared)
}

impl Application {
    fn of(config: &Config) -> Option<Result<Self, ApplicationError>> {
        let settings = &config.application;
        let command = settings.command.clone()?;
        let backends = config.upstream.backends.as_slice();
        let [backend] = backends else { return Some(Err(ApplicationError::Upstream(command.to_string()))) };
        let Some(address) = Address::of(backend) else {
            return Some(Err(ApplicationError::Upstream(command.to_string())));
        };
        let (restart, stop_timeout) = (settings.restart, settings.stop_timeout);
        Some(Ok(Self { command, backend: backend.clone(), address, restart, stop_timeout }))
    }

    /// Whether both applications listen on the same address.
    fn shares_address(&self, other: &Self) -> bool {
        match (self.address, other.address) {
            (Address::Tcp(own), Address::Tcp(other)) => own == other,
            _ => self.backend.origin() == other.backend.origin(),
        }
    }

    /// Returns the name or path of the program, for log messages.
    fn program(&self) -> &str {
        self.command.program()
    }

    /// Returns an error if another process listens on the port of the application.
    fn check_port(&self) -> Result<(), ApplicationError> {
        let Address::Tcp(address) = self.address else { return Ok(()) };
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(ApplicationError::PortInUse { command: self.command.to_string(), address })
            }
            // The application reports all other errors, such as a port that requires a privilege.
            _ => Ok(()),
        }
    }

    /// Returns the command that starts the application.
    fn process(&self) -> Command {
        let mut process = Command::new(self.command.program());
        process.args(self.command.arguments()).stdin(Stdio::null());
        // The settings of rproxy can contain secrets, and its sockets and notifications are not for the application.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("RPROXY_") || OWN_VARIABLES.contains(&&*text) {
                process.env_remove(&name);
            }
        }
        match self.address {
            Address::Tcp(address) => process.env("PORT", address.port().to_string()),
            // That of rproxy itself is not for the application.
            Address::Unix => process.env_remove("PORT"),
        };
        process.process_group(0);
        process
    }
}

/// The variables of sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3).
const OWN_VARIABLES: [&str; 6] =
    ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

impl Address {
    /// Returns the address of a backend on this machine.
    fn of(backend: &Backend) -> Option<Self> {
        let origin = backend.origin();
        if origin.starts_with("unix:") {
            return Some(Self::Unix);
        }
        let (_, authority) = origin.split_once("://")?;
        let address = match authority.strip_prefix("localhost:") {
            Some(port) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?),
            None => authority.parse().ok()?,
        };
        address.ip().is_loopback().then_some(Self::Tcp(address))
    }
}

/// The running applications.
#[derive(Debug)]
pub(crate) struct Applications {
    supervisors: JoinSet<ApplicationError>,
    /// The applications that have not accepted a connection yet.
    starting: Vec<oneshot::Receiver<()>>,
    is_ready: bool,
    stop: watch::Sender<Stop>,
    /// The tasks that forward signals and reap processes.
    helpers: JoinSet<()>,
}

impl Applications {
    /// Starts applications. Their ports must be free.
    pub(crate) fn start(declared: Vec<Application>) -> Result<Self, ApplicationError> {
        let (stop, _) = watch::channel(Stop::No);
        let mut running =
            Self { supervisors: JoinSet::new(), starting: Vec::new(), is_ready: false, stop, helpers: JoinSet::new() };
        if declared.is_empty() {
            return Ok(running);
        }
        declared.iter().try_for_each(Application::check_port)?;
        let children = Arc::new(Children::new());
        let mut ended = signal(SignalKind::child()).map_err(ApplicationError::Signals)?;
        let reaper = Arc::clone(&children);
        running.helpers.spawn(async move {
            while ended.recv().await.is_some() {
                reaper.reap();
            }
        });
        for forwarded in FORWARDED_SIGNALS {
            let kind = SignalKind::from_raw(forwarded.as_raw());
            let mut received = signal(kind).map_err(ApplicationError::Signals)?;
            let children = Arc::clone(&children);
            running.helpers.spawn(async move {
                while received.recv().await.is_some() {
                    children.signal_all(forwarded);
                }
            });
        }
        for application in declared {
            let (ready, starting) = oneshot::channel();
            running.starting.push(starting);
            let supervisor = Supervisor::new(application, Arc::clone(&children), running.stop.subscribe());
            running.supervisors.spawn(supervisor.run(ready));
        }
        Ok(running)
    }

    /// Waits for the next event. Cancel safe.
    pub(crate) async fn next(&mut self) -> ApplicationEvent {
        let starting = &mut self.starting;
        let ready = async {
            while let Some(application) = starting.last_mut() {
                // An application that ends before it is ready is an event of its own.
                let _ = application.await;
                starting.pop();
            }
        };
        tokio::select! {
            biased;
            Some(ended) = self.supervisors.join_next() => {
                ApplicationEvent::Ended(ended.unwrap_or_else(ApplicationError::Supervisor))
            }
            () = ready, if !self.is_ready => {
                self.is_ready = true;
                ApplicationEvent::Ready
            }
            else => pending().await,
        }
    }

    /// Stops all applications, and waits until they have ended.
    pub(crate) async fn stop(&mut self) {
        self.stop.send_replace(Stop::Gracefully);
        while self.supervisors.join_next().await.is_some() {}
    }

    /// Kills all applications, and waits until they have ended.
    pub(crate) async fn kill(&mut self) {
        self.stop.send_replace(Stop::Now);
        while self.supervisors.join_next().await.is_some() {}
    }
}

/// An event of the applications.
#[derive(Debug)]
pub(crate) enum ApplicationEvent {
    /// All applications have accepted a connection. Happens once.
    Ready,
    /// An application has ended and is not started again.
    Ended(ApplicationError),
}

/// The signals that applications get. SIGTERM and SIGINT stop rproxy first, and SIGHUP reloads it.
const FORWARDED_SIGNALS: [Signal; 6] =
    [Signal::USR1, Signal::USR2, Signal::QUIT, Signal::WINCH, Signal::TTIN, Signal::TTOU];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn application_listens_on_one_backend_of_this_machine() {
        for (upstream, port) in [
            ("3000", Some(Some(3000))),
            ("localhost:3001", Some(Some(3001))),
            ("h2c://[::1]:3002", Some(Some(3002))),
            ("unix:/run/app.sock", Some(None)),
            ("192.0.2.1:3000", None),
            ("app:3000", None),
            ("3000, 3001", None),
        ] {
            let sources = crate::config::Sources::new().set("command", "node server.js").set("upstream", upstream);
            let declared = declared(&sources.load().unwrap());
            let found = declared.ok().map(|applications| match applications.as_slice() {
                [Application { address: Address::Tcp(address), .. }] => Some(address.port()),
                [Application { address: Address::Unix, .. }] => None,
                other => panic!("{other:?}"),
            });
            assert_eq!(found, port, "{upstream}");
        }
    }

    #[test]
    fn rejects_two_applications_with_the_same_upstream() {
        let site = |host: &str, upstream: &str| {
            format!("[[site]]\nhosts = [\"{host}\"]\ncommand = \"node {host}.js\"\n{upstream}\n")
        };
        let declared = |first: &str, second: &str| {
            let text = site("a.example", first) + &site("b.example", second);
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("rproxy.toml");
            std::fs::write(&file, text).unwrap();
            declared(&Config::from_file(file).unwrap()).map(|found| found.len())
        };
        // Both inherit the default upstream.
        let error = declared("", "").unwrap_err();
        assert!(matches!(error, ApplicationError::SharedUpstream { .. }), "{error}");
        assert!(declared("upstream = \"localhost:3001\"", "upstream = \"127.0.0.1:3001\"").is_err());
        assert!(declared("upstream = \"unix:/run/a.sock\"", "upstream = \"unix:/run/a.sock\"").is_err());
        assert_eq!(declared("upstream = \"127.0.0.1:3001\"", "upstream = \"127.0.0.1:3002\"").unwrap(), 2);
    }

    #[test]
    fn rejects_a_new_upstream_of_a_running_application() {
        let config = |command: &str, upstream: &str| {
            crate::config::Sources::new().set("command", command).set("upstream", upstream).load().unwrap()
        };
        let running = declared(&config("node a.js", "3000")).unwrap();
        let error = redeclared(&config("node a.js", "3001"), &running).unwrap_err();
        assert!(matches!(error, ApplicationError::Moved { .. }), "{error}");
        // The same address, and another application, which needs a restart to run.
        assert_eq!(redeclared(&config("node a.js", "localhost:3000"), &running).unwrap().len(), 1);
        assert_eq!(redeclared(&config("node b.js", "3001"), &running).unwrap().len(), 1);
    }

    #[test]
    fn rejects_a_port_that_is_in_use() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let sources = crate::config::Sources::new().set("command", "true").set("upstream", address.to_string());
        let declared = declared(&sources.load().unwrap()).unwrap();
        let error = declared[0].check_port().unwrap_err();
        assert!(matches!(error, ApplicationError::PortInUse { address: used, .. } if used == address));
        drop(taken);
        declared[0].check_port().unwrap();
    }
}
