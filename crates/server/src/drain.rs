//! The handle of a running server, to count open connections and to shut down gracefully.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::runtime::RuntimeMetrics;
use tokio::sync::{Notify, watch};

use crate::connection_counts::{Client, ConnectionCounts, TooManyConnections};
use crate::connection_settings::ConnectionSettings;
use crate::listen::set_send_timeout;

/// A handle to monitor a running server and to shut it down gracefully.
///
/// Clones are cheap and refer to the same server.
///
/// # Examples
///
/// ```
/// # use std::convert::Infallible;
/// # use http::Response;
/// # use http_body_util::Empty;
/// # use rproxy_server::Server;
/// # use tower::service_fn;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new())));
/// let server = Server::bind("127.0.0.1:0".parse()?).workers(1).start(move |_worker| service)?;
/// let handle = server.handle();
/// assert_eq!(handle.connections(), 0);
/// handle.drain();
/// server.wait().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    state: Arc<HandleState>,
}

#[derive(Debug)]
struct HandleState {
    draining: watch::Sender<bool>,
    /// The number of open connections plus unused permits.
    open: AtomicUsize,
    /// The number of permits to accept a connection that are not used yet.
    unused_permits: AtomicUsize,
    /// The maximum number of open connections.
    limit: AtomicUsize,
    settings: watch::Sender<ConnectionSettings>,
    counts: ConnectionCounts,
    /// Whether a worker waits for a notification of `connection_closed`.
    has_waiters: AtomicBool,
    connection_closed: Notify,
    /// The listening sockets, which are closed when draining begins.
    sockets: Mutex<Vec<OwnedFd>>,
    /// Whether another process can have the listening sockets.
    are_shared: AtomicBool,
    /// The number of listening sockets that workers accept connections from.
    listening: watch::Sender<usize>,
    /// The tokio metrics of each worker's runtime.
    runtimes: Mutex<Vec<RuntimeMetrics>>,
}

impl Handle {
    pub(crate) fn new(settings: ConnectionSettings) -> Self {
        Self {
            state: Arc::new(HandleState {
                draining: watch::Sender::new(false),
                open: AtomicUsize::new(0),
                unused_permits: AtomicUsize::new(0),
                limit: AtomicUsize::new(settings.limits.connections),
                settings: watch::Sender::new(settings),
                counts: ConnectionCounts::default(),
                has_waiters: AtomicBool::new(false),
                connection_closed: Notify::new(),
                sockets: Mutex::default(),
                are_shared: AtomicBool::new(false),
                listening: watch::Sender::new(0),
                runtimes: Mutex::default(),
            }),
        }
    }

    /// Changes the settings of new connections.
    pub(crate) fn set_settings(&self, settings: ConnectionSettings) {
        for socket in self.sockets().iter() {
            // Accepted sockets inherit the option. It has no meaning for Unix sockets.
            let _ = set_send_timeout(SockRef::from(socket), settings.limits.send_timeout);
        }
        self.state.limit.store(settings.limits.connections, Ordering::Relaxed);
        self.state.settings.send_replace(settings);
        // Wakes the workers that wait for a permit.
        self.state.connection_closed.notify_waiters();
    }

    pub(crate) fn settings(&self) -> watch::Receiver<ConnectionSettings> {
        self.state.settings.subscribe()
    }

    /// Sets the listening sockets that [`listeners`](Self::listeners) returns.
    pub(crate) fn set_listeners(&self, sockets: Vec<OwnedFd>) {
        *self.sockets() = sockets;
    }

    /// Records that another process can have the listening sockets.
    pub(crate) fn set_listeners_shared(&self) {
        self.state.are_shared.store(true, Ordering::Relaxed);
    }

    /// Returns whether another process can have the listening sockets, because they were inherited or handed over.
    pub(crate) fn are_listeners_shared(&self) -> bool {
        self.state.are_shared.load(Ordering::Relaxed)
    }

    /// Returns duplicates of the listening sockets, for the [handover](crate::HandoverListener) to a new process.
    ///
    /// Returns no sockets once draining has begun. As long as a duplicate is open, clients can connect, but wait until a
    /// process accepts their connections.
    ///
    /// # Errors
    ///
    /// Returns an error if the process has reached its limit of open file descriptors.
    pub fn listeners(&self) -> io::Result<Vec<OwnedFd>> {
        self.set_listeners_shared();
        self.sockets().iter().map(OwnedFd::try_clone).collect()
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.state.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a graceful shutdown: stops accepting, closes idle connections, and finishes in-flight requests.
    pub fn drain(&self) {
        self.sockets().clear();
        self.state.draining.send_replace(true);
        // Wakes the workers that wait for a permit.
        self.state.connection_closed.notify_waiters();
    }

    /// Returns whether draining has begun.
    pub fn is_draining(&self) -> bool {
        *self.state.draining.borrow()
    }

    /// Returns the number of open client connections.
    pub fn connections(&self) -> usize {
        self.state.open.load(Ordering::Relaxed).saturating_sub(self.state.unused_permits.load(Ordering::Relaxed))
    }

    /// Returns the number of tokio tasks on all workers.
    ///
    /// These are the tasks of connections, HTTP/2 streams and tunnels, and those that the service has spawned. A number
    /// that keeps growing at a constant load indicates a leak.
    pub fn tasks(&self) -> usize {
        self.runtimes().iter().map(RuntimeMetrics::num_alive_tasks).sum()
    }

    /// Adds the metrics of a worker's runtime, for [`tasks`](Self::tasks).
    pub(crate) fn add_runtime(&self, runtime: RuntimeMetrics) {
        self.runtimes().push(runtime);
    }

    fn runtimes(&self) -> MutexGuard<'_, Vec<RuntimeMetrics>> {
        self.state.runtimes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until draining begins.
    pub async fn drain_started(&self) {
        let mut draining = self.state.draining.subscribe();
        // Never fails, because `self` holds the sender.
        let _ = draining.wait_for(|draining| *draining).await;
    }

    /// Waits until draining has closed all listening sockets, so that their addresses can be bound again.
    ///
    /// Connections can still be open.
    pub async fn stopped_listening(&self) {
        self.drain_started().await;
        // Never fails, because `self` holds the sender.
        let _ = self.state.listening.subscribe().wait_for(|listening| *listening == 0).await;
    }

    /// Counts a listening socket of a worker until the guard is dropped.
    pub(crate) fn listening_socket(&self) -> ListeningSocket {
        self.state.listening.send_modify(|listening| *listening += 1);
        ListeningSocket { state: Arc::clone(&self.state) }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<bool> {
        self.state.draining.subscribe()
    }

    /// Waits for a permit to accept the next connection. Returns `None` when draining begins.
    pub(crate) async fn permit(&self) -> Option<ConnectionPermit> {
        loop {
            if self.is_draining() {
                return None;
            }
            if self.state.open.fetch_add(1, Ordering::Relaxed) < self.state.limit.load(Ordering::Relaxed) {
                self.state.unused_permits.fetch_add(1, Ordering::Relaxed);
                return Some(ConnectionPermit(OpenConnection { state: Arc::clone(&self.state), client: None }));
            }
            self.state.open.fetch_sub(1, Ordering::Relaxed);
            self.connection_closed().await;
        }
    }

    /// Counts a connection that is accepted without a permit, because draining has begun.
    pub(crate) fn opened_without_permit(&self) -> OpenConnection {
        OpenConnection::new(&self.state)
    }

    /// Waits until no connection is open.
    pub(crate) async fn all_closed(&self) {
        while self.state.open.load(Ordering::Relaxed) > 0 {
            self.connection_closed().await;
        }
    }

    async fn connection_closed(&self) {
        let closed = self.state.connection_closed.notified();
        self.state.has_waiters.store(true, Ordering::SeqCst);
        // The timeout covers a connection that closed after the caller's check and before the store above.
        let _ = tokio::time::timeout(RECHECK_INTERVAL, closed).await;
    }
}

const RECHECK_INTERVAL: Duration = Duration::from_millis(50);

/// A permit to accept one connection within the connection limit.
#[derive(Debug)]
pub(crate) struct ConnectionPermit(OpenConnection);

impl ConnectionPermit {
    /// Converts the permit to a guard that counts the accepted connection.
    pub(crate) fn into_connection(self) -> OpenConnection {
        OpenConnection::new(&self.0.state)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.state.unused_permits.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A guard that counts a listening socket until it is dropped, after the socket.
#[derive(Debug)]
pub(crate) struct ListeningSocket {
    state: Arc<HandleState>,
}

impl Drop for ListeningSocket {
    fn drop(&mut self) {
        self.state.listening.send_modify(|listening| *listening -= 1);
    }
}

/// A guard that counts a connection as open until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    state: Arc<HandleState>,
    client: Option<Client>,
}

impl OpenConnection {
    fn new(state: &Arc<HandleState>) -> Self {
        state.open.fetch_add(1, Ordering::Relaxed);
        Self { state: Arc::clone(state), client: None }
    }

    /// Also counts the connection for the client at `ip`.
    ///
    /// # Errors
    ///
    /// Returns an error if the client has `max` connections.
    pub(crate) fn count_for_client(&mut self, ip: IpAddr, max: usize) -> Result<(), TooManyConnections> {
        self.client = Some(self.state.counts.acquire(ip, max)?);
        Ok(())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            self.state.counts.release(client);
        }
        self.state.open.fetch_sub(1, Ordering::Relaxed);
        if self.state.has_waiters.load(Ordering::SeqCst) {
            self.state.connection_closed.notify_waiters();
        }
    }
}
