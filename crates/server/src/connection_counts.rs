//! Counters of open connections per client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Mutex, PoisonError};

use rproxy_client_ip::TrustedProxies;

/// The number of open connections of each client, over all workers.
///
/// An entry is removed with the last connection of its client.
#[derive(Debug)]
pub(crate) struct ConnectionCounts {
    max: usize,
    exempt_proxies: TrustedProxies,
    counts: Mutex<HashMap<Client, NonZeroU32>>,
}

/// A client: an IPv4 address, or an IPv6 /64, the usual prefix of a single subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client(NonZeroU64);

/// The error that a client already has its maximum number of connections.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyConnections;

impl ConnectionCounts {
    pub(crate) fn new(max: usize, exempt_proxies: TrustedProxies) -> Self {
        Self { max, exempt_proxies, counts: Mutex::default() }
    }

    /// Counts a connection from `ip`, or returns an error at the maximum per client. Returns `None` for an exempt
    /// proxy, which is not counted.
    pub(crate) fn acquire(&self, ip: IpAddr) -> Result<Option<Client>, TooManyConnections> {
        if self.exempt_proxies.contains(ip) {
            return Ok(None);
        }
        let client = Client::from_ip(ip);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.entry(client) {
            Entry::Occupied(count) if count.get().get() as usize >= self.max => return Err(TooManyConnections),
            Entry::Occupied(mut count) => *count.get_mut() = count.get().saturating_add(1),
            Entry::Vacant(_) if self.max == 0 => return Err(TooManyConnections),
            Entry::Vacant(vacant) => {
                vacant.insert(NonZeroU32::MIN);
            }
        }
        Ok(Some(client))
    }

    /// Decrements the number of open connections of this client.
    pub(crate) fn release(&self, client: Client) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counts.entry(client) {
            match NonZeroU32::new(count.get().get() - 1) {
                Some(left) => *count.get_mut() = left,
                None => {
                    count.remove();
                }
            }
        }
    }
}

impl Client {
    fn from_ip(ip: IpAddr) -> Self {
        let number = match ip.to_canonical() {
            // IPv4 addresses are mapped into ff00::/8: a multicast address is never the source of a connection.
            IpAddr::V4(ip) => 0xffff << 48 | u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
        };
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquire(counts: &ConnectionCounts, ip: &str) -> Result<Option<Client>, TooManyConnections> {
        counts.acquire(ip.parse().unwrap())
    }

    #[test]
    fn limits_connections_per_client_and_exempts_proxies() {
        let counts = ConnectionCounts::new(2, "192.0.2.0/24".parse().unwrap());
        let first = acquire(&counts, "198.51.100.1").unwrap().unwrap();
        assert_eq!(acquire(&counts, "::ffff:198.51.100.1"), Ok(Some(first)));
        assert_eq!(acquire(&counts, "198.51.100.1"), Err(TooManyConnections));
        assert!(acquire(&counts, "198.51.100.2").is_ok());
        for _ in 0..3 {
            assert_eq!(acquire(&counts, "192.0.2.7"), Ok(None), "a proxy is not counted");
        }
        counts.release(first);
        assert_eq!(acquire(&counts, "198.51.100.1"), Ok(Some(first)));
    }

    #[test]
    fn ipv6_addresses_in_one_64_bit_prefix_count_as_one_client() {
        let counts = ConnectionCounts::new(1, TrustedProxies::none());
        let client = acquire(&counts, "2001:db8:0:1::1").unwrap().unwrap();
        assert_eq!(acquire(&counts, "2001:db8:0:1:ffff::2"), Err(TooManyConnections));
        assert!(acquire(&counts, "2001:db8:0:2::1").is_ok());
        assert!(acquire(&counts, "::1").is_ok());
        counts.release(client);
        assert!(acquire(&counts, "2001:db8:0:1:ffff::2").is_ok());
    }

    #[test]
    fn closing_the_last_connection_of_a_client_removes_its_counter() {
        let counts = ConnectionCounts::new(1, TrustedProxies::none());
        let client = acquire(&counts, "198.51.100.1").unwrap().unwrap();
        counts.release(client);
        assert!(counts.counts.lock().unwrap().is_empty());
    }
}
