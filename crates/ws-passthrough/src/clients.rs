//! What one client may do: how many tunnels it may have, and how many messages it may send.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::refusal::Refusal;

/// What each client is held to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientLimits {
    pub(crate) tunnels: Option<usize>,
    /// Messages per second.
    pub(crate) messages: Option<NonZeroU32>,
    /// How much of an IPv6 address tells clients apart.
    pub(crate) ipv6_prefix: u8,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self { tunnels: None, messages: None, ipv6_prefix: 64 }
    }
}

/// The clients that have tunnels: one entry for each, for as long as it has one.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    present: Mutex<HashMap<Option<IpAddr>, Present>>,
}

#[derive(Debug)]
struct Present {
    client: Arc<Client>,
    tunnels: usize,
}

/// What the tunnels of one client share.
#[derive(Debug)]
pub(crate) struct Client {
    /// `None`: nobody has told who it is.
    key: Option<IpAddr>,
    since: Instant,
    /// The theoretical arrival time of the next message (GCRA), in nanoseconds.
    due: AtomicU64,
}

impl Clients {
    /// One more tunnel for the client at `ip`; `None` where no client is held to anything.
    pub(crate) fn enter(&self, ip: Option<IpAddr>, limits: &ClientLimits) -> Result<Option<Arc<Client>>, Refusal> {
        if limits.tunnels.is_none() && limits.messages.is_none() {
            return Ok(None);
        }
        let key = ip.map(|ip| network(ip, limits.ipv6_prefix));
        let mut clients = self.lock();
        let present = clients.entry(key).or_insert_with(|| Present { client: Arc::new(Client::new(key)), tunnels: 0 });
        if limits.tunnels.is_some_and(|most| present.tunnels >= most) {
            if present.tunnels == 0 {
                clients.remove(&key);
            }
            return Err(Refusal::TooManyOfClient);
        }
        present.tunnels += 1;
        Ok(Some(Arc::clone(&present.client)))
    }

    /// One less.
    pub(crate) fn leave(&self, client: Option<&Client>) {
        let Some(client) = client else { return };
        let mut clients = self.lock();
        if let Some(present) = clients.get_mut(&client.key) {
            present.tunnels -= 1;
            if present.tunnels == 0 {
                clients.remove(&client.key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<IpAddr>, Present>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    fn new(key: Option<IpAddr>) -> Self {
        Self { key, since: Instant::now(), due: AtomicU64::new(0) }
    }

    /// Whether it may send one more message now, at `rate` per second and as many at once.
    pub(crate) fn may_send(&self, rate: NonZeroU32) -> bool {
        let now = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let one = SECOND / u64::from(rate.get());
        let next = |due: u64| {
            let next = due.max(now) + one;
            (next <= now + SECOND).then_some(next)
        };
        self.due.fetch_update(Relaxed, Relaxed, next).is_ok()
    }
}

const SECOND: u64 = 1_000_000_000;

/// IPv4 addresses stand for themselves; of an IPv6 address, the client can choose all but a prefix.
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
    fn clients_are_told_apart_by_what_they_can_not_choose() {
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
    async fn a_client_has_its_tunnels_and_leaves_nothing_behind() {
        let clients = Clients::default();
        let limits = ClientLimits { tunnels: Some(2), ..ClientLimits::default() };
        let first = clients.enter(ip("2001:db8::1"), &limits).unwrap();
        let second = clients.enter(ip("2001:db8::2"), &limits).unwrap();
        assert_eq!(clients.enter(ip("2001:db8::3"), &limits).unwrap_err(), Refusal::TooManyOfClient);
        let other = clients.enter(ip("192.0.2.1"), &limits).unwrap();
        let unknown = clients.enter(None, &limits).unwrap();
        clients.leave(first.as_deref());
        let third = clients.enter(ip("2001:db8::3"), &limits).unwrap();
        [second, third, other, unknown].iter().for_each(|client| clients.leave(client.as_deref()));
        assert!(clients.lock().is_empty());
        let none = ClientLimits { tunnels: Some(0), ..limits };
        assert!(clients.enter(ip("192.0.2.1"), &none).is_err() && clients.lock().is_empty());
        assert!(clients.enter(ip("192.0.2.1"), &ClientLimits::default()).unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn messages_come_at_their_rate_and_a_second_of_them_at_once() {
        let client = Client::new(None);
        let rate = NonZeroU32::new(10).unwrap();
        let burst = || (0..100).take_while(|_| client.may_send(rate)).count();
        assert_eq!(burst(), 10);
        tokio::time::advance(Duration::from_millis(350)).await;
        assert_eq!(burst(), 3);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(burst(), 10);
    }
}
