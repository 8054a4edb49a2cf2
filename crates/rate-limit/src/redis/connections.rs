//! A connection for each thread, given up in time and opened again.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::available_parallelism;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, RedisResult, cmd};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::script::{Evaluation, left};
use crate::store::{Left, StoreError};

/// The connections with one server.
pub(super) struct Connections {
    client: Client,
    slots: Box<[Slot]>,
    counters: Counters,
}

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    /// Requests in a row that were left without an answer.
    unanswered: AtomicU32,
}

#[derive(Default)]
enum State {
    /// Nobody has asked for it yet.
    #[default]
    Unused,
    /// For the first time: it is worth while to wait until the sender is gone.
    Connecting(watch::Receiver<()>),
    Up {
        connection: MultiplexedConnection,
        number: u64,
    },
    /// Somebody is trying.
    Down,
}

#[derive(Default)]
struct Counters {
    answered: AtomicU64,
    timed_out: AtomicU64,
    not_connected: AtomicU64,
    failed: AtomicU64,
    connected: AtomicU64,
}

/// What a [`RedisStore`](crate::RedisStore) has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisStats {
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were not answered in time.
    pub timed_out: u64,
    /// Requests that were not sent, as there was no connection.
    pub not_connected: u64,
    /// Requests that failed otherwise.
    pub failed: u64,
    /// Connections that were opened.
    pub connected: u64,
    /// Connections that are open now.
    pub connections: u64,
}

impl Connections {
    pub(super) fn new(client: Client) -> Self {
        let slots = available_parallelism().map_or(1, usize::from).min(MOST_CONNECTIONS);
        Self { client, slots: (0..slots).map(|_| Slot::default()).collect(), counters: Counters::default() }
    }

    /// Runs the script, within `time`.
    pub(super) async fn evaluate(
        self: &Arc<Self>,
        evaluation: &Evaluation,
        time: Duration,
    ) -> Result<Vec<Left>, StoreError> {
        let answer = self.evaluate_uncounted(evaluation, time).await;
        let counter = match &answer {
            Ok(_) => &self.counters.answered,
            Err(StoreError::TimedOut(_)) => &self.counters.timed_out,
            Err(StoreError::NotConnected) => &self.counters.not_connected,
            Err(StoreError::Failed(_)) => &self.counters.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        answer
    }

    async fn evaluate_uncounted(
        self: &Arc<Self>,
        evaluation: &Evaluation,
        time: Duration,
    ) -> Result<Vec<Left>, StoreError> {
        let deadline = Instant::now() + time;
        let timed_out = |_| StoreError::TimedOut(time);
        let place = place() % self.slots.len();
        let (mut connection, number) = timeout_at(deadline, self.connection(place)).await.map_err(timed_out)??;
        let answer = match timeout_at(deadline, evaluation.run(&mut connection)).await {
            Ok(answer) => answer,
            Err(elapsed) => {
                // Once may be chance.
                if self.slots[place].unanswered.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_UNANSWERED {
                    self.give_up(place, number);
                }
                return Err(timed_out(elapsed));
            }
        };
        // Read first: who shares the connection need not write to the same line.
        if self.slots[place].unanswered.load(Ordering::Relaxed) > 0 {
            self.slots[place].unanswered.store(0, Ordering::Relaxed);
        }
        match answer {
            Ok(answer) => left(&answer),
            Err(error) => {
                // Otherwise the server is there, and says no.
                if error.is_io_error() || error.is_unrecoverable_error() {
                    self.give_up(place, number);
                }
                Err(StoreError::Failed(error.into()))
            }
        }
    }

    /// The connection of this thread, and its number.
    async fn connection(self: &Arc<Self>, place: usize) -> Result<(MultiplexedConnection, u64), StoreError> {
        let mut first = {
            let mut state = self.state(place);
            match &*state {
                State::Up { connection, number } => return Ok((connection.clone(), *number)),
                State::Down => return Err(StoreError::NotConnected),
                State::Connecting(first) => first.clone(),
                State::Unused => {
                    let (sender, first) = watch::channel(());
                    *state = State::Connecting(first.clone());
                    self.connect(place, Some(sender));
                    first
                }
            }
        };
        // An error, once the attempt is over.
        let _ = first.changed().await;
        match &*self.state(place) {
            State::Up { connection, number } => Ok((connection.clone(), *number)),
            _ => Err(StoreError::NotConnected),
        }
    }

    /// Gives up a connection, unless there is another one by now.
    fn give_up(self: &Arc<Self>, place: usize, number: u64) {
        let mut state = self.state(place);
        if matches!(*state, State::Up { number: present, .. } if present == number) {
            *state = State::Down;
            drop(state);
            self.connect(place, None);
        }
    }

    /// Connects until it succeeds; `first` is dropped when the first attempt is over.
    fn connect(self: &Arc<Self>, place: usize, first: Option<watch::Sender<()>>) {
        let attempts = Attempts { connections: Arc::downgrade(self), place };
        tokio::spawn(attempts.make(first));
    }

    async fn open(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        // A server that is still loading accepts connections, and one that hangs does, too.
        cmd("PING").query_async::<()>(&mut connection).await?;
        Ok(connection)
    }

    fn state(&self, place: usize) -> MutexGuard<'_, State> {
        self.slots[place].state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> RedisStats {
        let Counters { answered, timed_out, not_connected, failed, connected } = &self.counters;
        let places = 0..self.slots.len();
        RedisStats {
            answered: answered.load(Ordering::Relaxed),
            timed_out: timed_out.load(Ordering::Relaxed),
            not_connected: not_connected.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
            connected: connected.load(Ordering::Relaxed),
            connections: places.filter(|place| matches!(*self.state(*place), State::Up { .. })).count() as u64,
        }
    }
}

/// Attempts to connect. Dropped before one has succeeded, as with the runtime that they were made on, they leave the
/// place to the next request.
struct Attempts {
    connections: Weak<Connections>,
    place: usize,
}

impl Attempts {
    /// `first` is dropped when the first one is over.
    async fn make(self, first: Option<watch::Sender<()>>) {
        // Where there was a connection a moment ago, a server may be about to start.
        let mut pause = SHORTEST_PAUSE;
        if first.is_none() {
            sleep(pause).await;
        }
        let mut first = first;
        while let Some(connections) = self.connections.upgrade() {
            let opened = timeout(CONNECT_TIMEOUT, connections.open()).await;
            if let Ok(Ok(connection)) = opened {
                let number = connections.counters.connected.fetch_add(1, Ordering::Relaxed);
                connections.slots[self.place].unanswered.store(0, Ordering::Relaxed);
                *connections.state(self.place) = State::Up { connection, number };
                return;
            }
            *connections.state(self.place) = State::Down;
            first = None;
            drop(connections);
            sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
        drop(first);
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        let Some(connections) = self.connections.upgrade() else { return };
        let mut state = connections.state(self.place);
        if !matches!(*state, State::Up { .. }) {
            *state = State::Unused;
        }
    }
}

/// Threads are counted as they come.
fn place() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PLACE: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    PLACE.with(|place| *place)
}

const MOST_CONNECTIONS: usize = 64;
const MOST_UNANSWERED: u32 = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
