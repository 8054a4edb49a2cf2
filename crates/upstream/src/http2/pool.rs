//! The pool of HTTP/2 connections of one worker to one backend, and the requests that wait for a stream.

mod connect;
mod state;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use self::connect::{ConnectOutcome, NewConnection, connect, connect_to_new_address};
use self::state::{Grant, Selection, State, Waiting};
use super::connection::{Connection, ConnectionChange, Driver, handshake};
use super::connections::{ConnectionId, TakenStream};
use super::observed_socket::Reservation;
use crate::backend_state::BackendState;
use crate::connector::Connected;
use crate::error::{ProxyError, ProxyErrorKind};
use crate::retry_budget::RetryBudget;
use crate::settings::Settings;

/// A pool of HTTP/2 connections to one backend, shared by all requests of a worker. Connections are opened when more
/// streams are needed.
pub(crate) struct Pool {
    settings: Arc<Settings>,
    backend: Arc<BackendState>,
    state: Mutex<State<AcquireResult>>,
    /// Whether the backend selected HTTP/1.1 on the most recent connection.
    is_http1: AtomicBool,
}

/// An acquired HTTP/2 stream or HTTP/1.1 connection for a request.
pub(crate) enum Acquired {
    Stream(StreamPermit),
    /// The backend selected HTTP/1.1; contains the connection for one of the requests.
    Http1(Option<Box<Connected>>),
}

/// The result that is sent to a waiting request.
type AcquireResult = Result<Acquired, ProxyError>;

/// A permit to open one stream, which is released when the permit is dropped.
pub(crate) struct StreamPermit {
    pub(super) connection: Arc<Connection>,
    pub(super) id: ConnectionId,
    pub(super) is_first: bool,
    /// The part of the send window that is reserved for the request. `None` if it has no content.
    pub(super) reservation: Option<Arc<Reservation>>,
    pool: Weak<Pool>,
}

impl StreamPermit {
    /// Creates a permit for a connection that does not belong to a pool.
    pub(super) fn unpooled(connection: Connection) -> Self {
        Self {
            connection: Arc::new(connection),
            id: ConnectionId::default(),
            is_first: true,
            reservation: None,
            pool: Weak::new(),
        }
    }

    /// Marks the connection as draining, so that no more streams are opened on it.
    pub(super) fn drain(&self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.drain(self.id);
        }
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        // Released before the stream, so that a waiting request can get both.
        self.reservation = None;
        if let Some(pool) = self.pool.upgrade() {
            // The connection is dropped after the lock is released.
            let _done = pool.change(|state| state.connections.release(self.id, Instant::now()));
        }
    }
}

impl Pool {
    pub(crate) fn new(settings: Arc<Settings>, backend: Arc<BackendState>) -> Arc<Self> {
        Arc::new(Self { settings, backend, state: Mutex::default(), is_http1: AtomicBool::new(false) })
    }

    pub(super) fn budget(&self) -> &RetryBudget {
        &self.settings.budget
    }

    /// Returns whether the backend selected HTTP/1.1 on the most recent connection.
    pub(crate) fn is_http1(&self) -> bool {
        self.is_http1.load(Relaxed)
    }

    /// Acquires a stream for a request with `content` bytes. If none is available, connections are opened.
    ///
    /// A request that connection `avoided` did not process is sent on another one, before other waiting requests.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        avoided: Option<ConnectionId>,
        content: Option<u64>,
    ) -> Result<Acquired, ProxyError> {
        let (mut grant, mut receiver) = (None, None);
        let is_spread = self.change(|state| {
            grant = state.take(avoided, content, Selection::Strict);
            if grant.is_some() {
                return state.begin_spread(Instant::now());
            }
            if state.waiting.len() >= MAX_WAITING {
                state.waiting.retain(|waiting| !waiting.sender.is_closed());
            }
            if state.waiting.len() < MAX_WAITING {
                let (sender, granted) = oneshot::channel();
                let waiting = Waiting { sender, avoided, content };
                match avoided {
                    Some(_) => state.waiting.push_front(waiting),
                    None => state.waiting.push_back(waiting),
                }
                receiver = Some(granted);
            }
            false
        });
        if is_spread {
            tokio::spawn(spread_task(Arc::downgrade(self)));
        }
        if let Some(grant) = grant {
            return Ok(Acquired::Stream(self.permit(grant)));
        }
        let mut receiver = receiver.ok_or_else(|| ProxyError::new(ProxyErrorKind::ConnectionLimitReached))?;
        // Connects have a separate, shorter timeout.
        let mut wait = self.settings.queue_timeout.max(self.settings.connector.timeout);
        if content.is_some() && wait > SHARE_AFTER {
            if let Ok(acquired) = timeout(SHARE_AFTER, &mut receiver).await {
                return acquired.unwrap_or_else(|_| Err(ProxyError::new(ProxyErrorKind::ConnectionLimitReached)));
            }
            if let Some(grant) = self.change(|state| state.take(avoided, content, Selection::Any)) {
                return Ok(Acquired::Stream(self.permit(grant)));
            }
            wait -= SHARE_AFTER;
        }
        match timeout(wait, receiver).await {
            Ok(Ok(acquired)) => acquired,
            Ok(Err(_)) | Err(_) => Err(ProxyError::new(ProxyErrorKind::ConnectionLimitReached)),
        }
    }

    /// Adds an HTTP/2 connection to the pool, and acquires a stream for a request with `content` bytes.
    pub(crate) async fn add_connection(
        self: &Arc<Self>,
        connected: Connected,
        content: Option<u64>,
    ) -> Result<StreamPermit, ProxyError> {
        let Connected { socket, expires, address, addresses, .. } = connected;
        let (connection, driver) = match timeout(self.settings.connector.timeout, handshake(socket)).await {
            Ok(done) => done?,
            Err(_) => return Err(ProxyError::new(ProxyErrorKind::ConnectionTimeout)),
        };
        self.is_http1.store(false, Relaxed);
        let grant = self.change(|state| {
            self.add(state, connection, driver, expires, address, addresses);
            let separate = state.take(None, content, Selection::Strict);
            separate.or_else(|| state.take(None, content, Selection::Any))
        });
        match grant {
            Some(grant) => Ok(self.permit(grant)),
            None => Err(ProxyError::new(ProxyErrorKind::ConnectionLimitReached)),
        }
    }

    /// Adds a connection to the pool, and spawns the task that drives it.
    fn add(
        self: &Arc<Self>,
        state: &mut State<AcquireResult>,
        connection: Connection,
        driver: Driver,
        expires: Option<Instant>,
        address: Option<IpAddr>,
        addresses: Vec<IpAddr>,
    ) {
        state.streams = driver.limit();
        state.traffic = Some(Arc::clone(&connection.traffic));
        state.addresses = addresses;
        let id = state.connections.add(Arc::new(connection), address, expires, driver.limit(), Instant::now());
        // A strong reference would keep an unused pool.
        let pool = Arc::downgrade(self);
        tokio::spawn(driver.run(self.settings.http2_ping_interval, move |change| {
            if let Some(pool) = pool.upgrade() {
                pool.apply(id, change);
            }
        }));
        if !std::mem::replace(&mut state.has_sweeper, true) {
            let every = (self.settings.idle_timeout / 2).max(MIN_SWEEP_INTERVAL);
            tokio::spawn(sweep(Arc::downgrade(self), every));
        }
    }

    /// Returns the backend addresses to which connections are open.
    fn addresses(&self) -> Vec<IpAddr> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.connections.addresses().collect()
    }

    /// Applies a change of a connection to the pool.
    fn apply(self: &Arc<Self>, id: ConnectionId, change: ConnectionChange) {
        match change {
            ConnectionChange::Draining => self.drain(id),
            ConnectionChange::StreamLimit(limit) => self.change(|state| state.connections.set_limit(id, limit)),
            ConnectionChange::Closed => {
                // The connection is dropped after the lock is released.
                let _done = self.change(|state| state.connections.remove(id));
            }
        }
    }

    /// Stops opening streams on a connection.
    pub(super) fn drain(self: &Arc<Self>, id: ConnectionId) {
        let _done = self.change(|state| state.connections.drain(id));
    }

    /// Records that a connection processed only `limit` requests and left others unprocessed.
    pub(super) fn set_request_limit(self: &Arc<Self>, limit: NonZeroU32) {
        self.change(|state| state.set_request_limit(limit, Instant::now()));
    }

    /// Closes the connections whose idle timeout has expired. Returns whether there are others.
    fn expire(self: &Arc<Self>) -> bool {
        let mut is_left = false;
        let _done = self.change(|state| {
            let done = state.connections.expire(self.settings.idle_timeout, Instant::now());
            is_left = !state.connections.is_empty();
            state.has_sweeper = is_left;
            done
        });
        is_left
    }

    /// Applies `change` to the state of the pool. Then grants available streams to waiting requests, and opens
    /// connections for the others.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State<AcquireResult>) -> T) -> T {
        let (changed, grants, connects) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = change(&mut state);
            let mut grants = state.grant_streams(Selection::Strict);
            let connects = state.begin_connects(Instant::now);
            if state.connecting == 0 {
                // No further connection can be opened now.
                grants.append(&mut state.grant_streams(Selection::Any));
            }
            (changed, grants, connects)
        };
        for (waiting, grant) in grants {
            // If the request was cancelled, the permit is dropped and released.
            let _ = waiting.sender.send(Ok(Acquired::Stream(self.permit(grant))));
        }
        for _ in 0..connects {
            tokio::spawn(connect_task(Arc::downgrade(self)));
        }
        changed
    }

    /// Creates the permit for a stream that was granted to a request.
    fn permit(self: &Arc<Self>, grant: Grant) -> StreamPermit {
        let Grant { taken: TakenStream { id, connection, is_first }, reservation } = grant;
        StreamPermit { connection, id, is_first, reservation, pool: Arc::downgrade(self) }
    }

    /// Processes the outcome of a connection attempt.
    fn finish_connect(self: &Arc<Self>, connected: Result<ConnectOutcome, ProxyError>) {
        let mut results = Vec::new();
        self.change(|state| {
            state.connecting -= 1;
            match connected {
                Ok(ConnectOutcome::NoAddress) => {}
                Ok(ConnectOutcome::Http2(outcome)) => {
                    let NewConnection { connection, driver, expires, address, addresses } = *outcome;
                    self.is_http1.store(false, Relaxed);
                    self.add(state, connection, driver, expires, address, addresses);
                }
                Ok(ConnectOutcome::Http1(connected)) => {
                    self.is_http1.store(true, Relaxed);
                    let mut connected = Some(Box::new(connected));
                    let waiting = state.waiting.drain(..).filter(|waiting| !waiting.sender.is_closed());
                    results.extend(waiting.map(|waiting| (waiting, Ok(connected.take()))));
                }
                Err(_) if state.connections.has_usable() || state.connecting > 0 => {
                    state.connect_after = Some(Instant::now() + CONNECT_RETRY_DELAY);
                }
                Err(error) => {
                    results.extend(state.waiting.drain(..).map(|waiting| (waiting, Err(error.clone()))));
                }
            }
        });
        for (waiting, result) in results {
            let _ = waiting.sender.send(result.map(Acquired::Http1));
        }
    }
}

/// Opens a connection to the backend, even if the request that needed it is cancelled.
async fn connect_task(pool: Weak<Pool>) {
    let Some(strong) = pool.upgrade() else { return };
    let in_use = strong.addresses();
    let (settings, backend) = (Arc::clone(&strong.settings), Arc::clone(&strong.backend));
    // A strong reference would keep an unused pool.
    drop(strong);
    let mut pending = PendingConnect(pool);
    let mut outcome = connect(&settings, &backend, &in_use).await;
    // A restarting backend may accept a connection and close it. No request was sent on it.
    if matches!(&outcome, Err(error) if error.kind() == ProxyErrorKind::ConnectionTerminated) {
        outcome = connect(&settings, &backend, &in_use).await;
    }
    pending.finish(outcome);
}

/// Connects to a backend address that has no connection, so that all addresses receive requests.
async fn spread_task(pool: Weak<Pool>) {
    let Some(strong) = pool.upgrade() else { return };
    let in_use = strong.addresses();
    let (settings, backend) = (Arc::clone(&strong.settings), Arc::clone(&strong.backend));
    drop(strong);
    let mut pending = PendingConnect(pool);
    match connect_to_new_address(&settings, &backend, &in_use).await {
        Ok(Some(outcome)) => pending.finish(Ok(outcome)),
        Ok(None) | Err(_) => {
            if let Some(pool) = pending.0.upgrade() {
                pool.change(|state| state.spread_after = Some(Instant::now() + SPREAD_RETRY_DELAY));
            }
            pending.finish(Ok(ConnectOutcome::NoAddress));
        }
    }
}

/// A guard that counts a connection attempt as pending until it completes or its task ends.
struct PendingConnect(Weak<Pool>);

impl PendingConnect {
    fn finish(&mut self, outcome: Result<ConnectOutcome, ProxyError>) {
        if let Some(pool) = std::mem::take(&mut self.0).upgrade() {
            pool.finish_connect(outcome);
        }
    }
}

impl Drop for PendingConnect {
    fn drop(&mut self) {
        self.finish(Err(ProxyError::new(ProxyErrorKind::ConnectionTerminated)));
    }
}

/// Closes connections after the idle timeout, until the pool is empty.
async fn sweep(pool: Weak<Pool>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        match pool.upgrade() {
            Some(pool) if pool.expire() => {}
            _ => return,
        }
    }
}

/// The delay after a failed connection attempt to an additional address.
const SPREAD_RETRY_DELAY: Duration = Duration::from_secs(10);
/// The minimum time between two checks for idle connections.
const MIN_SWEEP_INTERVAL: Duration = Duration::from_millis(10);
/// The maximum number of requests that wait for a stream, per worker and backend.
const MAX_WAITING: usize = 4096;
/// The time after which a waiting request with content may share a connection's send window with other requests.
const SHARE_AFTER: Duration = Duration::from_secs(1);
/// The delay before the next connection attempt after a failed one, if other connections are usable.
const CONNECT_RETRY_DELAY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use bytes::Bytes;
    use http::{Request, Response, Version};
    use http_body_util::Empty;
    use tokio::net::TcpListener;

    use super::*;
    use crate::Upstream;
    use crate::http2::{SendOutcome, send};
    use crate::request_body::RequestBody;
    use crate::timeouts::Timeouts;

    /// Starts a backend that sends an empty 200 response to every request. Returns the number of its connections.
    async fn backend() -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, SeqCst);
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        respond.send_response(Response::new(()), true).unwrap();
                    }
                });
            }
        });
        (address, connections)
    }

    // RFC 9113 §5.1.1
    #[tokio::test]
    async fn opens_a_new_connection_when_the_stream_identifiers_are_exhausted() {
        let (address, connections) = backend().await;
        let upstream: Upstream<Empty<Bytes>> =
            Upstream::builder().backend(&format!("h2c://{address}")).unwrap().build().unwrap();
        let pool = Arc::clone(upstream.state.current().backends[0].http2(&upstream.state.settings));
        let timeouts = Timeouts { response_head: Duration::from_secs(5), read: Duration::from_secs(5), deadline: None };
        for number in 1..=5 {
            if number == 2 {
                pool.change(|state| state.connections.skip_stream_ids(2));
            }
            let mut request =
                Request::post(format!("http://{address}/")).body(RequestBody::<Empty<Bytes>>::empty()).unwrap();
            *request.version_mut() = Version::HTTP_2;
            let sent = send(&pool, &mut request, timeouts, None).await;
            assert!(matches!(sent, Ok(SendOutcome::Response(_))), "request {number}");
            assert_eq!(connections.load(SeqCst), if number <= 3 { 1 } else { 2 }, "request {number}");
        }
    }
}
