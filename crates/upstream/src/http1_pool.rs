//! The pool of idle HTTP/1.1 connections to one backend.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http_body::Body;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::connection_limit::IdleConnections;
use crate::connector::Connected;
use crate::error::{BoxError, ProxyError, ProxyErrorKind};
use crate::http1::Http1Connection;

/// A pool of idle HTTP/1.1 connections.
pub(crate) struct Pool<B: Body + 'static> {
    idle: Mutex<Idle<B>>,
    idle_timeout: Duration,
    max_idle: usize,
}

/// The idle connections of a pool, with the most recently used connection at the back.
struct Idle<B: Body + 'static> {
    connections: VecDeque<(Box<Http1Connection<B>>, Instant)>,
    /// Whether a task is running that closes connections after the idle timeout.
    has_sweeper: bool,
    /// The number of pending connection attempts whose requests were cancelled.
    abandoned: usize,
    /// The requests that wait for the connection of a cancelled request.
    waiting: VecDeque<oneshot::Sender<Result<Connected, ProxyError>>>,
}

impl<B> Pool<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    pub(crate) fn new(idle_timeout: Duration, max_idle: usize) -> Arc<Self> {
        let idle = Idle { connections: VecDeque::new(), has_sweeper: false, abandoned: 0, waiting: VecDeque::new() };
        let idle = Mutex::new(idle);
        Arc::new(Self { idle, idle_timeout, max_idle })
    }

    /// Takes the most recently used connection that is still open out of the pool.
    pub(crate) fn take(&self) -> Option<Box<Http1Connection<B>>> {
        loop {
            // A separate statement, so that the lock is released before the connection is polled.
            let last = self.lock().connections.pop_back();
            let (mut connection, _) = last?;
            if connection.is_reusable() {
                return Some(connection);
            }
        }
    }

    /// Stores a connection in the pool, if the connection is idle.
    pub(crate) fn put(self: &Arc<Self>, connection: Box<Http1Connection<B>>) {
        if self.max_idle == 0 || !connection.is_idle() {
            return;
        }
        let mut idle = self.lock();
        if idle.connections.len() >= self.max_idle {
            idle.connections.pop_front();
        }
        idle.connections.push_back((connection, Instant::now()));
        if !idle.has_sweeper {
            idle.has_sweeper = true;
            drop(idle);
            tokio::spawn(sweep(Arc::downgrade(self), self.idle_timeout / 2));
        }
    }

    /// Opens a connection for a request. If the request is cancelled before that, the next request gets the connection.
    ///
    /// Clients that cancel their requests therefore do not cost a connection each.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        connecting: impl Future<Output = Result<Connected, ProxyError>> + Send + 'static,
    ) -> Result<Connected, ProxyError> {
        if let Some(receiver) = self.wait_for_abandoned()
            && let Ok(connected) = receiver.await
        {
            return connected;
        }
        let mut pending = PendingConnect { connecting: Some(Box::pin(connecting)), pool: Arc::downgrade(self) };
        pending.finish().await
    }

    /// Returns a receiver for an unassigned connection of a cancelled request, if there is one.
    fn wait_for_abandoned(&self) -> Option<oneshot::Receiver<Result<Connected, ProxyError>>> {
        let mut idle = self.lock();
        if idle.abandoned == 0 {
            return None;
        }
        idle.waiting.retain(|waiting| !waiting.is_closed());
        (idle.abandoned > idle.waiting.len()).then(|| {
            let (sender, receiver) = oneshot::channel();
            idle.waiting.push_back(sender);
            receiver
        })
    }

    /// Counts the pending connection attempt of a cancelled request. Returns `false` if there are too many.
    fn begin_abandoned(&self) -> bool {
        let mut idle = self.lock();
        let is_allowed = idle.abandoned < MAX_ABANDONED && self.max_idle > 0;
        idle.abandoned += usize::from(is_allowed);
        is_allowed
    }

    /// Gives the connection of a cancelled request to a waiting request, or stores it in the pool.
    fn finish_abandoned(self: &Arc<Self>, mut connected: Result<Connected, ProxyError>) {
        loop {
            let waiting = self.lock().waiting.pop_front();
            let Some(waiting) = waiting else {
                if let Ok(Connected { socket, is_http2: false, expires, .. }) = connected {
                    self.put(Http1Connection::new(socket, expires));
                }
                break;
            };
            match waiting.send(connected) {
                Ok(()) => break,
                // This request was cancelled, too.
                Err(returned) => connected = returned,
            }
        }
        let mut idle = self.lock();
        idle.abandoned = idle.abandoned.saturating_sub(1);
    }

    /// Closes the connections whose idle timeout has expired. Returns whether there are others.
    fn expire(&self) -> bool {
        let mut idle = self.lock();
        let expired = idle.connections.partition_point(|(_, since)| since.elapsed() >= self.idle_timeout);
        let expired: Vec<_> = idle.connections.drain(..expired).collect();
        // The most recently used connections are reused first, and keep their buffers.
        let unused = idle.connections.partition_point(|(_, since)| since.elapsed() >= self.idle_timeout / 4);
        idle.connections.range_mut(..unused).for_each(|(connection, _)| connection.free_large_buffer());
        idle.has_sweeper = !idle.connections.is_empty();
        let has_sweeper = idle.has_sweeper;
        // Sockets are closed after the lock is released.
        drop(idle);
        drop(expired);
        has_sweeper
    }

    fn lock(&self) -> MutexGuard<'_, Idle<B>> {
        // A panic in another thread leaves a valid list.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> IdleConnections for Pool<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fn idle_count(&self) -> usize {
        self.lock().connections.len()
    }

    fn close_oldest(&self) -> bool {
        // Sockets are closed after the lock is released.
        let oldest = self.lock().connections.pop_front();
        oldest.is_some()
    }
}

/// Closes connections after the idle timeout, until the pool is empty.
async fn sweep<B>(pool: Weak<Pool<B>>, every: Duration)
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    loop {
        tokio::time::sleep(every).await;
        match pool.upgrade() {
            Some(pool) if pool.expire() => {}
            _ => return,
        }
    }
}

/// A pending connection attempt, which continues even if its request is cancelled.
struct PendingConnect<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    connecting: Option<Connecting>,
    pool: Weak<Pool<B>>,
}

/// The boxed future of a pending connection attempt.
type Connecting = Pin<Box<dyn Future<Output = Result<Connected, ProxyError>> + Send>>;

impl<B> PendingConnect<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    /// Waits until the connection is established.
    async fn finish(&mut self) -> Result<Connected, ProxyError> {
        let connected = match &mut self.connecting {
            Some(connecting) => connecting.await,
            None => return Err(ProxyError::new(ProxyErrorKind::ConnectionTerminated)),
        };
        self.connecting = None;
        connected
    }
}

impl<B> Drop for PendingConnect<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fn drop(&mut self) {
        // Without a runtime the connection attempt cannot continue.
        let (Some(connecting), Ok(runtime)) = (self.connecting.take(), Handle::try_current()) else { return };
        let Some(pool) = self.pool.upgrade().filter(|pool| pool.begin_abandoned()) else { return };
        let pool = Arc::downgrade(&pool);
        runtime.spawn(async move {
            let connected = connecting.await;
            if let Some(pool) = pool.upgrade() {
                pool.finish_abandoned(connected);
            }
        });
    }
}

/// The maximum number of pending connection attempts of cancelled requests.
const MAX_ABANDONED: usize = 32;
