//! The limit of failed attempts per client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// The failed attempts of each client, as a rate limit (GCRA) of attempts per minute with a burst of as many.
///
/// IPv4 clients are counted by address, IPv6 clients by /64. The table takes at most about 1 MiB.
#[derive(Debug)]
pub(crate) struct Failures {
    /// The time after which one more attempt is allowed.
    interval: Duration,
    /// The time that all allowed attempts at once take.
    window: Duration,
    /// The time at which each client has all its attempts again.
    recent: HashMap<IpAddr, Instant>,
    /// The clients of the time before `recent` was last full.
    former: HashMap<IpAddr, Instant>,
}

/// The maximum number of clients in each of the two tables.
const MAX_CLIENTS: usize = 8192;

impl Failures {
    pub(crate) fn new(per_minute: NonZeroU32) -> Self {
        let window = Duration::from_secs(60);
        Self { interval: window / per_minute.get(), window, recent: HashMap::new(), former: HashMap::new() }
    }

    /// Returns the number of attempts that are allowed per minute.
    pub(crate) fn per_minute(&self) -> u128 {
        self.window.as_nanos() / self.interval.as_nanos().max(1)
    }

    /// Counts an attempt as a failure, or returns the time until the next attempt is allowed.
    pub(crate) fn charge(&mut self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let client = network(client);
        let replenished = self.replenished(client).filter(|at| *at > now).unwrap_or(now) + self.interval;
        let excess = replenished.saturating_duration_since(now).saturating_sub(self.window);
        if !excess.is_zero() {
            return Err(excess);
        }
        if self.recent.len() >= MAX_CLIENTS && !self.recent.contains_key(&client) {
            self.recent.retain(|_, at| *at > now);
            if self.recent.len() >= MAX_CLIENTS {
                self.former = std::mem::take(&mut self.recent);
            }
        }
        self.recent.insert(client, replenished);
        Ok(())
    }

    /// Takes back a charge, because the attempt did not fail.
    pub(crate) fn refund(&mut self, client: IpAddr) {
        let client = network(client);
        let interval = self.interval;
        if let Some(at) = self.recent.get_mut(&client).or_else(|| self.former.get_mut(&client))
            && let Some(earlier) = at.checked_sub(interval)
        {
            *at = earlier;
        }
    }

    fn replenished(&self, client: IpAddr) -> Option<Instant> {
        self.recent.get(&client).or_else(|| self.former.get(&client)).copied()
    }
}

/// Returns the address of an IPv4 client, or the /64 of an IPv6 client, which usually has all of it.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn failures(per_minute: u32) -> Failures {
        Failures::new(NonZeroU32::new(per_minute).unwrap())
    }

    #[test]
    fn limits_the_failures_of_each_client_per_minute() {
        let (mut failures, now) = (failures(10), Instant::now());
        for _ in 0..10 {
            assert_eq!(failures.charge(client("192.0.2.1"), now), Ok(()));
        }
        assert_eq!(failures.charge(client("192.0.2.1"), now), Err(Duration::from_secs(6)));
        assert_eq!(failures.charge(client("::ffff:192.0.2.1"), now), Err(Duration::from_secs(6)));
        assert_eq!(failures.charge(client("192.0.2.2"), now), Ok(()));
        let later = now + Duration::from_secs(6);
        assert_eq!(failures.charge(client("192.0.2.1"), later), Ok(()));
        assert_eq!(failures.charge(client("192.0.2.1"), later), Err(Duration::from_secs(6)));
    }

    #[test]
    fn counts_ipv6_clients_by_64_bits() {
        let (mut failures, now) = (failures(1), Instant::now());
        assert_eq!(failures.charge(client("2001:db8::1"), now), Ok(()));
        assert_eq!(failures.charge(client("2001:db8::2"), now), Err(Duration::from_secs(60)));
        assert_eq!(failures.charge(client("2001:db8:0:1::1"), now), Ok(()));
    }

    #[test]
    fn refund_takes_back_a_charge() {
        let (mut failures, now) = (failures(1), Instant::now());
        for _ in 0..5 {
            assert_eq!(failures.charge(client("192.0.2.1"), now), Ok(()));
            failures.refund(client("192.0.2.1"));
        }
        failures.refund(client("192.0.2.1"));
        assert_eq!(failures.charge(client("192.0.2.1"), now), Ok(()));
        assert!(failures.charge(client("192.0.2.1"), now).is_err());
    }

    #[test]
    fn table_of_clients_is_bounded_and_keeps_recent_failures() {
        let (mut failures, now) = (failures(1), Instant::now());
        let clients = (0..3 * MAX_CLIENTS as u32).map(|number| IpAddr::from((0x0a00_0000 + number).to_be_bytes()));
        for client in clients {
            failures.charge(client, now).unwrap();
            assert!(failures.charge(client, now).is_err());
            assert!(failures.recent.len() <= MAX_CLIENTS && failures.former.len() <= MAX_CLIENTS);
        }
        // Failures that count no more make room.
        let later = now + Duration::from_secs(61);
        failures.charge(client("192.0.2.1"), later).unwrap();
        assert_eq!(failures.recent.len(), 1);
    }
}
