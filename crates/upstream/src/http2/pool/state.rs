//! The connections of a pool, the requests that wait for a stream, and which request gets which stream.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::http2::connection::{Connection, STREAMS};
use crate::http2::connections::{ConnectionId, Connections, STREAM_IDS, Taken};
use crate::http2::wire::{Reservation, Traffic};

/// The state of a pool whose waiting requests get an answer of the type `T`.
pub(super) struct State<T> {
    pub(super) connections: Connections<Arc<Connection>>,
    /// How many connections are being made.
    pub(super) connecting: usize,
    /// No connection is made before that while there are usable ones.
    pub(super) connect_after: Option<Instant>,
    pub(super) waiting: VecDeque<Waiting<T>>,
    /// How many requests a connection has processed before it left others unprocessed, and until when others are held to
    /// the same number. Otherwise, half of a burst would have to be sent again.
    request_limit: Option<(NonZeroU32, Instant)>,
    /// How many streams the last connection allowed.
    pub(super) streams: usize,
    /// The windows of the last connection.
    pub(super) traffic: Option<Arc<Traffic>>,
    /// What the backend's name stood for last.
    pub(super) addresses: Vec<IpAddr>,
    /// When to connect to an address again that could not be connected to.
    pub(super) spread_after: Option<Instant>,
    /// Whether a task closes idle connections.
    pub(super) is_swept: bool,
}

/// A request that waits for a stream.
pub(super) struct Waiting<T> {
    pub(super) sender: oneshot::Sender<T>,
    pub(super) refused_by: Option<ConnectionId>,
    pub(super) content: Option<u64>,
}

/// A stream that was taken for a request.
pub(super) struct Grant {
    pub(super) taken: Taken<Arc<Connection>>,
    pub(super) reservation: Option<Arc<Reservation>>,
}

/// Which connections may take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// Those that are expected to process the request, and whose send window no other request can use up.
    Strict,
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
            is_swept: false,
        }
    }
}

impl<T> State<T> {
    /// Takes a stream for a request with `content` bytes.
    pub(super) fn take(
        &mut self,
        refused_by: Option<ConnectionId>,
        content: Option<u64>,
        selection: Selection,
    ) -> Option<Grant> {
        let fits = |connection: &Arc<Connection>| {
            selection == Selection::Any || content.is_none_or(|content| connection.traffic.has_room(content))
        };
        let now = Instant::now();
        let taken = match selection {
            Selection::Strict => self.connections.take(refused_by, self.request_limit(now), now, fits),
            Selection::Any => self.connections.take(None, STREAM_IDS, now, fits),
        }?;
        let reservation = content.map(|content| Arc::new(taken.connection.traffic.reserve(content)));
        Some(Grant { taken, reservation })
    }

    /// Takes streams for requests that wait.
    pub(super) fn give(&mut self, selection: Selection) -> Vec<(Waiting<T>, Grant)> {
        let mut given = Vec::new();
        let (mut index, mut too_large) = (0, None);
        while let Some(waiting) = self.waiting.get(index) {
            let (refused_by, content) = (waiting.refused_by, waiting.content);
            if waiting.sender.is_closed() {
                self.waiting.remove(index);
                continue;
            }
            if !self.connections.has_free_stream() {
                break;
            }
            // Where less content has found no room, more will not.
            let grant = match content {
                Some(content) if refused_by.is_none() && too_large.is_some_and(|too_large| content >= too_large) => {
                    None
                }
                _ => self.take(refused_by, content, selection),
            };
            match grant {
                Some(grant) => given.extend(self.waiting.remove(index).map(|waiting| (waiting, grant))),
                None => {
                    if let (Some(content), None) = (content, refused_by) {
                        too_large = Some(too_large.map_or(content, |least: u64| least.min(content)));
                    }
                    index += 1;
                }
            }
        }
        given
    }

    /// How many more connections are needed; they count as begun.
    pub(super) fn begin_connects(&mut self, now: impl FnOnce() -> Instant) -> usize {
        if self.connections_for_waiting() <= self.connecting {
            return 0;
        }
        self.waiting.retain(|waiting| !waiting.sender.is_closed());
        let missing = self.connections_for_waiting().saturating_sub(self.connecting);
        let has_usable = self.connections.has_usable();
        if missing == 0
            // The next one would get no streams, either.
            || self.connections.has_closed_door()
            || has_usable && self.connect_after.is_some_and(|after| now() < after)
        {
            return 0;
        }
        let room = MOST_CONNECTIONS.saturating_sub(self.connections.len() + self.connecting);
        let count = missing.min(room);
        self.connecting += count;
        count
    }

    /// How many connections like the last one the requests that wait would need.
    fn connections_for_waiting(&self) -> usize {
        let for_streams = self.waiting.len().div_ceil(self.streams_each());
        let Some(traffic) = &self.traffic else { return for_streams };
        let content: u64 =
            self.waiting.iter().filter_map(|waiting| waiting.content).map(|content| traffic.window_use(content)).sum();
        let for_windows = content.div_ceil(traffic.largest_send_window().max(1));
        for_streams.max(usize::try_from(for_windows).unwrap_or(usize::MAX))
    }

    /// How many streams a new connection is good for.
    fn streams_each(&self) -> usize {
        let streams = if self.streams == 0 { STREAMS } else { self.streams };
        streams.min(self.request_limit(Instant::now()) as usize)
    }

    /// Notes that a connection has processed this many requests, and has left others unprocessed.
    pub(super) fn set_request_limit(&mut self, limit: NonZeroU32, now: Instant) {
        self.request_limit = Some((limit, now + REQUEST_LIMIT_TTL));
    }

    /// How many requests a backend processes on one connection, as far as that is known.
    fn request_limit(&self, now: Instant) -> u32 {
        match self.request_limit {
            Some((limit, until)) if now < until => limit.get(),
            _ => STREAM_IDS,
        }
    }

    /// Whether to connect to an address that has no connection, though the others are not used up. It counts as begun.
    pub(super) fn begin_spread(&mut self, now: Instant) -> bool {
        if self.addresses.len() < 2 || self.connecting > 0 || self.spread_after.is_some_and(|after| now < after) {
            return false;
        }
        let is_missing = self.addresses.iter().any(|ip| self.connections.addresses().all(|other| other != *ip));
        let begins = is_missing && self.connections.len() < MOST_CONNECTIONS;
        self.connecting += usize::from(begins);
        begins
    }
}

/// How long the number of requests on each connection is limited: it may be that the backend ended one by chance.
const REQUEST_LIMIT_TTL: Duration = Duration::from_secs(10);
/// How many connections a worker has to a backend.
const MOST_CONNECTIONS: usize = 256;
