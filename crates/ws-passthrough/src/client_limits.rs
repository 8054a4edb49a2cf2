//! Limits per client: the number of tunnels and the rate of messages.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::rejection::WsRejection;

/// The limits on the tunnels and messages of each client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientLimits {
    pub(crate) max_tunnels: Option<usize>,
    /// The maximum number of messages per second from a client.
    pub(crate) message_rate: Option<NonZeroU32>,
    /// The prefix length of the network that identifies an IPv6 client.
    pub(crate) ipv6_prefix: u8,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self { max_tunnels: None, message_rate: None, ipv6_prefix: 64 }
    }
}

/// The number of open tunnels of each client that has an open tunnel.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    entries: Mutex<HashMap<Option<IpAddr>, Entry>>,
}

#[derive(Debug)]
struct Entry {
    client: Arc<Client>,
    tunnels: usize,
}

/// The state of a client, shared by its tunnels.
#[derive(Debug)]
pub(crate) struct Client {
    /// The address or network of the client, or `None` if its address is unknown.
    key: Option<IpAddr>,
    since: Instant,
    /// The theoretical arrival time of the next message (GCRA), in nanoseconds.
    next_arrival: AtomicU64,
}

impl Clients {
    /// Counts a new tunnel of the client, or rejects it at the limit. Returns `None` if there are no limits.
    pub(crate) fn acquire(
        &self,
        ip: Option<IpAddr>,
        limits: &ClientLimits,
    ) -> Result<Option<Arc<Client>>, WsRejection> {
        if limits.max_tunnels.is_none() && limits.message_rate.is_none() {
            return Ok(None);
        }
        let key = ip.map(|ip| network(ip, limits.ipv6_prefix));
        let mut entries = self.lock();
        let entry = entries.entry(key).or_insert_with(|| Entry { client: Arc::new(Client::new(key)), tunnels: 0 });
        if limits.max_tunnels.is_some_and(|max| entry.tunnels >= max) {
            if entry.tunnels == 0 {
                entries.remove(&key);
            }
            return Err(WsRejection::TooManyTunnelsPerClient);
        }
        entry.tunnels += 1;
        Ok(Some(Arc::clone(&entry.client)))
    }

    /// Decrements the client's number of open tunnels.
    pub(crate) fn release(&self, client: Option<&Client>) {
        let Some(client) = client else { return };
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(&client.key) {
            entry.tunnels -= 1;
            if entry.tunnels == 0 {
                entries.remove(&client.key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<IpAddr>, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    fn new(key: Option<IpAddr>) -> Self {
        Self { key, since: Instant::now(), next_arrival: AtomicU64::new(0) }
    }

    /// Counts a message, and returns whether it is within `rate` per second, with a burst of one second.
    pub(crate) fn try_send(&self, rate: NonZeroU32) -> bool {
        let now = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let interval = SECOND / u64::from(rate.get());
        let advance = |arrival: u64| {
            let next = arrival.max(now) + interval;
            (next <= now + SECOND).then_some(next)
        };
        self.next_arrival.fetch_update(Relaxed, Relaxed, advance).is_ok()
    }
}

const SECOND: u64 = 1_000_000_000;

/// Returns the address or network that identifies a client.
///
/// It is the IPv4 address, or a prefix of the IPv6 address, whose other bits the client can choose.
fn network(ip: IpAddr, ipv6_prefix: u8) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(ipv6_prefix.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn identifies_ipv6_clients_by_prefix() {
        for (ip, prefix, expected) in [
            ("192.0.2.1", 64, "192.0.2.1"),
            ("::ffff:192.0.2.1", 64, "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::"),
            ("2001:db8:1:2:3:4:5:6", 56, "2001:db8:1::"),
            ("2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6"),
            ("2001:db8::1", 0, "::"),
        ] {
            assert_eq!(network(ip.parse().unwrap(), prefix), expected.parse::<IpAddr>().unwrap(), "{ip}/{prefix}");
        }
    }

    #[tokio::test]
    async fn limits_tunnels_per_client_and_removes_clients_without_tunnels() {
        let clients = Clients::default();
        let limits = ClientLimits { max_tunnels: Some(2), ..ClientLimits::default() };
        let first = clients.acquire(ip("2001:db8::1"), &limits).unwrap();
        let second = clients.acquire(ip("2001:db8::2"), &limits).unwrap();
        assert_eq!(clients.acquire(ip("2001:db8::3"), &limits).unwrap_err(), WsRejection::TooManyTunnelsPerClient);
        let other = clients.acquire(ip("192.0.2.1"), &limits).unwrap();
        let unknown = clients.acquire(None, &limits).unwrap();
        clients.release(first.as_deref());
        let third = clients.acquire(ip("2001:db8::3"), &limits).unwrap();
        [second, third, other, unknown].iter().for_each(|client| clients.release(client.as_deref()));
        assert!(clients.lock().is_empty());
        let none = ClientLimits { max_tunnels: Some(0), ..limits };
        assert!(clients.acquire(ip("192.0.2.1"), &none).is_err() && clients.lock().is_empty());
        assert!(clients.acquire(ip("192.0.2.1"), &ClientLimits::default()).unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn allows_a_burst_of_one_second_and_then_the_message_rate() {
        let client = Client::new(None);
        let rate = NonZeroU32::new(10).unwrap();
        let burst = || (0..100).take_while(|_| client.try_send(rate)).count();
        assert_eq!(burst(), 10);
        tokio::time::advance(Duration::from_millis(350)).await;
        assert_eq!(burst(), 3);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(burst(), 10);
    }
}
