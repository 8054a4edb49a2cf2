//! The relay of a tunnel's bytes between a client and an upstream.

mod byte_direction;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use self::byte_direction::{ByteDirection, FailedSide, ProxyClose};
use crate::config::Timeouts;
use crate::frame_tracker::{FrameTracker, GOING_AWAY};
use crate::handshake::masking_key;
use crate::summary::{ClosedBy, TunnelSummary};
use crate::tunnels::{CloseCommand, Tunnels};

/// A future that relays bytes between client and upstream until both directions are closed.
pub(crate) struct ByteRelay<C, U> {
    client: C,
    upstream: U,
    inbound: ByteDirection,
    outbound: ByteDirection,
    tunnels: Tunnels,
    phase: Phase,
    /// Whether the tunnel's protocol is not WebSocket. The relay can then not send a Close, and a clean end of the
    /// connection is the only sign that the data is complete.
    is_opaque: bool,
    /// Whether an endpoint failed, or both endpoints sent a Close frame. The relay then ends when the timer fires.
    is_ending: bool,
    closed_by: Option<ClosedBy>,
    code: Option<u16>,
    timeouts: Timeouts,
    last_activity: Instant,
    timer: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Open,
    /// The relay sends a Close frame to both endpoints, and waits for their replies.
    Closing {
        code: u16,
        mask: [u8; 4],
        /// Whether the Close frame was sent to both endpoints, so that the close timeout has started.
        is_sent: bool,
    },
    /// The relay shuts down the connections to both endpoints. It reads nothing more.
    ShuttingDown {
        client_done: bool,
        upstream_done: bool,
    },
}

impl<C, U> ByteRelay<C, U> {
    pub(crate) fn new(client: C, upstream: U, timeouts: Timeouts, tunnels: Tunnels) -> Self {
        Self {
            client,
            upstream,
            inbound: ByteDirection::new(FrameTracker::new()),
            outbound: ByteDirection::new(FrameTracker::new()),
            tunnels,
            phase: Phase::Open,
            is_opaque: false,
            is_ending: false,
            closed_by: None,
            code: None,
            timeouts,
            last_activity: Instant::now(),
            timer: Box::pin(sleep(timeouts.idle)),
        }
    }

    /// Configures the relay for a tunnel whose protocol is not WebSocket.
    pub(crate) fn opaque(self) -> Self {
        Self {
            inbound: ByteDirection::new(FrameTracker::opaque()),
            outbound: ByteDirection::new(FrameTracker::opaque()),
            is_opaque: true,
            ..self
        }
    }

    /// Sends a Close frame to both endpoints, in each direction after the message in progress.
    ///
    /// An opaque relay continues for the message timeout, and is then cut off.
    pub(crate) fn close(&mut self, CloseCommand { by, code, message_timeout }: CloseCommand) {
        if matches!(self.phase, Phase::Open) {
            self.closed_by.get_or_insert(by);
            if self.is_opaque {
                self.end_within(message_timeout);
                return;
            }
            self.code = Some(code);
            self.phase = Phase::Closing { code, mask: masking_key(), is_sent: false };
            self.timer.as_mut().reset(Instant::now() + message_timeout);
        }
    }

    /// Returns a summary of the tunnel up to now, for logs.
    pub(crate) fn summary(&self, path: Box<str>, opened: Instant) -> TunnelSummary {
        TunnelSummary {
            bytes_from_client: self.inbound.bytes(),
            bytes_from_upstream: self.outbound.bytes(),
            messages_from_client: self.inbound.messages(),
            messages_from_upstream: self.outbound.messages(),
            close_from_client: self.inbound.close_code(),
            close_from_upstream: self.outbound.close_code(),
            close_from_proxy: self.code,
            ..TunnelSummary::new(path, opened.elapsed(), self.closed_by.unwrap_or(ClosedBy::Client))
        }
    }

    fn shut_down(&mut self) {
        self.phase = Phase::ShuttingDown { client_done: false, upstream_done: false };
        self.timer.as_mut().reset(Instant::now() + self.timeouts.close);
    }

    /// Ends the relay after `time`, unless it ends earlier.
    fn end_within(&mut self, time: Duration) {
        if !self.is_ending {
            self.is_ending = true;
            self.timer.as_mut().reset(Instant::now() + time);
        }
    }

    /// Schedules the end of the relay after an endpoint has failed.
    ///
    /// Bytes that it sent before are still relayed, even if it failed on a write. Bytes for it are read and discarded, because
    /// a socket that is closed with unread bytes resets its connection.
    fn handle_failure(&mut self, endpoint: ClosedBy, side: FailedSide) {
        let (from, to) = match endpoint {
            ClosedBy::Client => (&mut self.inbound, &mut self.outbound),
            _ => (&mut self.outbound, &mut self.inbound),
        };
        if side == FailedSide::Source {
            from.end_source();
        }
        to.lose_destination();
        self.end_within(self.timeouts.close);
    }

    /// Returns whether the relayed data is truncated and a clean end of the connection would hide it.
    fn is_truncated(&self) -> bool {
        self.is_opaque && !(self.inbound.is_shut_down() && self.outbound.is_shut_down())
    }
}

impl<C, U> ByteRelay<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// Relays bytes between client and upstream until both directions are closed. Ready when both are closed.
    fn poll_relay(&mut self, cx: &mut Context<'_>, close: Option<(u16, [u8; 4])>) -> Poll<()> {
        let to_upstream = close.map(|(code, key)| ProxyClose { code, mask: Some(key) });
        let to_client = close.map(|(code, _)| ProxyClose { code, mask: None });
        let inbound = self.inbound.poll(cx, &mut self.client, &mut self.upstream, to_upstream);
        if self.inbound.is_source_closed() {
            self.closed_by.get_or_insert(ClosedBy::Client);
        }
        let outbound = self.outbound.poll(cx, &mut self.upstream, &mut self.client, to_client);
        if self.outbound.is_source_closed() {
            self.closed_by.get_or_insert(ClosedBy::Upstream);
        }
        self.count();
        let (client, upstream) = (ClosedBy::Client, ClosedBy::Upstream);
        for (polled, source, destination) in [(inbound, client, upstream), (outbound, upstream, client)] {
            let Poll::Ready(Err(side)) = polled else { continue };
            let endpoint = if side == FailedSide::Source { source } else { destination };
            self.closed_by.get_or_insert(endpoint);
            if side == FailedSide::Source && self.is_opaque {
                return Poll::Ready(());
            }
            self.handle_failure(endpoint, side);
            // Polls the directions again in their new state.
            cx.waker().wake_by_ref();
        }
        // RFC 6455 §7.1.1: if both sent a Close and one has closed the connection, the other should close it as well.
        let is_one_shut_down = self.inbound.is_shut_down() || self.outbound.is_shut_down();
        if is_one_shut_down && self.inbound.has_close() && self.outbound.has_close() {
            self.end_within(self.timeouts.close);
        }
        let is_done = |direction: &ByteDirection| match close {
            Some(_) => direction.is_settled(),
            None => direction.is_shut_down(),
        };
        match is_done(&self.inbound) && is_done(&self.outbound) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn count(&mut self) {
        if self.inbound.take_has_moved() | self.outbound.take_has_moved() {
            self.last_activity = Instant::now();
            let counters = self.tunnels.counters();
            let (bytes, messages) = self.inbound.take_traffic();
            counters.from_client.add(bytes, messages);
            let (bytes, messages) = self.outbound.take_traffic();
            counters.from_upstream.add(bytes, messages);
        }
    }

    /// Shuts down the connections to both endpoints, or only flushes them if the relayed data is truncated.
    ///
    /// A TLS connection that is dropped without a shutdown sends no `close_notify`, so that the peer can detect the truncation
    /// (RFC 8446 §6.1). A failed connection counts as closed.
    fn poll_shut_down(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_truncated = self.is_truncated();
        let Phase::ShuttingDown { client_done, upstream_done } = &mut self.phase else { return Poll::Pending };
        let (client, upstream) = (Pin::new(&mut self.client), Pin::new(&mut self.upstream));
        *client_done = *client_done || poll_finish(client, cx, is_truncated).is_ready();
        *upstream_done = *upstream_done || poll_finish(upstream, cx, is_truncated).is_ready();
        match *client_done && *upstream_done {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

fn poll_finish(io: Pin<&mut impl AsyncWrite>, cx: &mut Context<'_>, is_truncated: bool) -> Poll<io::Result<()>> {
    match is_truncated {
        true => io.poll_flush(cx),
        false => io.poll_shutdown(cx),
    }
}

impl<C, U> Future for ByteRelay<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            // The relay is polled before the timer, so that late bytes still count.
            let done = match this.phase {
                Phase::Open => this.poll_relay(cx, None),
                Phase::Closing { code, mask, .. } => this.poll_relay(cx, Some((code, mask))),
                Phase::ShuttingDown { .. } => this.poll_shut_down(cx),
            };
            match (done, this.phase) {
                (Poll::Ready(()), Phase::ShuttingDown { .. }) => return Poll::Ready(()),
                (Poll::Ready(()), _) => {
                    this.shut_down();
                    continue;
                }
                (Poll::Pending, _) => {}
            }
            if let Phase::Closing { is_sent: is_sent @ false, .. } = &mut this.phase
                && this.inbound.is_close_sent()
                && this.outbound.is_close_sent()
            {
                *is_sent = true;
                this.timer.as_mut().reset(Instant::now() + this.timeouts.close);
            }
            if this.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match this.phase {
                Phase::Open if this.is_ending => this.shut_down(),
                Phase::Open => {
                    // The timer is reset only when it fires, which is cheaper than a reset for each read.
                    let deadline = this.last_activity + this.timeouts.idle;
                    match deadline <= Instant::now() {
                        true => this.close(CloseCommand {
                            by: ClosedBy::IdleTimeout,
                            code: GOING_AWAY,
                            message_timeout: this.timeouts.close,
                        }),
                        false => this.timer.as_mut().reset(deadline),
                    }
                }
                Phase::Closing { .. } => this.shut_down(),
                Phase::ShuttingDown { .. } => return Poll::Ready(()),
            }
        }
    }
}
