//! The state of an HTTP/2 pool: connections, waiting requests, and the assignment of streams.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::http2::connection::{Connection, MAX_STREAMS};
use crate::http2::connections::{ConnectionId, Connections, MAX_STREAM_IDS, TakenStream};
use crate::http2::observed_socket::{Reservation, Traffic};

/// The state of an HTTP/2 pool. `T` is the result for a waiting request.
pub(super) struct State<T> {
    pub(super) connections: Connections<Arc<Connection>>,
    /// The number of pending connection attempts to the backend.
    pub(super) connecting: usize,
    /// The earliest time to open a new connection while other connections are usable.
    pub(super) connect_after: Option<Instant>,
    /// The queue of requests that wait for a stream.
    pub(super) waiting: VecDeque<Waiting<T>>,
    /// The learned limit on requests per connection and its expiry, after a connection left requests unprocessed.
    ///
    /// The limit applies to all connections. Otherwise a part of each burst would be sent again.
    request_limit: Option<(NonZeroU32, Instant)>,
    /// The number of concurrent streams that the most recent connection allowed.
    pub(super) streams: usize,
    /// The observed flow-control windows of the most recent connection.
    pub(super) traffic: Option<Arc<Traffic>>,
    /// The addresses of the backend, as resolved for the most recent connection.
    pub(super) addresses: Vec<IpAddr>,
    /// The earliest time of the next connection attempt to an additional address.
    pub(super) spread_after: Option<Instant>,
    /// Whether a task is running that closes idle connections.
    pub(super) has_sweeper: bool,
}

/// A request that waits for a stream.
pub(super) struct Waiting<T> {
    pub(super) sender: oneshot::Sender<T>,
    pub(super) avoided: Option<ConnectionId>,
    pub(super) content: Option<u64>,
}

/// A stream that was granted to a request.
pub(super) struct Grant {
    pub(super) taken: TakenStream<Arc<Connection>>,
    pub(super) reservation: Option<Arc<Reservation>>,
}

/// The connections that are eligible for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// Connections that are expected to process the request and have room in their send window.
    Strict,
    /// All connections of the pool.
    Any,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            connections: Connections::default(),
            connecting: 0,
            connect_after: None,
            waiting: VecDeque::new(),
            request_limit: None,
            streams: 0,
            traffic: None,
            addresses: Vec::new(),
            spread_after: None,
            has_sweeper: false,
        }
    }
}

impl<T> State<T> {
    /// Reserves a stream for a request whose body has `content` bytes.
    pub(super) fn take(
        &mut self,
        avoided: Option<ConnectionId>,
        content: Option<u64>,
        selection: Selection,
    ) -> Option<Grant> {
        let fits = |connection: &Arc<Connection>| {
            selection == Selection::Any || content.is_none_or(|content| connection.traffic.has_room(content))
        };
        let now = Instant::now();
        let taken = match selection {
            Selection::Strict => self.connections.take(avoided, self.request_limit(now), now, fits),
            Selection::Any => self.connections.take(None, MAX_STREAM_IDS, now, fits),
        }?;
        let reservation = content.map(|content| Arc::new(taken.connection.traffic.reserve(content)));
        Some(Grant { taken, reservation })
    }

    /// Grants streams to the waiting requests.
    pub(super) fn grant_streams(&mut self, selection: Selection) -> Vec<(Waiting<T>, Grant)> {
        let mut grants = Vec::new();
        let (mut index, mut too_large) = (0, None);
        while let Some(waiting) = self.waiting.get(index) {
            let (avoided, content) = (waiting.avoided, waiting.content);
            if waiting.sender.is_closed() {
                self.waiting.remove(index);
                continue;
            }
            if !self.connections.has_free_stream() {
                break;
            }
            // If there is no room for less content, there is none for more.
            let grant = match content {
                Some(content) if avoided.is_none() && too_large.is_some_and(|too_large| content >= too_large) => None,
                _ => self.take(avoided, content, selection),
            };
            match grant {
                Some(grant) => grants.extend(self.waiting.remove(index).map(|waiting| (waiting, grant))),
                None => {
                    if let (Some(content), None) = (content, avoided) {
                        too_large = Some(too_large.map_or(content, |least: u64| least.min(content)));
                    }
                    index += 1;
                }
            }
        }
        grants
    }

    /// Returns the number of connections to open, and counts their attempts as pending.
    pub(super) fn begin_connects(&mut self, now: impl FnOnce() -> Instant) -> usize {
        if self.connections_for_waiting() <= self.connecting {
            return 0;
        }
        self.waiting.retain(|waiting| !waiting.sender.is_closed());
        let missing = self.connections_for_waiting().saturating_sub(self.connecting);
        let has_usable = self.connections.has_usable();
        if missing == 0
            // A new connection would have the same limit.
            || self.connections.has_zero_limit()
            || has_usable && self.connect_after.is_some_and(|after| now() < after)
        {
            return 0;
        }
        let room = MAX_CONNECTIONS.saturating_sub(self.connections.len() + self.connecting);
        let count = missing.min(room);
        self.connecting += count;
        count
    }

    /// Returns the number of new connections that the waiting requests need, estimated from the most recent connection.
    fn connections_for_waiting(&self) -> usize {
        let for_streams = self.waiting.len().div_ceil(self.streams_each());
        let Some(traffic) = &self.traffic else { return for_streams };
        let content: u64 =
            self.waiting.iter().filter_map(|waiting| waiting.content).map(|content| traffic.window_use(content)).sum();
        let for_windows = content.div_ceil(traffic.largest_send_window().max(1));
        for_streams.max(usize::try_from(for_windows).unwrap_or(usize::MAX))
    }

    /// Returns the number of streams that a new connection is expected to allow.
    fn streams_each(&self) -> usize {
        let streams = if self.streams == 0 { MAX_STREAMS } else { self.streams };
        streams.min(self.request_limit(Instant::now()) as usize)
    }

    /// Records the number of requests that a connection processed before it left others unprocessed.
    pub(super) fn set_request_limit(&mut self, limit: NonZeroU32, now: Instant) {
        self.request_limit = Some((limit, now + REQUEST_LIMIT_TTL));
    }

    /// Returns the known limit on requests per connection.
    fn request_limit(&self, now: Instant) -> u32 {
        match self.request_limit {
            Some((limit, until)) if now < until => limit.get(),
            _ => MAX_STREAM_IDS,
        }
    }

    /// Returns whether to connect to an additional address, and counts the attempt as pending.
    pub(super) fn begin_spread(&mut self, now: Instant) -> bool {
        if self.addresses.len() < 2 || self.connecting > 0 || self.spread_after.is_some_and(|after| now < after) {
            return false;
        }
        let is_missing = self.addresses.iter().any(|ip| self.connections.addresses().all(|other| other != *ip));
        let begins = is_missing && self.connections.len() < MAX_CONNECTIONS;
        self.connecting += usize::from(begins);
        begins
    }
}

/// The time after which a learned limit on requests per connection expires. The backend may have closed one by chance.
const REQUEST_LIMIT_TTL: Duration = Duration::from_secs(10);
/// The maximum number of HTTP/2 connections of a worker to a backend.
const MAX_CONNECTIONS: usize = 256;
