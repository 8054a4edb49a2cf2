//! Counts of open tunnels, to which the tunnel limits apply.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::client_limits::{Client, ClientLimits, Clients};
use crate::rejection::WsRejection;

/// The numbers of open tunnels to which limits apply: in total and per client.
///
/// By default, a layer and its clones share them. [`WsPassthroughLayer::counts`](crate::WsPassthroughLayer::counts) sets
/// others, so that limits apply to some of the tunnels only, such as those of one route.
#[derive(Clone, Debug, Default)]
pub struct TunnelCounts {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    open: AtomicUsize,
    clients: Clients,
}

impl TunnelCounts {
    /// Returns the number of open tunnels, including those whose handshake is in progress.
    #[must_use]
    pub fn open(&self) -> usize {
        self.inner.open.load(Relaxed)
    }

    /// Counts one more tunnel, unless a limit is reached.
    pub(crate) fn acquire(
        &self,
        client: Option<IpAddr>,
        max: Option<usize>,
        limits: &ClientLimits,
    ) -> Result<CountGuard, WsRejection> {
        let client = self.inner.clients.acquire(client, limits)?;
        let increment = |open: usize| max.is_none_or(|max| open < max).then_some(open + 1);
        if self.inner.open.fetch_update(Relaxed, Relaxed, increment).is_err() {
            self.inner.clients.release(client.as_deref());
            return Err(WsRejection::TooManyTunnels);
        }
        Ok(CountGuard { counts: self.clone(), client })
    }
}

/// A guard that counts one tunnel until it is dropped.
#[derive(Debug)]
pub(crate) struct CountGuard {
    counts: TunnelCounts,
    client: Option<Arc<Client>>,
}

impl CountGuard {
    /// Returns the client, if there are limits per client.
    pub(crate) fn client(&self) -> Option<&Client> {
        self.client.as_deref()
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.counts.inner.clients.release(self.client.as_deref());
        self.counts.inner.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_open_tunnels_to_the_maximum() {
        let counts = TunnelCounts::default();
        let acquire = || counts.acquire(None, Some(2), &ClientLimits::default());
        let (first, _second) = (acquire().unwrap(), acquire().unwrap());
        assert_eq!(acquire().unwrap_err(), WsRejection::TooManyTunnels);
        drop(first);
        let _third = acquire().unwrap();
        assert_eq!(counts.open(), 2);
    }

    #[test]
    fn rejected_tunnel_does_not_count_towards_the_limit_of_its_client() {
        let counts = TunnelCounts::default();
        let limits = ClientLimits { max_tunnels: Some(1), ..ClientLimits::default() };
        assert_eq!(counts.acquire(None, Some(0), &limits).unwrap_err(), WsRejection::TooManyTunnels);
        let _tunnel = counts.acquire(None, Some(1), &limits).unwrap();
    }
}
