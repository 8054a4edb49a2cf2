//! Counts of open tunnels, to which the tunnel limits apply.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client_limits::{Client, ClientLimits, Clients, network};
use crate::rejection::WsRejection;
use crate::tunnels::CloseOrder;

/// The numbers of open tunnels to which limits apply: in total and per client.
///
/// By default, a layer and its clones share them. [`WsPassthroughLayer::counts`](crate::WsPassthroughLayer::counts) sets
/// others, so that limits apply to some of the tunnels only, such as those of one route. Tunnels are counted with or
/// without limits, so that a limit of a later layer with the same counts includes them.
///
/// They take about 200 bytes for each client that has an open tunnel.
#[derive(Clone, Debug, Default)]
pub struct TunnelCounts {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    numbers: Mutex<Numbers>,
    /// The most recent command to close these tunnels.
    order: Mutex<Option<CloseOrder>>,
}

#[derive(Debug, Default)]
struct Numbers {
    open: usize,
    clients: Clients,
}

impl TunnelCounts {
    /// Returns the number of open tunnels, including those whose handshake is in progress.
    #[must_use]
    pub fn open(&self) -> usize {
        self.numbers().open
    }

    /// Counts one more tunnel, unless the sum of these counts and `others` has reached a limit.
    pub(crate) fn acquire(
        &self,
        others: &[Self],
        client: Option<IpAddr>,
        max: Option<usize>,
        limits: &ClientLimits,
    ) -> Result<CountGuard, WsRejection> {
        let key = client.map(|ip| network(ip, limits.ipv6_prefix));
        let has_limits = max.is_some() || limits.max_tunnels.is_some() || limits.message_rate.is_some();
        let mut counts = vec![self];
        if has_limits {
            counts.extend(others);
            // All threads lock in the same order.
            counts.sort_by_key(|counts| counts.address());
            counts.dedup_by_key(|counts| counts.address());
        }
        let mut numbers: Vec<_> = counts.iter().map(|counts| counts.numbers()).collect();
        let open_to_client = numbers.iter().map(|numbers| numbers.clients.tunnels(key)).sum();
        if limits.max_tunnels.is_some_and(|max: usize| max <= open_to_client) {
            return Err(WsRejection::TooManyTunnelsPerClient);
        }
        if max.is_some_and(|max| max <= numbers.iter().map(|numbers| numbers.open).sum()) {
            return Err(WsRejection::TooManyTunnels);
        }
        // The message rate applies to all tunnels of a client.
        let client = numbers.iter().find_map(|numbers| numbers.clients.find(key)).unwrap_or_else(|| Client::new(key));
        if let Some(own) = counts.iter().position(|counts| counts.address() == self.address()) {
            numbers[own].open += 1;
            numbers[own].clients.add(&client);
        }
        Ok(CountGuard { counts: self.clone(), client })
    }

    /// Returns the most recent command to close these tunnels.
    pub(crate) fn order(&self) -> Option<CloseOrder> {
        *self.inner.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_order(&self, order: CloseOrder) {
        *self.inner.order.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.inner).addr()
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.inner.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guard that counts one tunnel until it is dropped.
#[derive(Debug)]
pub(crate) struct CountGuard {
    counts: TunnelCounts,
    client: Arc<Client>,
}

impl CountGuard {
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn counts(&self) -> &TunnelCounts {
        &self.counts
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        let mut numbers = self.counts.numbers();
        numbers.open -= 1;
        numbers.clients.remove(&self.client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn per_client(max: usize) -> ClientLimits {
        ClientLimits { max_tunnels: Some(max), ..ClientLimits::default() }
    }

    #[test]
    fn limits_open_tunnels_to_the_maximum() {
        let counts = TunnelCounts::default();
        let acquire = || counts.acquire(&[], None, Some(2), &ClientLimits::default());
        let (first, _second) = (acquire().unwrap(), acquire().unwrap());
        assert_eq!(acquire().unwrap_err(), WsRejection::TooManyTunnels);
        drop(first);
        let _third = acquire().unwrap();
        assert_eq!(counts.open(), 2);
    }

    #[test]
    fn rejected_tunnel_does_not_count_towards_the_limit_of_its_client() {
        let counts = TunnelCounts::default();
        assert_eq!(counts.acquire(&[], None, Some(0), &per_client(1)).unwrap_err(), WsRejection::TooManyTunnels);
        let _tunnel = counts.acquire(&[], None, Some(1), &per_client(1)).unwrap();
    }

    #[test]
    fn later_limits_include_tunnels_that_were_opened_without_limits() {
        let counts = TunnelCounts::default();
        let client = Some("192.0.2.1".parse().unwrap());
        let first = counts.acquire(&[], client, None, &ClientLimits::default()).unwrap();
        let acquire = |client, max, limits| counts.acquire(&[], client, max, &limits).map(drop);
        assert_eq!(acquire(client, None, per_client(1)), Err(WsRejection::TooManyTunnelsPerClient));
        assert_eq!(acquire(client, Some(1), ClientLimits::default()), Err(WsRejection::TooManyTunnels));
        assert_eq!(acquire(None, Some(2), per_client(1)), Ok(()));
        drop(first);
        assert_eq!(acquire(client, Some(1), per_client(1)), Ok(()));
    }

    #[test]
    fn shared_limits_apply_to_the_sum_of_the_counts() {
        let (site, route) = (TunnelCounts::default(), TunnelCounts::default());
        let others = [site.clone(), route.clone()];
        let client = Some("192.0.2.1".parse().unwrap());
        let in_site = site.acquire(&others, client, Some(2), &per_client(2)).unwrap();
        let in_route = route.acquire(&others, client, Some(2), &per_client(2)).unwrap();
        assert_eq!((site.open(), route.open()), (1, 1));
        assert!(std::ptr::eq(in_site.client(), in_route.client()), "the message rate is that of both");
        for counts in &others {
            let rejected = counts.acquire(&others, client, None, &per_client(2)).unwrap_err();
            assert_eq!(rejected, WsRejection::TooManyTunnelsPerClient);
            assert_eq!(
                counts.acquire(&others, None, Some(2), &per_client(2)).unwrap_err(),
                WsRejection::TooManyTunnels
            );
        }
        drop(in_site);
        route.acquire(&others, client, Some(2), &per_client(2)).unwrap();
        assert_eq!((site.open(), route.open()), (0, 1));
    }
}
