//! Connections to a Redis server: one per thread, with timeouts and reconnection.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::available_parallelism;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, RedisResult, cmd};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::script::{ScriptCall, outcomes};
use crate::store::{ChargeOutcome, StoreError};

/// The connections of a store to one Redis server.
pub(super) struct Connections {
    client: Client,
    slots: Box<[Slot]>,
    counters: Counters,
}

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    /// The number of consecutive requests that timed out.
    timeouts: AtomicU32,
}

#[derive(Default)]
enum State {
    /// The connection has not been opened, because no request has needed it.
    #[default]
    Unused,
    /// The first connection attempt is in progress. Requests wait until the sender is dropped.
    Connecting(watch::Receiver<()>),
    Up {
        connection: MultiplexedConnection,
        id: u64,
    },
    /// The connection failed, and a background task is reconnecting. Requests do not wait.
    Down,
}

#[derive(Default)]
struct Counters {
    succeeded: AtomicU64,
    timed_out: AtomicU64,
    not_connected: AtomicU64,
    failed: AtomicU64,
    connections_opened: AtomicU64,
}

/// Counters of the requests and connections of a [`RedisStore`](crate::RedisStore).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisStats {
    /// The number of requests that received a response.
    pub succeeded: u64,
    /// The number of requests that timed out.
    pub timed_out: u64,
    /// The number of requests that were not sent because the connection was down.
    pub not_connected: u64,
    /// The number of requests that failed for a reason other than a timeout or a missing connection.
    pub failed: u64,
    /// The total number of connections opened.
    pub connections_opened: u64,
    /// The number of connections that are currently open.
    pub open_connections: u64,
}

impl Connections {
    pub(super) fn new(client: Client) -> Self {
        let slots = available_parallelism().map_or(1, usize::from).min(MAX_CONNECTIONS);
        Self { client, slots: (0..slots).map(|_| Slot::default()).collect(), counters: Counters::default() }
    }

    /// Runs the script on the server, counts the result, and returns the outcomes in the reply.
    pub(super) async fn run(
        self: &Arc<Self>,
        call: &ScriptCall,
        time_limit: Duration,
    ) -> Result<Vec<ChargeOutcome>, StoreError> {
        let result = self.try_run(call, time_limit).await;
        let counter = match &result {
            Ok(_) => &self.counters.succeeded,
            Err(StoreError::TimedOut(_)) => &self.counters.timed_out,
            Err(StoreError::NotConnected) => &self.counters.not_connected,
            Err(StoreError::Overloaded | StoreError::Failed(_)) => &self.counters.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        result
    }

    async fn try_run(
        self: &Arc<Self>,
        call: &ScriptCall,
        time_limit: Duration,
    ) -> Result<Vec<ChargeOutcome>, StoreError> {
        let deadline = Instant::now() + time_limit;
        let timed_out = |_| StoreError::TimedOut(time_limit);
        let slot = thread_number() % self.slots.len();
        let (mut connection, id) = timeout_at(deadline, self.connection(slot)).await.map_err(timed_out)??;
        let result = match timeout_at(deadline, call.run(&mut connection)).await {
            Ok(result) => result,
            Err(elapsed) => {
                // A single timeout does not mean that the connection is broken.
                if self.slots[slot].timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_TIMEOUTS {
                    self.reconnect(slot, id);
                }
                return Err(timed_out(elapsed));
            }
        };
        // Read before the write, which would take the cache line from threads that share the connection.
        if self.slots[slot].timeouts.load(Ordering::Relaxed) > 0 {
            self.slots[slot].timeouts.store(0, Ordering::Relaxed);
        }
        match result {
            Ok(reply) => outcomes(&reply),
            Err(error) => {
                // After other errors the connection still works: the server rejected the command.
                if error.is_io_error() || error.is_unrecoverable_error() {
                    self.reconnect(slot, id);
                }
                Err(StoreError::Failed(error.into()))
            }
        }
    }

    /// Returns the connection in `slot` and its connection ID. Waits for the first attempt to connect.
    async fn connection(self: &Arc<Self>, slot: usize) -> Result<(MultiplexedConnection, u64), StoreError> {
        let mut first_attempt = {
            let mut state = self.state(slot);
            match &*state {
                State::Up { connection, id } => return Ok((connection.clone(), *id)),
                State::Down => return Err(StoreError::NotConnected),
                State::Connecting(first_attempt) => first_attempt.clone(),
                State::Unused => {
                    let (sender, first_attempt) = watch::channel(());
                    *state = State::Connecting(first_attempt.clone());
                    self.connect(slot, Some(sender));
                    first_attempt
                }
            }
        };
        // Returns an error when the attempt ends, because that drops the sender.
        let _ = first_attempt.changed().await;
        match &*self.state(slot) {
            State::Up { connection, id } => Ok((connection.clone(), *id)),
            _ => Err(StoreError::NotConnected),
        }
    }

    /// Replaces the connection with this ID, unless it has already been replaced.
    fn reconnect(self: &Arc<Self>, slot: usize, id: u64) {
        let mut state = self.state(slot);
        if matches!(*state, State::Up { id: current, .. } if current == id) {
            *state = State::Down;
            drop(state);
            self.connect(slot, None);
        }
    }

    /// Spawns a task that connects to the Redis server. `first_attempt` is dropped when the first attempt ends.
    fn connect(self: &Arc<Self>, slot: usize, first_attempt: Option<watch::Sender<()>>) {
        let connector = Connector { connections: Arc::downgrade(self), slot };
        tokio::spawn(connector.run(first_attempt));
    }

    async fn open(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        // A server that is loading its data, or that hangs, accepts connections but does not respond.
        cmd("PING").query_async::<()>(&mut connection).await?;
        Ok(connection)
    }

    fn state(&self, slot: usize) -> MutexGuard<'_, State> {
        self.slots[slot].state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> RedisStats {
        let Counters { succeeded, timed_out, not_connected, failed, connections_opened } = &self.counters;
        let slots = 0..self.slots.len();
        RedisStats {
            succeeded: succeeded.load(Ordering::Relaxed),
            timed_out: timed_out.load(Ordering::Relaxed),
            not_connected: not_connected.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
            connections_opened: connections_opened.load(Ordering::Relaxed),
            open_connections: slots.filter(|slot| matches!(*self.state(*slot), State::Up { .. })).count() as u64,
        }
    }
}

/// A task that retries to connect to the Redis server until a connection is open.
///
/// If the task is dropped before, for example with its runtime, the next request starts another one.
struct Connector {
    connections: Weak<Connections>,
    slot: usize,
}

impl Connector {
    async fn run(self, mut first_attempt: Option<watch::Sender<()>>) {
        let mut back_off = INITIAL_BACK_OFF;
        // After a lost connection, give the server time to restart.
        if first_attempt.is_none() {
            sleep(back_off).await;
        }
        while let Some(connections) = self.connections.upgrade() {
            let opened = timeout(CONNECT_TIMEOUT, connections.open()).await;
            if let Ok(Ok(connection)) = opened {
                let id = connections.counters.connections_opened.fetch_add(1, Ordering::Relaxed);
                connections.slots[self.slot].timeouts.store(0, Ordering::Relaxed);
                *connections.state(self.slot) = State::Up { connection, id };
                return;
            }
            *connections.state(self.slot) = State::Down;
            first_attempt = None;
            drop(connections);
            sleep(back_off).await;
            back_off = (2 * back_off).min(MAX_BACK_OFF);
        }
        drop(first_attempt);
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        let Some(connections) = self.connections.upgrade() else { return };
        let mut state = connections.state(self.slot);
        if !matches!(*state, State::Up { .. }) {
            *state = State::Unused;
        }
    }
}

/// Returns the index of the current thread, assigned by the first call on the thread.
fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

const MAX_CONNECTIONS: usize = 64;
const MAX_TIMEOUTS: u32 = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const INITIAL_BACK_OFF: Duration = Duration::from_millis(100);
const MAX_BACK_OFF: Duration = Duration::from_secs(2);
