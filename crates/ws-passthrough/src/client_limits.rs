//! Limits per client: the number of tunnels and the rate of messages.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

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
    entries: HashMap<Option<IpAddr>, Entry>,
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
    /// Returns the number of open tunnels of the client with this address or [network](network()).
    pub(crate) fn tunnels(&self, key: Option<IpAddr>) -> usize {
        self.entries.get(&key).map_or(0, |entry| entry.tunnels)
    }

    /// Returns the state of a client that has an open tunnel.
    pub(crate) fn find(&self, key: Option<IpAddr>) -> Option<Arc<Client>> {
        self.entries.get(&key).map(|entry| Arc::clone(&entry.client))
    }

    /// Counts a new tunnel of the client.
    pub(crate) fn add(&mut self, client: &Arc<Client>) {
        let entry = self.entries.entry(client.key);
        entry.or_insert_with(|| Entry { client: Arc::clone(client), tunnels: 0 }).tunnels += 1;
    }

    /// Decrements the client's number of open tunnels.
    pub(crate) fn remove(&mut self, client: &Client) {
        if let Some(entry) = self.entries.get_mut(&client.key) {
            entry.tunnels -= 1;
            if entry.tunnels == 0 {
                self.entries.remove(&client.key);
            }
        }
    }
}

impl Client {
    pub(crate) fn new(key: Option<IpAddr>) -> Arc<Self> {
        Arc::new(Self { key, since: Instant::now(), next_arrival: AtomicU64::new(0) })
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
pub(crate) fn network(ip: IpAddr, ipv6_prefix: u8) -> IpAddr {
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

    #[test]
    fn removes_clients_without_tunnels() {
        let mut clients = Clients::default();
        let (one, other) = (Client::new(ip("192.0.2.1")), Client::new(None));
        [&one, &one, &other].into_iter().for_each(|client| clients.add(client));
        assert_eq!((clients.tunnels(ip("192.0.2.1")), clients.tunnels(None)), (2, 1));
        [&one, &other].into_iter().for_each(|client| clients.remove(client));
        assert!(Arc::ptr_eq(&clients.find(ip("192.0.2.1")).unwrap(), &one) && clients.find(None).is_none());
        clients.remove(&one);
        assert!(clients.entries.is_empty());
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
