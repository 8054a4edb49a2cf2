//! The idle HTTP/1.1 connections to one backend.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http_body::Body;
use tokio::time::Instant;

use crate::error::BoxError;
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
}

impl<B> Pool<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    pub(crate) fn new(idle_timeout: Duration, max_idle: usize) -> Arc<Self> {
        let idle = Mutex::new(Idle { connections: VecDeque::new(), is_swept: false });
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
