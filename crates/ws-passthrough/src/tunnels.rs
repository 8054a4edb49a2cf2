//! The set of open tunnels, with its counters and the commands to close tunnels.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::client_limits::Client;
use crate::frame_tracker::{GOING_AWAY, SERVICE_RESTART};
use crate::rejection::WsRejection;
use crate::stats::{Counters, TunnelStats};
use crate::summary::ClosedBy;
use crate::tunnel_counts::{CountGuard, TunnelCounts};

/// A handle to the tunnels of a [`WsPassthroughLayer`](crate::WsPassthroughLayer) and its clones.
///
/// HTTP servers do not count tunnels, because the HTTP connection ends with the 101.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use rproxy_ws_passthrough::WsPassthroughLayer;
///
/// # async fn shut_down(layer: WsPassthroughLayer) {
/// let tunnels = layer.tunnels();
/// tunnels.drain_within(Duration::from_secs(30));
/// tunnels.closed().await;
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tunnels {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    open: watch::Sender<usize>,
    /// The number of tunnels opened so far.
    total: AtomicU64,
    orders: watch::Sender<Orders>,
    counters: Counters,
}

/// The commands to close tunnels. Each tunnel is notified of a change.
#[derive(Debug)]
struct Orders {
    /// The generation number of tunnels that are opened now, which each command increments.
    generation: u64,
    /// The most recent command for all tunnels. A command for some of them is in their [counts](TunnelCounts::order).
    all: CloseOrder,
}

/// A command to close the tunnels that were opened before the command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CloseOrder {
    /// The generation number of tunnels that are opened after this command. The command applies to tunnels of earlier
    /// generations.
    generation: u64,
    began: Instant,
    code: u16,
    /// The time over which the Close frames to all tunnels are spread.
    spread: Duration,
    /// The time within which all tunnels should be closed, or `None` if no time was given.
    within: Option<Duration>,
    /// Whether new tunnels are rejected after this command.
    is_last: bool,
}

impl Tunnels {
    pub(crate) fn new() -> Self {
        let all = CloseOrder {
            generation: 0,
            began: Instant::now(),
            code: GOING_AWAY,
            spread: Duration::ZERO,
            within: None,
            is_last: false,
        };
        Self {
            inner: Arc::new(Inner {
                open: watch::Sender::new(0),
                total: AtomicU64::new(0),
                orders: watch::Sender::new(Orders { generation: 0, all }),
                counters: Counters::default(),
            }),
        }
    }

    /// Returns the number of open tunnels, including those whose handshake is in progress.
    #[must_use]
    pub fn open_count(&self) -> usize {
        *self.inner.open.borrow()
    }

    /// Returns the counters of all tunnels opened so far.
    #[must_use]
    pub fn stats(&self) -> TunnelStats {
        self.inner.counters.stats()
    }

    /// Closes all tunnels, and rejects new handshakes with 503.
    ///
    /// Both endpoints get a Close with 1001 (going away) after the message in progress. They then have the
    /// [close timeout](crate::WsPassthroughLayer::close_timeout) to reply.
    pub fn drain(&self) {
        self.close(GOING_AWAY, None, true);
    }

    /// Closes all tunnels within `time`, and rejects new handshakes with 503.
    ///
    /// It differs from [`drain`](Self::drain) in that the tunnels are not closed at the same moment, so that the clients do
    /// not reconnect at the same moment. At most 100 tunnels per second are closed, unless that would take more than half of
    /// `time`. Messages in progress may use the rest of `time`.
    pub fn drain_within(&self, time: Duration) {
        self.close(GOING_AWAY, Some(time), true);
    }

    /// Closes the currently open tunnels within `time`, with close code 1012 (service restart).
    ///
    /// New handshakes are accepted. Use this when the upstreams have changed. The tunnels are closed one after the other, as
    /// with [`drain_within`](Self::drain_within).
    pub fn restart_within(&self, time: Duration) {
        self.close(SERVICE_RESTART, Some(time), false);
    }

    /// Closes the currently open tunnels that `counts` counts, as [`restart_within`](Self::restart_within) does.
    ///
    /// Other tunnels stay open. Use this when one of several upstreams has changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rproxy_ws_passthrough::{TunnelCounts, WsPassthroughLayer};
    ///
    /// let layer = WsPassthroughLayer::new();
    /// let counts = TunnelCounts::default();
    /// let chat = layer.clone().counts(counts.clone());
    /// layer.tunnels().restart_counted_within(&counts, Duration::from_secs(30));
    /// # let _ = chat;
    /// ```
    pub fn restart_counted_within(&self, counts: &TunnelCounts, time: Duration) {
        let open = counts.open();
        self.inner.orders.send_modify(|orders| {
            orders.generation += 1;
            counts.set_order(CloseOrder::new(orders.generation, open, SERVICE_RESTART, Some(time), false));
        });
    }

    fn close(&self, code: u16, within: Option<Duration>, is_last: bool) {
        let open = self.open_count();
        self.inner.orders.send_modify(|orders| {
            orders.generation += 1;
            let is_last = is_last || orders.all.is_last;
            orders.all = CloseOrder::new(orders.generation, open, code, within, is_last);
        });
    }

    /// Waits until all tunnels are closed.
    pub async fn closed(&self) {
        // Cannot fail: the sender is in `self`.
        let _ = self.inner.open.subscribe().wait_for(|open| *open == 0).await;
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Opens a tunnel, unless `count` rejects it or the tunnels are draining.
    pub(crate) fn open(
        &self,
        count: impl FnOnce() -> Result<CountGuard, WsRejection>,
    ) -> Result<TunnelGuard, WsRejection> {
        let orders = self.inner.orders.borrow();
        if orders.all.is_last {
            return Err(WsRejection::Draining);
        }
        let generation = orders.generation;
        drop(orders);
        let count = count()?;
        self.inner.open.send_modify(|open| *open += 1);
        // Multiples of the golden ratio are evenly distributed, for any number of tunnels.
        let offset = self.inner.total.fetch_add(1, Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let offset = (offset >> 32) as u32;
        Ok(TunnelGuard { tunnels: self.clone(), count, opened: Instant::now(), generation, offset })
    }
}

impl CloseOrder {
    /// Creates a command that begins now, for `open` tunnels.
    fn new(generation: u64, open: usize, code: u16, within: Option<Duration>, is_last: bool) -> Self {
        let unhurried = MIN_INTERVAL.saturating_mul(u32::try_from(open).unwrap_or(u32::MAX));
        let spread = within.map_or(Duration::ZERO, |within| unhurried.min(within / 2));
        Self { generation, began: Instant::now(), code, spread, within, is_last }
    }

    /// Returns the time at which a tunnel closes, from its position in the order as a fraction of `u32::MAX`.
    fn start(&self, offset: u32) -> Instant {
        self.began + self.spread.mul_f64(f64::from(offset) / f64::from(u32::MAX))
    }

    /// Returns the maximum time to complete a message that is in progress at `start`.
    ///
    /// It leaves the time for the replies, `close`, but is at least half of the remaining time.
    fn message_timeout(&self, start: Instant, close: Duration) -> Duration {
        let Some(within) = self.within else { return close };
        let remaining = (self.began + within).saturating_duration_since(start);
        remaining.saturating_sub(close).max(remaining / 2)
    }
}

/// The minimum time between closing two tunnels, so that at most 100 tunnels close per second.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// A guard that counts a tunnel as open until it is dropped.
#[derive(Debug)]
pub(crate) struct TunnelGuard {
    tunnels: Tunnels,
    count: CountGuard,
    opened: Instant,
    generation: u64,
    /// The position of this tunnel in the order in which tunnels are closed, as a fraction of `u32::MAX`.
    offset: u32,
}

/// A command to close a tunnel, with the close code for both endpoints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CloseCommand {
    pub(crate) by: ClosedBy,
    pub(crate) code: u16,
    /// The maximum time to complete a message that is in progress.
    pub(crate) message_timeout: Duration,
}

impl TunnelGuard {
    /// Waits until the tunnel must be closed because of a close command or its maximum lifetime.
    ///
    /// `close` is the time that the replies may take.
    pub(crate) async fn close_command(&self, close: Duration, max_lifetime: Option<Duration>) -> CloseCommand {
        let expired = async {
            match max_lifetime {
                Some(lifetime) => sleep_until(self.opened + lifetime).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = self.ordered_close(close) => command,
            () = expired => CloseCommand { by: ClosedBy::Lifetime, code: GOING_AWAY, message_timeout: close },
        }
    }

    async fn ordered_close(&self, close: Duration) -> CloseCommand {
        let mut orders = self.tunnels.inner.orders.subscribe();
        loop {
            let all = orders.borrow_and_update().all;
            let applicable = [Some(all), self.count.counts().order()].into_iter().flatten();
            let applicable = applicable.filter(|order| order.generation > self.generation);
            let first = applicable.min_by_key(|order| order.start(self.offset));
            let closing = async {
                let Some(order) = first else { return std::future::pending().await };
                let start = order.start(self.offset);
                sleep_until(start).await;
                let by = if order.is_last { ClosedBy::Drain } else { ClosedBy::Restart };
                CloseCommand { by, code: order.code, message_timeout: order.message_timeout(start, close) }
            };
            tokio::select! {
                command = closing => return command,
                // A new order may close the tunnel earlier. Cannot fail: the sender is in `self`.
                _ = orders.changed() => {}
            }
        }
    }

    /// Returns the client of the tunnel, to which limits per client apply.
    pub(crate) fn client(&self) -> &Client {
        self.count.client()
    }

    pub(crate) fn tunnels(&self) -> &Tunnels {
        &self.tunnels
    }
}

impl Drop for TunnelGuard {
    fn drop(&mut self) {
        self.tunnels.inner.open.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::client_limits::ClientLimits;

    const CLOSE: Duration = Duration::from_secs(5);
    /// The tolerance for inexact timers in assertions on durations.
    const TOLERANCE: Duration = Duration::from_millis(2);

    fn acquire(tunnels: &Tunnels) -> Result<TunnelGuard, WsRejection> {
        acquire_counted(tunnels, &TunnelCounts::default())
    }

    fn acquire_counted(tunnels: &Tunnels, counts: &TunnelCounts) -> Result<TunnelGuard, WsRejection> {
        tunnels.open(|| counts.acquire(&[], None, None, &ClientLimits::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn drain_within_spreads_the_close_frames_of_many_tunnels() {
        for (count, within, spread_seconds) in [(1000, 60, 10), (1000, 8, 4), (1, 60, 0)] {
            let tunnels = Tunnels::new();
            let open: Vec<_> = (0..count).map(|_| acquire(&tunnels).unwrap()).collect();
            let (began, within) = (Instant::now(), Duration::from_secs(within));
            tunnels.drain_within(within);
            assert_eq!(acquire(&tunnels).unwrap_err(), WsRejection::Draining);
            let mut closes: JoinSet<_> = open
                .into_iter()
                .map(|tunnel| async move {
                    let command = tunnel.ordered_close(CLOSE).await;
                    assert_eq!((command.by, command.code), (ClosedBy::Drain, 1001));
                    let remaining = within - began.elapsed();
                    let limit = remaining.saturating_sub(CLOSE).max(remaining / 2);
                    assert!(command.message_timeout <= limit + TOLERANCE);
                    began.elapsed()
                })
                .collect();
            let mut seconds = vec![0_usize; 61];
            while let Some(close) = closes.join_next().await {
                seconds[close.unwrap().as_secs() as usize] += 1;
            }
            assert!(seconds[spread_seconds + 1..].iter().all(|count| *count == 0), "{seconds:?}");
            let even = count / spread_seconds.max(1);
            assert!(seconds[..spread_seconds].iter().all(|count| count.abs_diff(even) <= even / 10 + 2), "{seconds:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn restart_closes_only_tunnels_that_were_opened_before_the_call() {
        let tunnels = Tunnels::new();
        let old = acquire(&tunnels).unwrap();
        tunnels.restart_within(Duration::from_secs(10));
        let new = acquire(&tunnels).unwrap();
        let command = old.ordered_close(CLOSE).await;
        assert_eq!((command.by, command.code), (ClosedBy::Restart, 1012));
        tokio::time::timeout(Duration::from_secs(60), new.ordered_close(CLOSE)).await.unwrap_err();
        tunnels.drain();
        assert_eq!(new.ordered_close(CLOSE).await.by, ClosedBy::Drain);
    }

    #[tokio::test(start_paused = true)]
    async fn restart_of_counted_tunnels_closes_no_others() {
        let (tunnels, counts) = (Tunnels::new(), TunnelCounts::default());
        let old = acquire_counted(&tunnels, &counts).unwrap();
        let other = acquire(&tunnels).unwrap();
        let (command, ()) = tokio::join!(old.ordered_close(CLOSE), async {
            tunnels.restart_counted_within(&counts, Duration::from_secs(10));
        });
        assert_eq!((command.by, command.code), (ClosedBy::Restart, 1012));
        let new = acquire_counted(&tunnels, &counts).unwrap();
        for open in [&other, &new] {
            tokio::time::timeout(Duration::from_secs(60), open.ordered_close(CLOSE)).await.unwrap_err();
        }
        tunnels.drain();
        assert_eq!(new.ordered_close(CLOSE).await.by, ClosedBy::Drain);
        assert_eq!(other.ordered_close(CLOSE).await.by, ClosedBy::Drain);
    }

    #[tokio::test(start_paused = true)]
    async fn drain_closes_all_tunnels_at_once_even_during_gradual_closing() {
        let tunnels = Tunnels::new();
        let open: Vec<_> = (0..1000).map(|_| acquire(&tunnels).unwrap()).collect();
        tunnels.restart_within(Duration::from_secs(60));
        let begin = Instant::now();
        let last = open.iter().max_by_key(|tunnel| tunnel.offset).unwrap();
        let (command, ()) = tokio::join!(last.ordered_close(CLOSE), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            tunnels.drain();
        });
        assert_eq!(
            (command.by, command.message_timeout, begin.elapsed()),
            (ClosedBy::Drain, CLOSE, Duration::from_secs(1))
        );
    }
}
