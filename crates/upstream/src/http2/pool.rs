//! The HTTP/2 connections of one worker to one backend, and the requests that wait for a stream on one of them.

mod connect;
mod state;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use self::connect::{Made, Ready, make, make_elsewhere};
use self::state::{Grant, Selection, State, Waiting};
use super::connection::{Connection, Driver, handshake};
use super::connections::{ConnectionId, Taken};
use super::wire::Reservation;
use crate::budget::RetryBudget;
use crate::builder::Settings;
use crate::connect::Connected;
use crate::error::{ProxyError, ProxyErrorKind};
use crate::service::Member;

/// Connections that are made when the streams of the others are used up, and shared by all requests of a worker.
pub(crate) struct Pool {
    settings: Arc<Settings>,
    member: Arc<Member>,
    state: Mutex<State<Answer>>,
    /// Whether the backend chose HTTP/1.1 when it was last connected to.
    speaks_http1: AtomicBool,
}

/// What a request is sent on.
pub(crate) enum Acquired {
    Stream(Slot),
    /// The backend chose HTTP/1.1, on this connection if there is one.
    Http1(Option<Box<Connected>>),
}

/// What a request that waits is told.
type Answer = Result<Acquired, ProxyError>;

/// The right to one stream, returned when it is dropped.
pub(crate) struct Slot {
    pub(super) connection: Arc<Connection>,
    pub(super) id: ConnectionId,
    pub(super) is_first: bool,
    /// What the request may use up of the connection's send window; `None` if it has no content.
    pub(super) reservation: Option<Arc<Reservation>>,
    pool: Weak<Pool>,
}

impl Slot {
    /// For a connection that is in no pool.
    pub(super) fn alone(connection: Connection) -> Self {
        Self {
            connection: Arc::new(connection),
            id: ConnectionId::default(),
            is_first: true,
            reservation: None,
            pool: Weak::new(),
        }
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
        // Before the stream, so that a request that waits for both can have them.
        self.reservation = None;
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

    pub(super) fn budget(&self) -> &RetryBudget {
        &self.settings.budget
    }

    /// Whether the backend chose HTTP/1.1 when it was last connected to.
    pub(crate) fn speaks_http1(&self) -> bool {
        self.speaks_http1.load(Relaxed)
    }

    /// Takes a stream for a request with `content` bytes, on a connection that is made for it if the others are used up.
    ///
    /// A request that a connection did not process avoids that one, and comes before those that wait.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        refused_by: Option<ConnectionId>,
        content: Option<u64>,
    ) -> Result<Acquired, ProxyError> {
        let (mut grant, mut receiver) = (None, None);
        let is_spread = self.change(|state| {
            grant = state.take(refused_by, content, Selection::Strict);
            if grant.is_some() {
                return state.begin_spread(Instant::now());
            }
            if state.waiting.len() >= MOST_WAITING {
                state.waiting.retain(|waiting| !waiting.sender.is_closed());
            }
            if state.waiting.len() < MOST_WAITING {
                let (sender, granted) = oneshot::channel();
                let waiting = Waiting { sender, refused_by, content };
                match refused_by {
                    Some(_) => state.waiting.push_front(waiting),
                    None => state.waiting.push_back(waiting),
                }
                receiver = Some(granted);
            }
            false
        });
        if is_spread {
            tokio::spawn(spread(Arc::downgrade(self)));
        }
        if let Some(grant) = grant {
            return Ok(Acquired::Stream(self.slot(grant)));
        }
        let mut receiver = receiver.ok_or_else(|| ProxyError::new(ProxyErrorKind::ConnectionLimitReached))?;
        // Attempts to connect have a shorter timeout of their own.
        let mut patience = self.settings.queue_timeout.max(self.settings.connector.timeout);
        if content.is_some() && patience > SHARE_AFTER {
            if let Ok(acquired) = timeout(SHARE_AFTER, &mut receiver).await {
                return acquired.unwrap_or_else(|_| Err(ProxyError::new(ProxyErrorKind::ConnectionLimitReached)));
            }
            if let Some(grant) = self.change(|state| state.take(refused_by, content, Selection::Any)) {
                return Ok(Acquired::Stream(self.slot(grant)));
            }
            patience -= SHARE_AFTER;
        }
        match timeout(patience, receiver).await {
            Ok(Ok(acquired)) => acquired,
            Ok(Err(_)) | Err(_) => Err(ProxyError::new(ProxyErrorKind::ConnectionLimitReached)),
        }
    }

    /// Adds a connection on which the backend chose HTTP/2, and takes a stream for a request with `content` bytes.
    pub(crate) async fn adopt(
        self: &Arc<Self>,
        connected: Connected,
        content: Option<u64>,
    ) -> Result<Slot, ProxyError> {
        let Connected { socket, until, address, addresses, .. } = connected;
        let (connection, driver) = match timeout(self.settings.connector.timeout, handshake(socket)).await {
            Ok(done) => done?,
            Err(_) => return Err(ProxyError::new(ProxyErrorKind::ConnectionTimeout)),
        };
        self.speaks_http1.store(false, Relaxed);
        let grant = self.change(|state| {
            self.add(state, connection, driver, until, address, addresses);
            let separate = state.take(None, content, Selection::Strict);
            separate.or_else(|| state.take(None, content, Selection::Any))
        });
        match grant {
            Some(grant) => Ok(self.slot(grant)),
            None => Err(ProxyError::new(ProxyErrorKind::ConnectionLimitReached)),
        }
    }

    fn add(
        self: &Arc<Self>,
        state: &mut State<Answer>,
        connection: Connection,
        driver: Driver,
        until: Option<Instant>,
        address: Option<IpAddr>,
        addresses: Vec<IpAddr>,
    ) {
        state.streams = driver.limit();
        state.traffic = Some(Arc::clone(&connection.traffic));
        state.addresses = addresses;
        let id = state.connections.add(Arc::new(connection), address, until, driver.limit(), Instant::now());
        tokio::spawn(driver.run(Arc::downgrade(self), id, self.settings.http2_ping_interval));
        if !std::mem::replace(&mut state.is_swept, true) {
            let every = (self.settings.idle_timeout / 2).max(SHORTEST_SWEEP);
            tokio::spawn(sweep(Arc::downgrade(self), every));
        }
    }

    /// The addresses that have a connection.
    fn addresses(&self) -> Vec<IpAddr> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.connections.addresses().collect()
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

    /// Notes that a connection has processed this many requests, and has left others unprocessed.
    pub(super) fn set_request_limit(self: &Arc<Self>, limit: NonZeroU32) {
        self.change(|state| state.set_request_limit(limit, Instant::now()));
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
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State<Answer>) -> T) -> T {
        let (changed, given, connects) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = change(&mut state);
            let mut given = state.give(Selection::Strict);
            let connects = state.begin_connects(Instant::now);
            if state.connecting == 0 {
                // No further connection can be had for now.
                given.append(&mut state.give(Selection::Any));
            }
            (changed, given, connects)
        };
        for (waiting, grant) in given {
            // One that is gone drops the stream, which comes back here.
            let _ = waiting.sender.send(Ok(Acquired::Stream(self.slot(grant))));
        }
        for _ in 0..connects {
            tokio::spawn(connect(Arc::downgrade(self)));
        }
        changed
    }

    fn slot(self: &Arc<Self>, grant: Grant) -> Slot {
        let Grant { taken: Taken { id, connection, is_first }, reservation } = grant;
        Slot { connection, id, is_first, reservation, pool: Arc::downgrade(self) }
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
                    let waiting = state.waiting.drain(..).filter(|waiting| !waiting.sender.is_closed());
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
            let _ = waiting.sender.send(answer.map(Acquired::Http1));
        }
    }
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

/// Connects to an address that has no connection, so that each gets its share of the requests.
async fn spread(pool: Weak<Pool>) {
    let Some(strong) = pool.upgrade() else { return };
    let have = strong.addresses();
    let (settings, member) = (Arc::clone(&strong.settings), Arc::clone(&strong.member));
    drop(strong);
    let mut begun = Begun(pool);
    match make_elsewhere(&settings, &member, &have).await {
        Ok(Some(made)) => begun.end(Ok(made)),
        Ok(None) | Err(_) => {
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

/// After an address that could not be connected to while others work.
const SPREAD_AGAIN: Duration = Duration::from_secs(10);
const SHORTEST_SWEEP: Duration = Duration::from_millis(10);
/// Requests that wait for a stream, per worker and backend.
const MOST_WAITING: usize = 4096;
/// How long a request waits for a connection whose send window no other request can use up.
const SHARE_AFTER: Duration = Duration::from_secs(1);
/// After a connection that could not be made while others work.
const CONNECT_AGAIN: Duration = Duration::from_millis(250);

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
    use crate::body::RequestBody;
    use crate::deadline::Patience;
    use crate::http2::{Sent, send};

    /// A backend that answers every request with an empty 200, and the number of its connections.
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

    /// RFC 9113 §5.1.1.
    #[tokio::test]
    async fn opens_another_connection_when_the_stream_ids_run_out() {
        let (address, connections) = backend().await;
        let upstream: Upstream<Empty<Bytes>> =
            Upstream::builder().backend(&format!("h2c://{address}")).unwrap().build().unwrap();
        let pool = Arc::clone(&upstream.worker.links[0].http2);
        let patience = Patience { head: Duration::from_secs(5), silence: Duration::from_secs(5), until: None };
        for number in 1..=5 {
            if number == 2 {
                pool.change(|state| state.connections.skip_stream_ids(2));
            }
            let mut request =
                Request::post(format!("http://{address}/")).body(RequestBody::<Empty<Bytes>>::empty()).unwrap();
            *request.version_mut() = Version::HTTP_2;
            let sent = send(&pool, &mut request, patience, None).await;
            assert!(matches!(sent, Ok(Sent::Response(_))), "request {number}");
            assert_eq!(connections.load(SeqCst), if number <= 3 { 1 } else { 2 }, "request {number}");
        }
    }
}
