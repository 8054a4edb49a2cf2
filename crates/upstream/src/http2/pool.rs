//! The HTTP/2 connections of one worker to one backend, and the requests that wait for a stream on one of them.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Driver, STREAMS, handshake};
use super::connections::{ConnectionId, Connections, Taken};
use crate::builder::Settings;
use crate::connect::{Connected, Speak};
use crate::error::{ProxyError, ProxyErrorKind};
use crate::service::Member;

/// Connections that are made when the streams of the others are used up, and shared by all requests of a worker.
pub(crate) struct Pool {
    settings: Arc<Settings>,
    member: Arc<Member>,
    state: Mutex<State>,
    /// Whether the backend chose HTTP/1.1 when it was last connected to.
    speaks_http1: AtomicBool,
}

#[derive(Default)]
struct State {
    connections: Connections<Arc<Connection>>,
    /// How many connections are being made.
    connecting: usize,
    /// No connection is made before that while there are usable ones.
    connect_after: Option<Instant>,
    waiting: VecDeque<Waiting>,
    /// How many streams the last connection allowed.
    streams: usize,
    /// What the backend's name stood for last.
    addresses: Vec<IpAddr>,
    /// When to connect to an address again that could not be connected to.
    spread_after: Option<Instant>,
    /// Whether a task closes idle connections.
    is_swept: bool,
}

/// A request that waits for a stream.
type Waiting = oneshot::Sender<Result<Acquired, ProxyError>>;

/// What a request is sent on.
pub(crate) enum Acquired {
    Stream(Slot),
    /// The backend chose HTTP/1.1, on this connection if there is one.
    Http1(Option<Box<Connected>>),
}

/// The right to one stream, returned when it is dropped.
pub(crate) struct Slot {
    pub(super) connection: Arc<Connection>,
    pub(super) id: ConnectionId,
    pub(super) is_first: bool,
    pool: Weak<Pool>,
}

impl Slot {
    /// For a connection that is in no pool.
    pub(super) fn alone(connection: Connection) -> Self {
        Self { connection: Arc::new(connection), id: ConnectionId::default(), is_first: true, pool: Weak::new() }
    }

    /// Opens no more streams on the connection.
    pub(super) fn drain(&self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.drain(self.id);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            // Kept until the lock is released.
            let _done = pool.change(|state| state.connections.release(self.id, Instant::now()));
        }
    }
}

impl Pool {
    pub(crate) fn new(settings: Arc<Settings>, member: Arc<Member>) -> Arc<Self> {
        Arc::new(Self { settings, member, state: Mutex::default(), speaks_http1: AtomicBool::new(false) })
    }

    /// Whether the backend chose HTTP/1.1 when it was last connected to.
    pub(crate) fn speaks_http1(&self) -> bool {
        self.speaks_http1.load(Relaxed)
    }

    /// A stream, on a connection that is made for it if the others are used up. A request that a connection did not
    /// process avoids that one, and comes before those that wait.
    pub(super) async fn acquire(self: &Arc<Self>, refused_by: Option<ConnectionId>) -> Result<Acquired, ProxyError> {
        let receiver = {
            let (mut stream, mut receiver) = (None, None);
            let is_spread = self.change(|state| {
                let now = Instant::now();
                if refused_by.is_some() || state.waiting.is_empty() {
                    stream = state.connections.take(refused_by, now);
                }
                if stream.is_some() {
                    return state.begin_spread(now);
                }
                if state.waiting.len() >= MOST_WAITING {
                    state.waiting.retain(|waiting| !waiting.is_closed());
                }
                if state.waiting.len() < MOST_WAITING {
                    let (sender, waits) = oneshot::channel();
                    match refused_by {
                        Some(_) => state.waiting.push_front(sender),
                        None => state.waiting.push_back(sender),
                    }
                    receiver = Some(waits);
                }
                false
            });
            if let Some(taken) = stream {
                if is_spread {
                    tokio::spawn(spread(Arc::downgrade(self)));
                }
                return Ok(Acquired::Stream(self.slot(taken)));
            }
            receiver.ok_or_else(|| ProxyError::new(ProxyErrorKind::ConnectionLimitReached))?
        };
        // Whatever makes a connection has its own, shorter time.
        let patience = self.settings.queue_timeout.max(self.settings.connector.timeout);
        match timeout(patience, receiver).await {
            Ok(Ok(acquired)) => acquired,
            Ok(Err(_)) | Err(_) => Err(ProxyError::new(ProxyErrorKind::ConnectionLimitReached)),
        }
    }

    /// Adds a connection on which the backend chose HTTP/2, and takes its first stream.
    pub(crate) async fn adopt(self: &Arc<Self>, connected: Connected) -> Result<Slot, ProxyError> {
        let Connected { socket, until, address, addresses, .. } = connected;
        let (connection, driver) = match timeout(self.settings.connector.timeout, handshake(socket)).await {
            Ok(done) => done?,
            Err(_) => return Err(ProxyError::new(ProxyErrorKind::ConnectionTimeout)),
        };
        self.speaks_http1.store(false, Relaxed);
        let taken = self.change(|state| {
            self.add(state, connection, driver, until, address, addresses);
            state.connections.take(None, Instant::now())
        });
        match taken {
            Some(taken) => Ok(self.slot(taken)),
            None => Err(ProxyError::new(ProxyErrorKind::ConnectionLimitReached)),
        }
    }

    fn add(
        self: &Arc<Self>,
        state: &mut State,
        connection: Connection,
        driver: Driver,
        until: Option<Instant>,
        address: Option<IpAddr>,
        addresses: Vec<IpAddr>,
    ) {
        state.streams = driver.limit();
        state.addresses = addresses;
        let id = state.connections.add(Arc::new(connection), address, until, driver.limit(), Instant::now());
        tokio::spawn(driver.run(Arc::downgrade(self), id, self.settings.http2_ping_interval));
        if !std::mem::replace(&mut state.is_swept, true) {
            let every = (self.settings.idle_timeout / 2).max(SHORTEST_SWEEP);
            tokio::spawn(sweep(Arc::downgrade(self), every));
        }
    }

    pub(super) fn set_limit(self: &Arc<Self>, id: ConnectionId, limit: usize) {
        self.change(|state| state.connections.set_limit(id, limit));
    }

    pub(super) fn drain(self: &Arc<Self>, id: ConnectionId) {
        let _done = self.change(|state| state.connections.drain(id));
    }

    pub(super) fn closed(self: &Arc<Self>, id: ConnectionId) {
        let _done = self.change(|state| state.connections.remove(id));
    }

    /// Closes what has been idle for too long. Returns whether anything is left.
    fn expire(self: &Arc<Self>) -> bool {
        let mut is_left = false;
        let _done = self.change(|state| {
            let done = state.connections.expire(self.settings.idle_timeout, Instant::now());
            is_left = !state.connections.is_empty();
            state.is_swept = is_left;
            done
        });
        is_left
    }

    /// Makes a change, gives streams that it freed to requests that wait, and makes the connections that the others need.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let (changed, given, connects) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = change(&mut state);
            let given = state.give();
            let connects = state.begin_connects(Instant::now);
            (changed, given, connects)
        };
        for (waiting, taken) in given {
            // One that is gone drops the stream, which comes back here.
            let _ = waiting.send(Ok(Acquired::Stream(self.slot(taken))));
        }
        for _ in 0..connects {
            tokio::spawn(connect(Arc::downgrade(self)));
        }
        changed
    }

    fn slot(self: &Arc<Self>, taken: Taken<Arc<Connection>>) -> Slot {
        let Taken { id, connection, is_first } = taken;
        Slot { connection, id, is_first, pool: Arc::downgrade(self) }
    }

    /// A connection has been made, or not.
    fn connected(self: &Arc<Self>, connected: Result<Made, ProxyError>) {
        let mut answers = Vec::new();
        self.change(|state| {
            state.connecting -= 1;
            match connected {
                Ok(Made::Nothing) => {}
                Ok(Made::Http2(made)) => {
                    let Ready { connection, driver, until, address, addresses } = *made;
                    self.speaks_http1.store(false, Relaxed);
                    self.add(state, connection, driver, until, address, addresses);
                }
                Ok(Made::Http1(connected)) => {
                    self.speaks_http1.store(true, Relaxed);
                    let mut connected = Some(Box::new(connected));
                    let waiting = state.waiting.drain(..).filter(|waiting| !waiting.is_closed());
                    answers.extend(waiting.map(|waiting| (waiting, Ok(connected.take()))));
                }
                Err(_) if state.connections.has_usable() || state.connecting > 0 => {
                    state.connect_after = Some(Instant::now() + CONNECT_AGAIN);
                }
                Err(error) => {
                    answers.extend(state.waiting.drain(..).map(|waiting| (waiting, Err(error.clone()))));
                }
            }
        });
        for (waiting, answer) in answers {
            let _ = waiting.send(answer.map(Acquired::Http1));
        }
    }
}

impl State {
    /// The streams that requests have waited for.
    fn give(&mut self) -> Vec<(Waiting, Taken<Arc<Connection>>)> {
        let mut given = Vec::new();
        while let Some(waiting) = self.waiting.pop_front() {
            if waiting.is_closed() {
                continue;
            }
            match self.connections.take(None, Instant::now()) {
                Some(taken) => given.push((waiting, taken)),
                None => {
                    self.waiting.push_front(waiting);
                    break;
                }
            }
        }
        given
    }

    /// How many more connections are needed; they count as begun.
    fn begin_connects(&mut self, now: impl FnOnce() -> Instant) -> usize {
        let is_enough = |state: &Self| state.waiting.len() <= state.connecting * state.streams_each();
        if is_enough(self) {
            return 0;
        }
        self.waiting.retain(|waiting| !waiting.is_closed());
        let has_usable = self.connections.has_usable();
        if is_enough(self)
            // The next one would get no streams, either.
            || self.connections.has_closed_door()
            || has_usable && self.connect_after.is_some_and(|after| now() < after)
        {
            return 0;
        }
        let short = self.waiting.len() - self.connecting * self.streams_each();
        let room = MOST_CONNECTIONS.saturating_sub(self.connections.len() + self.connecting);
        let count = short.div_ceil(self.streams_each()).min(room);
        self.connecting += count;
        count
    }

    /// How many streams a new connection is good for.
    fn streams_each(&self) -> usize {
        if self.streams == 0 { STREAMS } else { self.streams }
    }

    /// Whether to connect to an address that has no connection, though the others are not used up. It counts as begun.
    fn begin_spread(&mut self, now: Instant) -> bool {
        if self.addresses.len() < 2 || self.connecting > 0 || self.spread_after.is_some_and(|after| now < after) {
            return false;
        }
        let is_missing = self.addresses.iter().any(|ip| self.connections.addresses().all(|other| other != *ip));
        let begins = is_missing && self.connections.len() < MOST_CONNECTIONS;
        self.connecting += usize::from(begins);
        begins
    }
}

/// The outcome of an attempt to connect.
enum Made {
    /// Nothing, which concerns no request.
    Nothing,
    Http1(Connected),
    Http2(Box<Ready>),
}

struct Ready {
    connection: Connection,
    driver: Driver,
    until: Option<Instant>,
    address: Option<IpAddr>,
    addresses: Vec<IpAddr>,
}

/// Makes one more connection, whether or not the request that needed it still waits.
async fn connect(pool: Weak<Pool>) {
    let Some(strong) = pool.upgrade() else { return };
    let have = strong.addresses();
    let (settings, member) = (Arc::clone(&strong.settings), Arc::clone(&strong.member));
    // Not to keep a pool that nobody uses.
    drop(strong);
    let mut begun = Begun(pool);
    let mut made = make(&settings, &member, &have).await;
    // A backend that restarts may accept a connection and close it. Nothing was sent on it.
    if matches!(&made, Err(error) if error.kind() == ProxyErrorKind::ConnectionTerminated) {
        made = make(&settings, &member, &have).await;
    }
    begun.end(made);
}

async fn make(settings: &Settings, member: &Member, have: &[IpAddr]) -> Result<Made, ProxyError> {
    let making = async {
        let connected = settings.connector.connect(&member.backend, Speak::Any, have).await?;
        ready(connected).await
    };
    match timeout(settings.connector.timeout, making).await {
        Ok(made) => made,
        Err(_) => Err(ProxyError::new(ProxyErrorKind::ConnectionTimeout)),
    }
}

async fn ready(connected: Connected) -> Result<Made, ProxyError> {
    if !connected.is_http2 {
        return Ok(Made::Http1(connected));
    }
    let Connected { socket, until, address, addresses, .. } = connected;
    let (connection, driver) = handshake(socket).await?;
    Ok(Made::Http2(Box::new(Ready { connection, driver, until, address, addresses })))
}

/// Connects to an address that has no connection, so that each gets its share of the requests.
async fn spread(pool: Weak<Pool>) {
    let Some(strong) = pool.upgrade() else { return };
    let have = strong.addresses();
    let (settings, member) = (Arc::clone(&strong.settings), Arc::clone(&strong.member));
    drop(strong);
    let mut begun = Begun(pool);
    let making = async {
        match settings.connector.connect_elsewhere(&member.backend, &have).await? {
            Some(connected) => ready(connected).await.map(Some),
            None => Ok(None),
        }
    };
    match timeout(settings.connector.timeout, making).await {
        Ok(Ok(Some(made))) => begun.end(Ok(made)),
        Ok(Ok(None) | Err(_)) | Err(_) => {
            if let Some(pool) = begun.0.upgrade() {
                pool.change(|state| state.spread_after = Some(Instant::now() + SPREAD_AGAIN));
            }
            begun.end(Ok(Made::Nothing));
        }
    }
}

/// A connection that is being made, counted until it has been, or its task is gone.
struct Begun(Weak<Pool>);

impl Begun {
    fn end(&mut self, made: Result<Made, ProxyError>) {
        if let Some(pool) = std::mem::take(&mut self.0).upgrade() {
            pool.connected(made);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.end(Err(ProxyError::new(ProxyErrorKind::ConnectionTerminated)));
    }
}

impl Pool {
    fn addresses(&self) -> Vec<IpAddr> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.connections.addresses().collect()
    }
}

/// Runs while there are connections, so that idle ones are closed without traffic, too.
async fn sweep(pool: Weak<Pool>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        match pool.upgrade() {
            Some(pool) if pool.expire() => {}
            _ => return,
        }
    }
}

const SHORTEST_SWEEP: Duration = Duration::from_millis(10);
/// Per worker and backend.
pub(crate) const MOST_CONNECTIONS: usize = 256;
/// Requests that wait for a stream, per worker and backend.
pub(crate) const MOST_WAITING: usize = 4096;
/// After a connection that could not be made while others work.
const CONNECT_AGAIN: Duration = Duration::from_millis(250);
/// After an address that could not be connected to while others work.
const SPREAD_AGAIN: Duration = Duration::from_secs(10);
