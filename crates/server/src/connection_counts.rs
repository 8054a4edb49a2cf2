//! Counters of open connections per client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Mutex, PoisonError};

/// The number of open connections of each client, over all workers.
///
/// An entry is removed with the last connection of its client.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCounts {
    counts: Mutex<HashMap<Client, NonZeroU32>>,
}

/// A client: an IPv4 address, or an IPv6 /64, the usual prefix of a single subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client(NonZeroU64);

/// The error for a client that already has its maximum number of connections.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyConnections;

impl ConnectionCounts {
    /// Counts a connection from `ip`, unless the client has `max` connections.
    pub(crate) fn acquire(&self, ip: IpAddr, max: usize) -> Result<Client, TooManyConnections> {
        let client = Client::from_ip(ip);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.entry(client) {
            Entry::Occupied(count) if count.get().get() as usize >= max => return Err(TooManyConnections),
            Entry::Occupied(mut count) => *count.get_mut() = count.get().saturating_add(1),
            Entry::Vacant(_) if max == 0 => return Err(TooManyConnections),
            Entry::Vacant(vacant) => {
                vacant.insert(NonZeroU32::MIN);
            }
        }
        Ok(client)
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

    fn acquire(counts: &ConnectionCounts, ip: &str, max: usize) -> Result<Client, TooManyConnections> {
        counts.acquire(ip.parse().unwrap(), max)
    }

    #[test]
    fn limits_connections_per_client() {
        let counts = ConnectionCounts::default();
        let first = acquire(&counts, "198.51.100.1", 2).unwrap();
        assert_eq!(acquire(&counts, "::ffff:198.51.100.1", 2), Ok(first));
        assert_eq!(acquire(&counts, "198.51.100.1", 2), Err(TooManyConnections));
        assert!(acquire(&counts, "198.51.100.2", 2).is_ok());
        counts.release(first);
        assert_eq!(acquire(&counts, "198.51.100.1", 2), Ok(first));
    }

    #[test]
    fn ipv6_addresses_in_one_64_bit_prefix_are_one_client() {
        let counts = ConnectionCounts::default();
        let client = acquire(&counts, "2001:db8:0:1::1", 1).unwrap();
        assert_eq!(acquire(&counts, "2001:db8:0:1:ffff::2", 1), Err(TooManyConnections));
        assert!(acquire(&counts, "2001:db8:0:2::1", 1).is_ok());
        assert!(acquire(&counts, "::1", 1).is_ok());
        counts.release(client);
        assert!(acquire(&counts, "2001:db8:0:1:ffff::2", 1).is_ok());
    }

    #[test]
    fn closing_the_last_connection_removes_the_counter_of_the_client() {
        let counts = ConnectionCounts::default();
        let client = acquire(&counts, "198.51.100.1", 1).unwrap();
        counts.release(client);
        assert!(counts.counts.lock().unwrap().is_empty());
    }
}
