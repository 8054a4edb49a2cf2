//! The idle HTTP/1.1 connections to one backend.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http_body::Body;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::connect::Connected;
use crate::error::{BoxError, ProxyError, ProxyErrorKind};
use crate::http1::Http1;
use crate::slots::Shed;

/// Idle connections, the most recently used at the back.
pub(crate) struct Pool<B: Body + 'static> {
    idle: Mutex<Idle<B>>,
    idle_timeout: Duration,
    max_idle: usize,
}

struct Idle<B: Body + 'static> {
    connections: VecDeque<(Box<Http1<B>>, Instant)>,
    /// Whether a task ends connections that have been idle too long.
    is_swept: bool,
    /// How many connections are being made for requests that are gone.
    orphans: usize,
    /// Requests that get them.
    adopters: VecDeque<oneshot::Sender<Result<Connected, ProxyError>>>,
}

impl<B> Pool<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    pub(crate) fn new(idle_timeout: Duration, max_idle: usize) -> Arc<Self> {
        let idle = Idle { connections: VecDeque::new(), is_swept: false, orphans: 0, adopters: VecDeque::new() };
        let idle = Mutex::new(idle);
        Arc::new(Self { idle, idle_timeout, max_idle })
    }

    /// The connection that was used last, if the backend still holds its end.
    pub(crate) fn take(&self) -> Option<Box<Http1<B>>> {
        loop {
            // Bound outside of the `if let`, so that the lock is not held while the connection is polled.
            let last = self.idle().connections.pop_back();
            let (mut connection, _) = last?;
            if connection.is_reusable() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next request, if it is fit for one.
    pub(crate) fn put(self: &Arc<Self>, connection: Box<Http1<B>>) {
        if self.max_idle == 0 || !connection.is_idle() {
            return;
        }
        let mut idle = self.idle();
        if idle.connections.len() >= self.max_idle {
            idle.connections.pop_front();
        }
        idle.connections.push_back((connection, Instant::now()));
        if !idle.is_swept {
            idle.is_swept = true;
            drop(idle);
            tokio::spawn(sweep(Arc::downgrade(self), self.idle_timeout / 2));
        }
    }

    /// Makes a connection. One that was begun for a request that is gone by the time that it is there serves the next:
    /// clients that cancel their requests do not cost a connection each.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        connecting: impl Future<Output = Result<Connected, ProxyError>> + Send + 'static,
    ) -> Result<Connected, ProxyError> {
        if let Some(orphan) = self.adopt()
            && let Ok(connected) = orphan.await
        {
            return connected;
        }
        let mut begun = Begun { connecting: Some(Box::pin(connecting)), pool: Arc::downgrade(self) };
        begun.finish().await
    }

    /// One of the connections that are being made for nobody.
    fn adopt(&self) -> Option<oneshot::Receiver<Result<Connected, ProxyError>>> {
        let mut idle = self.idle();
        if idle.orphans == 0 {
            return None;
        }
        idle.adopters.retain(|adopter| !adopter.is_closed());
        (idle.orphans > idle.adopters.len()).then(|| {
            let (sender, receiver) = oneshot::channel();
            idle.adopters.push_back(sender);
            receiver
        })
    }

    /// Whether one more connection may be made for nobody; it counts then.
    fn begin_orphan(&self) -> bool {
        let mut idle = self.idle();
        let may_begin = idle.orphans < MOST_ORPHANS && self.max_idle > 0;
        idle.orphans += usize::from(may_begin);
        may_begin
    }

    /// A connection has been made for nobody, or not.
    fn end_orphan(self: &Arc<Self>, mut connected: Result<Connected, ProxyError>) {
        loop {
            let adopter = self.idle().adopters.pop_front();
            let Some(adopter) = adopter else {
                if let Ok(Connected { socket, is_http2: false, until, .. }) = connected {
                    self.put(Http1::new(socket, until));
                }
                break;
            };
            match adopter.send(connected) {
                Ok(()) => break,
                // It is gone, too.
                Err(returned) => connected = returned,
            }
        }
        let mut idle = self.idle();
        idle.orphans = idle.orphans.saturating_sub(1);
    }

    /// Ends what has been idle too long; whether anything is left.
    fn expire(&self) -> bool {
        let mut idle = self.idle();
        let expired = idle.connections.partition_point(|(_, since)| since.elapsed() >= self.idle_timeout);
        let expired: Vec<_> = idle.connections.drain(..expired).collect();
        idle.is_swept = !idle.connections.is_empty();
        let is_swept = idle.is_swept;
        // Closing sockets is for after the lock.
        drop(idle);
        drop(expired);
        is_swept
    }

    fn idle(&self) -> MutexGuard<'_, Idle<B>> {
        // A panic elsewhere leaves a list of connections, which is as good as before.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Shed for Pool<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fn idle(&self) -> usize {
        self.idle().connections.len()
    }

    fn shed(&self) -> bool {
        // Closing sockets is for after the lock.
        let oldest = self.idle().connections.pop_front();
        oldest.is_some()
    }
}

/// Runs while there are idle connections, so that they end without traffic, too.
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

/// A connection that is being made for a request. It goes on without it.
struct Begun<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    connecting: Option<Connecting>,
    pool: Weak<Pool<B>>,
}

type Connecting = Pin<Box<dyn Future<Output = Result<Connected, ProxyError>> + Send>>;

impl<B> Begun<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    async fn finish(&mut self) -> Result<Connected, ProxyError> {
        let connected = match &mut self.connecting {
            Some(connecting) => connecting.await,
            None => return Err(ProxyError::new(ProxyErrorKind::ConnectionTerminated)),
        };
        self.connecting = None;
        connected
    }
}

impl<B> Drop for Begun<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fn drop(&mut self) {
        // Without a runtime there is nobody left to serve.
        let (Some(connecting), Ok(runtime)) = (self.connecting.take(), Handle::try_current()) else { return };
        let Some(pool) = self.pool.upgrade().filter(|pool| pool.begin_orphan()) else { return };
        let pool = Arc::downgrade(&pool);
        runtime.spawn(async move {
            let connected = connecting.await;
            if let Some(pool) = pool.upgrade() {
                pool.end_orphan(connected);
            }
        });
    }
}

/// Connections that are being made for requests that are gone.
const MOST_ORPHANS: usize = 32;
