//! How many tunnels are open, what went through them, and their end.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::clients::{Client, ClientLimits, Clients};
use crate::frames::{GOING_AWAY, SERVICE_RESTART};
use crate::refusal::Refusal;
use crate::stats::{Counters, TunnelStats};
use crate::summary::ClosedBy;

/// The tunnels of a [`WsPassthroughLayer`](crate::WsPassthroughLayer) and its clones.
///
/// A server does not count them: to it, the connection has ended with the 101.
#[derive(Clone, Debug)]
pub struct Tunnels {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    open: watch::Sender<usize>,
    /// How many there have been.
    entered: AtomicU64,
    order: watch::Sender<Order>,
    clients: Clients,
    counters: Counters,
}

/// That the tunnels there were at a time are to end.
#[derive(Clone, Copy, Debug)]
struct Order {
    /// Tunnels of this generation and later ones are not meant.
    generation: u64,
    began: Instant,
    code: u16,
    /// Over how long they are to be told.
    spread: Duration,
    /// In what time all is to be over.
    within: Option<Duration>,
    /// There are to be no others.
    is_last: bool,
}

impl Tunnels {
    pub(crate) fn new() -> Self {
        let order = Order {
            generation: 0,
            began: Instant::now(),
            code: GOING_AWAY,
            spread: Duration::ZERO,
            within: None,
            is_last: false,
        };
        Self {
            shared: Arc::new(Shared {
                open: watch::Sender::new(0),
                entered: AtomicU64::new(0),
                order: watch::Sender::new(order),
                clients: Clients::default(),
                counters: Counters::default(),
            }),
        }
    }

    /// How many are open, or about to be: from a handshake on.
    #[must_use]
    pub fn open(&self) -> usize {
        *self.shared.open.borrow()
    }

    /// What has gone through them up to now.
    #[must_use]
    pub fn stats(&self) -> TunnelStats {
        self.shared.counters.stats()
    }

    /// Ends them: each end gets a Close with 1001 (going away) after the message that it is being
    /// sent, and has [some seconds](crate::WsPassthroughLayer::close_timeout) to answer. Further
    /// handshakes are refused with 503.
    pub fn drain(&self) {
        self.order(GOING_AWAY, None, true);
    }

    /// Like [`drain`](Self::drain), but not all at once: their clients will want to come back, and
    /// are not to do so in the same second. No more than a hundred are closed in a second, unless
    /// that took more than half of the time that there is; a message under way may take what is left
    /// of it.
    pub fn drain_within(&self, time: Duration) {
        self.order(GOING_AWAY, Some(time), true);
    }

    /// Like [`drain_within`](Self::drain_within), but with 1012 (service restart), and only those
    /// that are open now: new ones are welcome. For when what they lead to has changed.
    pub fn restart_within(&self, time: Duration) {
        self.order(SERVICE_RESTART, Some(time), false);
    }

    fn order(&self, code: u16, within: Option<Duration>, is_last: bool) {
        let calm = PER_TUNNEL.saturating_mul(u32::try_from(self.open()).unwrap_or(u32::MAX));
        let spread = within.map_or(Duration::ZERO, |within| calm.min(within / 2));
        self.shared.order.send_modify(|order| {
            let is_last = is_last || order.is_last;
            *order = Order { generation: order.generation + 1, began: Instant::now(), code, spread, within, is_last };
        });
    }

    /// Waits until none is open.
    pub async fn closed(&self) {
        // Can't fail: we hold the sender.
        let _ = self.shared.open.subscribe().wait_for(|open| *open == 0).await;
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// A place for one more of `client`'s, if the limits allow it.
    pub(crate) fn enter(
        &self,
        client: Option<IpAddr>,
        most: Option<usize>,
        limits: &ClientLimits,
    ) -> Result<OpenTunnel, Refusal> {
        let order = self.shared.order.borrow();
        if order.is_last {
            return Err(Refusal::Draining);
        }
        let generation = order.generation;
        drop(order);
        let client = self.shared.clients.enter(client, limits)?;
        let has_place = self.shared.open.send_if_modified(|open| {
            let has_place = most.is_none_or(|most| *open < most);
            *open += usize::from(has_place);
            has_place
        });
        if !has_place {
            self.shared.clients.leave(client.as_deref());
            return Err(Refusal::TooMany);
        }
        // The golden ratio: however many of them there are, their turns are apart.
        let turn = self.shared.entered.fetch_add(1, Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Ok(OpenTunnel { tunnels: self.clone(), client, opened: Instant::now(), generation, turn: (turn >> 32) as u32 })
    }
}

impl Order {
    /// How long a message under way may take from `turn` on, so that there is still time for the answers, which may
    /// take as long as `close`; at least half of what is left.
    fn patience(&self, turn: Instant, close: Duration) -> Duration {
        let Some(within) = self.within else { return close };
        let left = (self.began + within).saturating_duration_since(turn);
        left.saturating_sub(close).max(left / 2)
    }
}

/// At most a hundred a second.
const PER_TUNNEL: Duration = Duration::from_millis(10);

/// Counts for one, until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenTunnel {
    tunnels: Tunnels,
    client: Option<Arc<Client>>,
    opened: Instant,
    generation: u64,
    /// When it is told to end, among the others: 0 is first.
    turn: u32,
}

/// That a tunnel is to end, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) by: ClosedBy,
    pub(crate) code: u16,
    /// How long a message under way may take.
    pub(crate) patience: Duration,
}

impl OpenTunnel {
    /// Waits until it is to end: by an order, when it is its turn, or when it was open for as long as it may be. `close`
    /// is what the ends' answers may take.
    pub(crate) async fn ended(&self, close: Duration, lifetime: Option<Duration>) -> Ending {
        let outlived = async {
            match lifetime {
                Some(lifetime) => sleep_until(self.opened + lifetime).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ending = self.ordered(close) => ending,
            () = outlived => Ending { by: ClosedBy::Lifetime, code: GOING_AWAY, patience: close },
        }
    }

    async fn ordered(&self, close: Duration) -> Ending {
        let mut orders = self.tunnels.shared.order.subscribe();
        loop {
            // Can't fail: we hold the sender.
            let Ok(order) = orders.wait_for(|order| order.generation > self.generation).await.map(|order| *order)
            else {
                return std::future::pending().await;
            };
            let turn = order.began + order.spread.mul_f64(f64::from(self.turn) / f64::from(u32::MAX));
            tokio::select! {
                () = sleep_until(turn) => {
                    let by = if order.is_last { ClosedBy::Drain } else { ClosedBy::Restart };
                    return Ending { by, code: order.code, patience: order.patience(turn, close) };
                }
                // Another order may be in more of a hurry.
                _ = orders.changed() => {}
            }
        }
    }

    /// Whose it is, where clients are held to anything.
    pub(crate) fn client(&self) -> Option<&Client> {
        self.client.as_deref()
    }

    pub(crate) fn tunnels(&self) -> &Tunnels {
        &self.tunnels
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.tunnels.shared.clients.leave(self.client.as_deref());
        self.tunnels.shared.open.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    const CLOSE: Duration = Duration::from_secs(5);
    /// What the clock may be off by.
    const MOMENT: Duration = Duration::from_millis(2);

    fn enter(tunnels: &Tunnels) -> Result<OpenTunnel, Refusal> {
        tunnels.enter(None, Some(1000), &ClientLimits::default())
    }

    #[tokio::test(start_paused = true)]
    async fn the_ends_of_many_are_spread_and_that_of_one_is_not() {
        for (count, within, longest) in [(1000, 60, 10), (1000, 8, 4), (1, 60, 0)] {
            let tunnels = Tunnels::new();
            let open: Vec<_> = (0..count).map(|_| enter(&tunnels).unwrap()).collect();
            let (began, within) = (Instant::now(), Duration::from_secs(within));
            tunnels.drain_within(within);
            assert_eq!(enter(&tunnels).unwrap_err(), Refusal::Draining);
            let mut ends: JoinSet<_> = open
                .into_iter()
                .map(|tunnel| async move {
                    let ending = tunnel.ordered(CLOSE).await;
                    assert_eq!((ending.by, ending.code), (ClosedBy::Drain, 1001));
                    let left = within - began.elapsed();
                    // Time to answer, where there is any; a message has at least half of what is left.
                    assert!(ending.patience <= left.saturating_sub(CLOSE).max(left / 2) + MOMENT);
                    began.elapsed()
                })
                .collect();
            let mut seconds = vec![0_usize; 61];
            while let Some(end) = ends.join_next().await {
                seconds[end.unwrap().as_secs() as usize] += 1;
            }
            assert!(seconds[longest + 1..].iter().all(|count| *count == 0), "{seconds:?}");
            let even = count / longest.max(1);
            assert!(seconds[..longest].iter().all(|count| count.abs_diff(even) <= even / 10 + 2), "{seconds:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_is_for_those_that_were_there() {
        let tunnels = Tunnels::new();
        let old = enter(&tunnels).unwrap();
        tunnels.restart_within(Duration::from_secs(10));
        let new = enter(&tunnels).unwrap();
        let ending = old.ordered(CLOSE).await;
        assert_eq!((ending.by, ending.code), (ClosedBy::Restart, 1012));
        tokio::time::timeout(Duration::from_secs(60), new.ordered(CLOSE)).await.unwrap_err();
        tunnels.drain();
        assert_eq!(new.ordered(CLOSE).await.by, ClosedBy::Drain);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_at_once_overtakes_one_that_takes_its_time() {
        let tunnels = Tunnels::new();
        let open: Vec<_> = (0..1000).map(|_| enter(&tunnels).unwrap()).collect();
        tunnels.restart_within(Duration::from_secs(60));
        let begin = Instant::now();
        let last = open.iter().max_by_key(|tunnel| tunnel.turn).unwrap();
        let (ending, ()) = tokio::join!(last.ordered(CLOSE), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            tunnels.drain();
        });
        assert_eq!((ending.by, ending.patience, begin.elapsed()), (ClosedBy::Drain, CLOSE, Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn there_are_no_more_than_may_be_and_the_next_takes_a_place_that_is_free() {
        let tunnels = Tunnels::new();
        let enter = || tunnels.enter(None, Some(2), &ClientLimits::default());
        let (first, _second) = (enter().unwrap(), enter().unwrap());
        assert_eq!(enter().unwrap_err(), Refusal::TooMany);
        drop(first);
        let _third = enter().unwrap();
        assert_eq!(tunnels.open(), 2);
    }
}
