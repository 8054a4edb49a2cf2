//! How many connections each client has.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Mutex, PoisonError};

use rproxy_client_ip::TrustedProxies;

/// The connections of all clients, over all workers. An entry goes with the client's last connection.
#[derive(Debug)]
pub(crate) struct Clients {
    most: usize,
    uncounted: TrustedProxies,
    held: Mutex<HashMap<Client, NonZeroU32>>,
}

/// An IPv4 address, or an IPv6 prefix of 64 bits: that is how many a subscriber has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client(NonZeroU64);

/// The client has as many connections as it may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Clients {
    pub(crate) fn new(most: usize, uncounted: TrustedProxies) -> Self {
        Self { most, uncounted, held: Mutex::default() }
    }

    /// Counts a connection from `ip`; `None` is one that is not counted.
    pub(crate) fn enter(&self, ip: IpAddr) -> Result<Option<Client>, TooMany> {
        if self.uncounted.contains(ip) {
            return Ok(None);
        }
        let client = Client::at(ip);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.entry(client) {
            Entry::Occupied(held) if held.get().get() as usize >= self.most => return Err(TooMany),
            Entry::Occupied(mut held) => *held.get_mut() = held.get().saturating_add(1),
            Entry::Vacant(_) if self.most == 0 => return Err(TooMany),
            Entry::Vacant(vacant) => {
                vacant.insert(NonZeroU32::MIN);
            }
        }
        Ok(Some(client))
    }

    pub(crate) fn leave(&self, client: Client) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut held) = held.entry(client) {
            match NonZeroU32::new(held.get().get() - 1) {
                Some(left) => *held.get_mut() = left,
                None => {
                    held.remove();
                }
            }
        }
    }
}

impl Client {
    fn at(ip: IpAddr) -> Self {
        let number = match ip.to_canonical() {
            // Nobody connects from a multicast address (ff00::/8), so these are free.
            IpAddr::V4(ip) => 0xffff << 48 | u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
        };
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(clients: &Clients, ip: &str) -> Result<Option<Client>, TooMany> {
        clients.enter(ip.parse().unwrap())
    }

    #[test]
    fn each_client_has_so_many_connections_and_no_more() {
        let clients = Clients::new(2, "192.0.2.0/24".parse().unwrap());
        let first = enter(&clients, "198.51.100.1").unwrap().unwrap();
        assert_eq!(enter(&clients, "::ffff:198.51.100.1"), Ok(Some(first)));
        assert_eq!(enter(&clients, "198.51.100.1"), Err(TooMany));
        assert!(enter(&clients, "198.51.100.2").is_ok());
        for _ in 0..3 {
            assert_eq!(enter(&clients, "192.0.2.7"), Ok(None), "a proxy is not counted");
        }
        clients.leave(first);
        assert_eq!(enter(&clients, "198.51.100.1"), Ok(Some(first)));
    }

    #[test]
    fn the_addresses_of_one_ipv6_subscriber_are_one_client() {
        let clients = Clients::new(1, TrustedProxies::none());
        let client = enter(&clients, "2001:db8:0:1::1").unwrap().unwrap();
        assert_eq!(enter(&clients, "2001:db8:0:1:ffff::2"), Err(TooMany));
        assert!(enter(&clients, "2001:db8:0:2::1").is_ok());
        assert!(enter(&clients, "::1").is_ok());
        clients.leave(client);
        assert!(enter(&clients, "2001:db8:0:1:ffff::2").is_ok());
    }

    #[test]
    fn who_has_left_is_forgotten() {
        let clients = Clients::new(1, TrustedProxies::none());
        let client = enter(&clients, "198.51.100.1").unwrap().unwrap();
        clients.leave(client);
        assert!(clients.held.lock().unwrap().is_empty());
    }
}
