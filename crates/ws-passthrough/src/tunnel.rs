//! Bytes between a client and an upstream, for as long as both want it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use crate::direction::{Closing, Direction, Fault};
use crate::frames::{FrameTracker, GOING_AWAY};
use crate::handshake::masking_key;
use crate::summary::{ClosedBy, TunnelSummary};
use crate::tunnels::{Ending, Tunnels};

/// Two directions and a timer. Spawned, as it outlives the request that asked for it.
pub(crate) struct Tunnel<C, U> {
    client: C,
    upstream: U,
    inbound: Direction,
    outbound: Direction,
    tunnels: Tunnels,
    phase: Phase,
    /// What is spoken is no WebSocket: there is no word of ours for its end, and no other sign that it is whole.
    is_opaque: bool,
    /// An end takes no more, or has ended for good: the rest is to be over soon.
    failing: bool,
    closed_by: Option<ClosedBy>,
    code: Option<u16>,
    limits: Limits,
    last_move: Instant,
    timer: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) idle: Duration,
    /// How long the ends have to answer a Close of ours.
    pub(crate) close: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Open,
    /// We say Close to both ends, and wait for their answers.
    Closing {
        code: u16,
        mask: [u8; 4],
        /// Both have been told: from now on, they have time to answer.
        told: bool,
    },
    /// Nothing more is read.
    Ending {
        client_done: bool,
        upstream_done: bool,
    },
}

impl<C, U> Tunnel<C, U> {
    pub(crate) fn new(client: C, upstream: U, limits: Limits, tunnels: Tunnels) -> Self {
        Self {
            client,
            upstream,
            inbound: Direction::new(FrameTracker::new()),
            outbound: Direction::new(FrameTracker::new()),
            tunnels,
            phase: Phase::Open,
            is_opaque: false,
            failing: false,
            closed_by: None,
            code: None,
            limits,
            last_move: Instant::now(),
            timer: Box::pin(sleep(limits.idle)),
        }
    }

    /// For a protocol that is no WebSocket.
    pub(crate) fn opaque(self) -> Self {
        Self {
            inbound: Direction::new(FrameTracker::blind()),
            outbound: Direction::new(FrameTracker::blind()),
            is_opaque: true,
            ..self
        }
    }

    /// Has both ends told at the end of the message that they are being sent, which may take as long as there is
    /// `patience`. So long may an opaque one go on, too, before it is cut off.
    pub(crate) fn close(&mut self, Ending { by, code, patience }: Ending) {
        if matches!(self.phase, Phase::Open) {
            self.closed_by.get_or_insert(by);
            if self.is_opaque {
                self.hurry(patience);
                return;
            }
            self.code = Some(code);
            self.phase = Phase::Closing { code, mask: masking_key(), told: false };
            self.timer.as_mut().reset(Instant::now() + patience);
        }
    }

    /// What became of it.
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

    fn end(&mut self) {
        self.phase = Phase::Ending { client_done: false, upstream_done: false };
        self.timer.as_mut().reset(Instant::now() + self.limits.close);
    }

    /// What is not over by itself within `time` is ended.
    fn hurry(&mut self, time: Duration) {
        if !self.failing {
            self.failing = true;
            self.timer.as_mut().reset(Instant::now() + time);
        }
    }

    /// One end can't be read any more, or takes no more. What it has said still arrives, and so may the last words of one
    /// that takes no more; what is said to it is read and thrown away, as a socket that is closed with bytes unread
    /// resets its connection.
    fn lose(&mut self, end: ClosedBy, fault: Fault) {
        let (from, to) = match end {
            ClosedBy::Client => (&mut self.inbound, &mut self.outbound),
            _ => (&mut self.outbound, &mut self.inbound),
        };
        if fault == Fault::Source {
            from.end_source();
        }
        to.lose_destination();
        self.hurry(self.limits.close);
    }

    /// Whether it ends before both had said all that they had to say, where nothing but the end of the connection
    /// would tell: that is not to look like a good end.
    fn is_cut_off(&self) -> bool {
        self.is_opaque && !(self.inbound.is_shut() && self.outbound.is_shut())
    }
}

impl<C, U> Tunnel<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// Moves bytes both ways. Ready when there is nothing left to do.
    fn poll_relay(&mut self, cx: &mut Context<'_>, closing: Option<(u16, [u8; 4])>) -> Poll<()> {
        let to_upstream = closing.map(|(code, key)| Closing { code, mask: Some(key) });
        let to_client = closing.map(|(code, _)| Closing { code, mask: None });
        let inbound = self.inbound.poll(cx, &mut self.client, &mut self.upstream, to_upstream);
        if self.inbound.source_closed() {
            self.closed_by.get_or_insert(ClosedBy::Client);
        }
        let outbound = self.outbound.poll(cx, &mut self.upstream, &mut self.client, to_client);
        if self.outbound.source_closed() {
            self.closed_by.get_or_insert(ClosedBy::Upstream);
        }
        self.count();
        let (client, upstream) = (ClosedBy::Client, ClosedBy::Upstream);
        for (moved, source, destination) in [(inbound, client, upstream), (outbound, upstream, client)] {
            let Poll::Ready(Err(fault)) = moved else { continue };
            let gone = if fault == Fault::Source { source } else { destination };
            self.closed_by.get_or_insert(gone);
            if fault == Fault::Source && self.is_opaque {
                return Poll::Ready(());
            }
            self.lose(gone, fault);
            // The directions are to be looked at again, now that they go elsewhere.
            cx.waker().wake_by_ref();
        }
        // RFC 6455 §7.1.1: both have said Close, and one has ended the connection. There is nothing for the other to wait
        // for.
        let one_is_shut = self.inbound.is_shut() || self.outbound.is_shut();
        if one_is_shut && self.inbound.has_said_close() && self.outbound.has_said_close() {
            self.hurry(self.limits.close);
        }
        let settled = |direction: &Direction| match closing {
            Some(_) => direction.is_settled(),
            None => direction.is_shut(),
        };
        match settled(&self.inbound) && settled(&self.outbound) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn count(&mut self) {
        if self.inbound.take_moved() | self.outbound.take_moved() {
            self.last_move = Instant::now();
            let ((inbound, sent), (outbound, answered)) = (self.inbound.take_new(), self.outbound.take_new());
            let counters = self.tunnels.counters();
            counters.from_client.add(inbound, sent);
            counters.from_upstream.add(outbound, answered);
        }
    }

    /// Ends both connections in good order, or sends what there is, so that they can be dropped: then TLS, for one, does
    /// not say that this was all (RFC 8446 §6.1). An end that fails is one that ended.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_cut_off = self.is_cut_off();
        let Phase::Ending { client_done, upstream_done } = &mut self.phase else { return Poll::Pending };
        let (client, upstream) = (Pin::new(&mut self.client), Pin::new(&mut self.upstream));
        *client_done = *client_done || poll_finish(client, cx, is_cut_off).is_ready();
        *upstream_done = *upstream_done || poll_finish(upstream, cx, is_cut_off).is_ready();
        match *client_done && *upstream_done {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

fn poll_finish(io: Pin<&mut impl AsyncWrite>, cx: &mut Context<'_>, is_cut_off: bool) -> Poll<io::Result<()>> {
    match is_cut_off {
        true => io.poll_flush(cx),
        false => io.poll_shutdown(cx),
    }
}

impl<C, U> Future for Tunnel<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            // The work before the timer.
            let done = match this.phase {
                Phase::Open => this.poll_relay(cx, None),
                Phase::Closing { code, mask, .. } => this.poll_relay(cx, Some((code, mask))),
                Phase::Ending { .. } => this.poll_end(cx),
            };
            match (done, this.phase) {
                (Poll::Ready(()), Phase::Ending { .. }) => return Poll::Ready(()),
                (Poll::Ready(()), _) => {
                    this.end();
                    continue;
                }
                (Poll::Pending, _) => {}
            }
            if let Phase::Closing { told: told @ false, .. } = &mut this.phase
                && this.inbound.is_told()
                && this.outbound.is_told()
            {
                *told = true;
                this.timer.as_mut().reset(Instant::now() + this.limits.close);
            }
            if this.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match this.phase {
                Phase::Open if this.failing => this.end(),
                Phase::Open => {
                    // Set anew only when it has run out, not with every byte.
                    let deadline = this.last_move + this.limits.idle;
                    match deadline <= Instant::now() {
                        true => this.close(Ending {
                            by: ClosedBy::IdleTimeout,
                            code: GOING_AWAY,
                            patience: this.limits.close,
                        }),
                        false => this.timer.as_mut().reset(deadline),
                    }
                }
                Phase::Closing { .. } => this.end(),
                Phase::Ending { .. } => return Poll::Ready(()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
