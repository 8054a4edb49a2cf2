//! Bytes between a client and an upstream, for as long as both want it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use crate::direction::{Closing, Direction, Fault};
use crate::frames::GOING_AWAY;
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
        client_shut: bool,
        upstream_shut: bool,
    },
}

impl<C, U> Tunnel<C, U> {
    pub(crate) fn new(client: C, upstream: U, limits: Limits, tunnels: Tunnels) -> Self {
        Self {
            client,
            upstream,
            inbound: Direction::new(),
            outbound: Direction::new(),
            tunnels,
            phase: Phase::Open,
            failing: false,
            closed_by: None,
            code: None,
            limits,
            last_move: Instant::now(),
            timer: Box::pin(sleep(limits.idle)),
        }
    }

    /// Has both ends told at the end of the message that they are being sent, which may take as long as there is
    /// `patience`.
    pub(crate) fn close(&mut self, Ending { by, code, patience }: Ending) {
        if matches!(self.phase, Phase::Open) {
            self.closed_by.get_or_insert(by);
            self.code = Some(code);
            self.phase = Phase::Closing { code, mask: masking_key(), told: false };
            self.timer.as_mut().reset(Instant::now() + patience);
        }
    }

    /// What became of it.
    pub(crate) fn summary(&self, path: Box<str>, opened: Instant) -> TunnelSummary {
        TunnelSummary {
            path,
            bytes_from_client: self.inbound.bytes(),
            bytes_from_upstream: self.outbound.bytes(),
            messages_from_client: self.inbound.messages(),
            messages_from_upstream: self.outbound.messages(),
            duration: opened.elapsed(),
            closed_by: self.closed_by.unwrap_or(ClosedBy::Client),
            close_from_client: self.inbound.close_code(),
            close_from_upstream: self.outbound.close_code(),
            close_from_proxy: self.code,
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Ending { client_shut: false, upstream_shut: false };
        self.timer.as_mut().reset(Instant::now() + self.limits.close);
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
        // A connection that can't be read is gone.
        if let Poll::Ready(Err(Fault::Source)) = inbound {
            self.closed_by.get_or_insert(ClosedBy::Client);
            return Poll::Ready(());
        }
        if let Poll::Ready(Err(Fault::Source)) = outbound {
            self.closed_by.get_or_insert(ClosedBy::Upstream);
            return Poll::Ready(());
        }
        // From one that can't be written to, there may be something to read: its last words.
        if let Poll::Ready(Err(Fault::Destination)) = inbound {
            self.closed_by.get_or_insert(ClosedBy::Upstream);
            self.inbound.lose_destination();
            self.hurry();
            // It is to be looked at again, now that it goes nowhere.
            cx.waker().wake_by_ref();
        }
        if let Poll::Ready(Err(Fault::Destination)) = outbound {
            self.closed_by.get_or_insert(ClosedBy::Client);
            self.outbound.lose_destination();
            self.hurry();
            cx.waker().wake_by_ref();
        }
        // RFC 6455 §7.1.1: both have said Close, and one has ended the connection. There is nothing for the other to wait
        // for.
        let one_is_shut = self.inbound.is_shut() || self.outbound.is_shut();
        if one_is_shut && self.inbound.has_said_close() && self.outbound.has_said_close() {
            self.hurry();
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

    fn hurry(&mut self) {
        if !self.failing {
            self.failing = true;
            self.timer.as_mut().reset(Instant::now() + self.limits.close);
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

    /// Ends both connections in good order. An end that fails is one that ended.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Phase::Ending { client_shut, upstream_shut } = &mut self.phase else { return Poll::Pending };
        *client_shut = *client_shut || Pin::new(&mut self.client).poll_shutdown(cx).is_ready();
        *upstream_shut = *upstream_shut || Pin::new(&mut self.upstream).poll_shutdown(cx).is_ready();
        match *client_shut && *upstream_shut {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
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
