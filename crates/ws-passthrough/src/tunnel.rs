//! Bytes between a client and an upstream, for as long as both want it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use crate::direction::{Closing, Direction, Fault};
use crate::handshake::masking_key;
use crate::summary::{ClosedBy, TunnelSummary};

/// Two directions and a timer. Spawned, as it outlives the request that asked for it.
pub(crate) struct Tunnel<C, U> {
    client: C,
    upstream: U,
    inbound: Direction,
    outbound: Direction,
    phase: Phase,
    closed_by: Option<ClosedBy>,
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
        mask: [u8; 4],
    },
    /// Nothing more is read.
    Ending {
        client_shut: bool,
        upstream_shut: bool,
    },
}

impl<C, U> Tunnel<C, U> {
    pub(crate) fn new(client: C, upstream: U, limits: Limits) -> Self {
        Self {
            client,
            upstream,
            inbound: Direction::new(),
            outbound: Direction::new(),
            phase: Phase::Open,
            closed_by: None,
            limits,
            last_move: Instant::now(),
            timer: Box::pin(sleep(limits.idle)),
        }
    }

    /// Has both ends told at the end of the message that they are being sent.
    pub(crate) fn close(&mut self, by: ClosedBy) {
        if matches!(self.phase, Phase::Open) {
            self.closed_by.get_or_insert(by);
            self.phase = Phase::Closing { mask: masking_key() };
            self.timer.as_mut().reset(Instant::now() + self.limits.close);
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
    fn poll_relay(&mut self, cx: &mut Context<'_>, mask: Option<[u8; 4]>) -> Poll<()> {
        let (to_upstream, to_client) =
            (mask.map(|key| Closing { mask: Some(key) }), mask.map(|_| Closing { mask: None }));
        let inbound = self.inbound.poll(cx, &mut self.client, &mut self.upstream, to_upstream);
        if self.inbound.source_closed() {
            self.closed_by.get_or_insert(ClosedBy::Client);
        }
        let outbound = self.outbound.poll(cx, &mut self.upstream, &mut self.client, to_client);
        if self.outbound.source_closed() {
            self.closed_by.get_or_insert(ClosedBy::Upstream);
        }
        if self.inbound.take_moved() | self.outbound.take_moved() {
            self.last_move = Instant::now();
        }
        let fault = match (inbound, outbound) {
            (Poll::Ready(Err(Fault::Source)), _) | (_, Poll::Ready(Err(Fault::Destination))) => Some(ClosedBy::Client),
            (Poll::Ready(Err(Fault::Destination)), _) | (_, Poll::Ready(Err(Fault::Source))) => {
                Some(ClosedBy::Upstream)
            }
            _ => None,
        };
        if let Some(by) = fault {
            self.closed_by.get_or_insert(by);
            return Poll::Ready(());
        }
        let settled = |direction: &Direction| match mask {
            Some(_) => direction.is_settled(),
            None => direction.is_shut(),
        };
        match settled(&self.inbound) && settled(&self.outbound) {
            true => Poll::Ready(()),
            false => Poll::Pending,
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
                Phase::Closing { mask } => this.poll_relay(cx, Some(mask)),
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
            if this.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match this.phase {
                Phase::Open => {
                    // Set anew only when it has run out, not with every byte.
                    let deadline = this.last_move + this.limits.idle;
                    match deadline <= Instant::now() {
                        true => this.close(ClosedBy::IdleTimeout),
                        false => this.timer.as_mut().reset(deadline),
                    }
                }
                Phase::Closing { .. } => this.end(),
                Phase::Ending { .. } => return Poll::Ready(()),
            }
        }
    }
}
