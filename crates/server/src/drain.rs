//! Knowing what is open, and ending it in good order.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::RuntimeMetrics;
use tokio::sync::{Notify, watch};

use crate::clients::{Client, Clients, TooMany};

/// Watches and ends a running server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    draining: watch::Sender<bool>,
    /// Connections, and the places that workers hold for the next ones.
    open: AtomicUsize,
    /// How many of the places have nobody in them yet.
    vacant: AtomicUsize,
    limit: usize,
    clients: Clients,
    /// Whether a worker waits for `open` to fall.
    awaited: AtomicBool,
    fell: Notify,
    /// The listening sockets, until draining begins.
    sockets: Mutex<Vec<OwnedFd>>,
    /// What the workers' runtimes tell of themselves.
    runtimes: Mutex<Vec<RuntimeMetrics>>,
}

impl Handle {
    pub(crate) fn new(limit: usize, clients: Clients) -> Self {
        Self {
            shared: Arc::new(Shared {
                draining: watch::Sender::new(false),
                open: AtomicUsize::new(0),
                vacant: AtomicUsize::new(0),
                limit,
                clients,
                awaited: AtomicBool::new(false),
                fell: Notify::new(),
                sockets: Mutex::default(),
                runtimes: Mutex::default(),
            }),
        }
    }

    /// Keeps these sockets, to be passed on.
    pub(crate) fn keep(&self, sockets: Vec<OwnedFd>) {
        *self.sockets() = sockets;
    }

    /// The listening sockets, for a process that [takes over](crate::Successor): none, once draining has begun. As long
    /// as somebody holds them and nobody accepts, clients wait.
    ///
    /// # Errors
    ///
    /// There are no descriptors left.
    pub fn listeners(&self) -> io::Result<Vec<OwnedFd>> {
        self.sockets().iter().map(OwnedFd::try_clone).collect()
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.shared.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops accepting, lets the requests in flight finish, closes idle connections.
    pub fn drain(&self) {
        self.sockets().clear();
        self.shared.draining.send_replace(true);
        // Workers that wait for a free place are to stop, too.
        self.shared.fell.notify_waiters();
    }

    /// Whether [`drain`](Self::drain) was called.
    pub fn is_draining(&self) -> bool {
        *self.shared.draining.borrow()
    }

    /// How many connections are open now.
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed).saturating_sub(self.shared.vacant.load(Ordering::Relaxed))
    }

    /// How many tasks the workers have now: those of connections, HTTP/2 streams, tunnels, and whatever the service
    /// has spawned. Without load it comes back to what it was before.
    pub fn tasks(&self) -> usize {
        self.runtimes().iter().map(RuntimeMetrics::num_alive_tasks).sum()
    }

    /// Counts the tasks of a worker's runtime, too.
    pub(crate) fn count_tasks(&self, runtime: RuntimeMetrics) {
        self.runtimes().push(runtime);
    }

    fn runtimes(&self) -> MutexGuard<'_, Vec<RuntimeMetrics>> {
        self.shared.runtimes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when draining begins.
    pub async fn drained(&self) {
        let mut draining = self.shared.draining.subscribe();
        // The sender lives in `self`, so this can't fail.
        let _ = draining.wait_for(|draining| *draining).await;
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<bool> {
        self.shared.draining.subscribe()
    }

    /// Holds a place for the next connection; waits while the limit is reached, and gives up when draining begins.
    pub(crate) async fn place(&self) -> Option<Place> {
        loop {
            if self.is_draining() {
                return None;
            }
            if self.shared.open.fetch_add(1, Ordering::Relaxed) < self.shared.limit {
                self.shared.vacant.fetch_add(1, Ordering::Relaxed);
                return Some(Place(OpenConnection { shared: Arc::clone(&self.shared), client: None }));
            }
            self.shared.open.fetch_sub(1, Ordering::Relaxed);
            self.fallen().await;
        }
    }

    /// Counts a connection that was accepted after draining began.
    pub(crate) fn opened_late(&self) -> OpenConnection {
        OpenConnection::new(&self.shared)
    }

    /// Resolves when no connection is open.
    pub(crate) async fn closed(&self) {
        while self.shared.open.load(Ordering::Relaxed) > 0 {
            self.fallen().await;
        }
    }

    async fn fallen(&self) {
        let fell = self.shared.fell.notified();
        self.shared.awaited.store(true, Ordering::SeqCst);
        // A connection that closed between the caller's look and the line above did not notify.
        let _ = tokio::time::timeout(RECHECK, fell).await;
    }
}

const RECHECK: Duration = Duration::from_millis(50);

/// A place for one connection.
#[derive(Debug)]
pub(crate) struct Place(OpenConnection);

impl Place {
    /// The connection is there.
    pub(crate) fn taken(self) -> OpenConnection {
        OpenConnection::new(&self.0.shared)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.shared.vacant.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    shared: Arc<Shared>,
    client: Option<Client>,
}

impl OpenConnection {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(shared), client: None }
    }

    /// Counts it as one of the client at `ip`, too.
    pub(crate) fn enter(&mut self, ip: IpAddr) -> Result<(), TooMany> {
        self.client = self.shared.clients.enter(ip)?;
        Ok(())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            self.shared.clients.leave(client);
        }
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        if self.shared.awaited.load(Ordering::SeqCst) {
            self.shared.fell.notify_waiters();
        }
    }
}
