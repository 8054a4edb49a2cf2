//! The connections of an HTTP/2 pool, and the selection of a connection for the next stream.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// The connections of a pool, each of type `C` with the number of its streams.
#[derive(Debug)]
pub(super) struct Connections<C> {
    entries: Vec<Entry<C>>,
    next_id: u64,
    /// The index at which the next search begins, so that connections with equal load alternate.
    next_index: usize,
}

/// The identifier of a connection within its pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionId(u64);

/// A connection with the number of its streams.
#[derive(Debug)]
struct Entry<C> {
    id: ConnectionId,
    connection: C,
    address: Option<IpAddr>,
    /// The time after which no new streams are opened on the connection. `None` means no limit.
    expires: Option<Instant>,
    /// The maximum number of concurrent streams on the connection.
    limit: usize,
    in_flight: usize,
    /// The number of streams that were opened on the connection.
    opened: u32,
    /// Whether the connection is draining and accepts no new streams.
    is_draining: bool,
    idle_since: Instant,
}

/// A reserved stream on a connection, which the caller may open.
#[derive(Debug)]
pub(super) struct TakenStream<C> {
    pub(super) id: ConnectionId,
    pub(super) connection: C,
    /// Whether the stream is the first stream of its connection.
    pub(super) is_first: bool,
}

impl<C> Default for Connections<C> {
    fn default() -> Self {
        Self { entries: Vec::new(), next_id: 0, next_index: 0 }
    }
}

impl<C: Clone> Connections<C> {
    /// Adds a connection whose backend allows `limit` concurrent streams.
    pub(super) fn add(
        &mut self,
        connection: C,
        address: Option<IpAddr>,
        expires: Option<Instant>,
        limit: usize,
        now: Instant,
    ) -> ConnectionId {
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        self.entries.push(Entry {
            id,
            connection,
            address,
            expires,
            limit,
            in_flight: 0,
            opened: 0,
            is_draining: false,
            idle_since: now,
        });
        id
    }

    /// Reserves a stream on the connection with the fewest streams among those that `fits` accepts, except `avoided`.
    ///
    /// A connection with `max_opened` opened streams takes no new ones.
    pub(super) fn take(
        &mut self,
        avoided: Option<ConnectionId>,
        max_opened: u32,
        now: Instant,
        fits: impl Fn(&C) -> bool,
    ) -> Option<TakenStream<C>> {
        let count = self.entries.len();
        let mut best: Option<usize> = None;
        for step in 0..count {
            let index = (self.next_index + step) % count;
            let entry = &mut self.entries[index];
            entry.is_draining |= entry.opened >= MAX_STREAM_IDS || entry.expires.is_some_and(|expires| expires <= now);
            let is_full = entry.in_flight >= entry.limit || entry.opened >= max_opened;
            if entry.is_draining || is_full || Some(entry.id) == avoided {
                continue;
            }
            let entry = &self.entries[index];
            if best.is_none_or(|best| entry.in_flight < self.entries[best].in_flight) && fits(&entry.connection) {
                best = Some(index);
            }
        }
        let index = best?;
        self.next_index = index + 1;
        let entry = &mut self.entries[index];
        entry.in_flight += 1;
        let is_first = entry.opened == 0;
        entry.opened += 1;
        Some(TakenStream { id: entry.id, connection: entry.connection.clone(), is_first })
    }

    /// Releases a reserved stream of a connection. Returns the connection if it is draining and this was its last
    /// stream.
    pub(super) fn release(&mut self, id: ConnectionId, now: Instant) -> Option<C> {
        let entry = self.entry(id)?;
        entry.in_flight = entry.in_flight.saturating_sub(1);
        entry.idle_since = now;
        self.remove_drained(id)
    }

    /// Sets the maximum number of concurrent streams on a connection.
    pub(super) fn set_limit(&mut self, id: ConnectionId, limit: usize) {
        if let Some(entry) = self.entry(id) {
            entry.limit = limit;
        }
    }

    /// Marks a connection as draining, so that no more streams are opened on it. Returns it if it has no streams.
    pub(super) fn drain(&mut self, id: ConnectionId) -> Option<C> {
        self.entry(id)?.is_draining = true;
        self.remove_drained(id)
    }

    /// Removes a connection if it is draining and has no streams.
    fn remove_drained(&mut self, id: ConnectionId) -> Option<C> {
        let index =
            self.entries.iter().position(|entry| entry.id == id && entry.is_draining && entry.in_flight == 0)?;
        Some(self.entries.swap_remove(index).connection)
    }

    /// Removes a connection that was closed.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<C> {
        let index = self.entries.iter().position(|entry| entry.id == id)?;
        Some(self.entries.swap_remove(index).connection)
    }

    /// Removes connections whose idle timeout has expired, and draining connections without streams.
    pub(super) fn expire(&mut self, idle_timeout: Duration, now: Instant) -> Vec<C> {
        let is_expired = |entry: &mut Entry<C>| {
            let is_over = entry.is_draining || entry.expires.is_some_and(|expires| expires <= now);
            entry.in_flight == 0 && (is_over || now.duration_since(entry.idle_since) >= idle_timeout)
        };
        self.entries.extract_if(.., is_expired).map(|entry| entry.connection).collect()
    }

    fn entry(&mut self, id: ConnectionId) -> Option<&mut Entry<C>> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }
}

impl<C> Connections<C> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether any connection can accept a stream now.
    pub(super) fn has_free_stream(&self) -> bool {
        self.entries.iter().any(|entry| !entry.is_draining && entry.in_flight < entry.limit)
    }

    /// Returns whether any connection can accept a stream now or later.
    pub(super) fn has_usable(&self) -> bool {
        self.entries.iter().any(|entry| !entry.is_draining && entry.limit > 0)
    }

    /// Returns whether the backend allows no streams on a connection, possibly temporarily (RFC 9113 §6.5.2).
    pub(super) fn has_zero_limit(&self) -> bool {
        self.entries.iter().any(|entry| !entry.is_draining && entry.limit == 0)
    }

    /// Returns the backend addresses to which connections are open.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.entries.iter().filter(|entry| !entry.is_draining).filter_map(|entry| entry.address)
    }
}

/// The number of stream identifiers that are available to a connection (RFC 9113 §5.1.1).
pub(super) const MAX_STREAM_IDS: u32 = 1 << 30;

#[cfg(test)]
impl<C> Connections<C> {
    /// Reduces the unused stream identifiers of each connection to `left`, for tests.
    pub(super) fn skip_stream_ids(&mut self, left: u32) {
        self.entries.iter_mut().for_each(|entry| entry.opened = MAX_STREAM_IDS - left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn taken(connections: &mut Connections<char>, now: Instant) -> Option<char> {
        connections.take(None, u32::MAX, now, |_| true).map(|taken| taken.connection)
    }

    #[test]
    fn distributes_streams_evenly_up_to_the_stream_limit_of_each_connection() {
        let now = Instant::now();
        let mut connections = Connections::default();
        connections.add('a', None, None, 2, now);
        connections.add('b', None, None, 1, now);
        let order: String = (0..3).filter_map(|_| taken(&mut connections, now)).collect();
        assert_eq!(order, "aba");
        assert!(taken(&mut connections, now).is_none());
    }

    #[test]
    fn skips_http2_connections_that_the_filter_rejects() {
        let now = Instant::now();
        let mut connections = Connections::default();
        connections.add('a', None, None, 9, now);
        connections.add('b', None, None, 9, now);
        for _ in 0..3 {
            assert_eq!(connections.take(None, u32::MAX, now, |connection| *connection == 'b').unwrap().connection, 'b');
        }
        assert!(connections.take(None, u32::MAX, now, |_| false).is_none());
    }

    #[test]
    fn releasing_a_stream_makes_room_for_a_new_stream() {
        let now = Instant::now();
        let mut connections = Connections::default();
        connections.add('a', None, None, 1, now);
        let first = connections.take(None, u32::MAX, now, |_| true).unwrap();
        assert!(first.is_first);
        assert!(connections.release(first.id, now).is_none());
        assert!(!connections.take(None, u32::MAX, now, |_| true).unwrap().is_first);
    }

    #[test]
    fn retry_does_not_use_the_connection_that_left_the_request_unprocessed() {
        let now = Instant::now();
        let mut connections = Connections::default();
        let only = connections.add('a', None, None, 9, now);
        assert!(connections.take(Some(only), u32::MAX, now, |_| true).is_none());
        connections.add('b', None, None, 9, now);
        assert_eq!(connections.take(Some(only), u32::MAX, now, |_| true).unwrap().connection, 'b');
    }

    #[test]
    fn skips_an_http2_connection_that_has_opened_its_maximum_number_of_streams() {
        let now = Instant::now();
        let mut connections = Connections::default();
        let id = connections.add('a', None, None, 9, now);
        for _ in 0..2 {
            assert!(connections.take(None, 2, now, |_| true).is_some());
            assert!(connections.release(id, now).is_none());
        }
        assert!(connections.take(None, 2, now, |_| true).is_none());
        assert!(connections.take(None, 3, now, |_| true).is_some());
    }

    #[test]
    fn removes_a_draining_connection_after_its_last_stream() {
        let now = Instant::now();
        let mut connections = Connections::default();
        let id = connections.add('a', None, None, 9, now);
        taken(&mut connections, now);
        assert!(connections.drain(id).is_none(), "a stream is in flight");
        assert!(taken(&mut connections, now).is_none());
        assert!(!connections.has_usable());
        assert_eq!(connections.release(id, now), Some('a'));
        assert!(connections.is_empty());
    }

    #[test]
    fn opens_no_stream_on_a_connection_whose_dns_ttl_has_expired() {
        let now = Instant::now();
        let mut connections = Connections::default();
        connections.add('a', None, Some(now + MINUTE), 9, now);
        assert!(taken(&mut connections, now).is_some());
        assert!(taken(&mut connections, now + MINUTE).is_none());
    }

    #[test]
    fn closes_only_idle_connections_after_the_idle_timeout() {
        let now = Instant::now();
        let mut connections = Connections::default();
        connections.add('a', None, None, 9, now);
        connections.add('b', None, None, 9, now);
        taken(&mut connections, now);
        assert!(connections.expire(MINUTE, now + MINUTE / 2).is_empty());
        assert_eq!(connections.expire(MINUTE, now + MINUTE), ['b']);
        assert_eq!(connections.len(), 1);
    }
}
