//! Counters of tunnels, their traffic and the reasons for their end.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::summary::ClosedBy;

/// Counters of the tunnels of a [`WsPassthroughLayer`](crate::WsPassthroughLayer) and its clones.
///
/// They include the tunnels that are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TunnelStats {
    /// The number of tunnels opened so far.
    pub opened: u64,
    /// The number of bytes received from clients, including frame headers.
    pub bytes_from_client: u64,
    /// The number of bytes received from upstreams, including frame headers.
    pub bytes_from_upstream: u64,
    /// The number of complete messages received from clients.
    pub messages_from_client: u64,
    /// The number of complete messages received from upstreams.
    pub messages_from_upstream: u64,
    closed: [u64; ClosedBy::ALL.len()],
}

impl TunnelStats {
    /// Returns the number of tunnels that were closed for the reason `by`.
    #[must_use]
    pub fn closed(&self, by: ClosedBy) -> u64 {
        self.closed[by as usize]
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    opened: AtomicU64,
    pub(crate) from_client: Traffic,
    pub(crate) from_upstream: Traffic,
    closed: [AtomicU64; ClosedBy::ALL.len()],
}

/// The number of bytes and messages received from one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    bytes: AtomicU64,
    messages: AtomicU64,
}

impl Traffic {
    pub(crate) fn add(&self, bytes: u64, messages: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        // Most reads of a long message do not complete it.
        if messages > 0 {
            self.messages.fetch_add(messages, Relaxed);
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages.load(Relaxed)
    }
}

impl Counters {
    pub(crate) fn opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    pub(crate) fn closed(&self, by: ClosedBy) {
        self.closed[by as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn stats(&self) -> TunnelStats {
        TunnelStats {
            opened: self.opened.load(Relaxed),
            bytes_from_client: self.from_client.bytes(),
            bytes_from_upstream: self.from_upstream.bytes(),
            messages_from_client: self.from_client.messages(),
            messages_from_upstream: self.from_upstream.messages(),
            closed: std::array::from_fn(|index| self.closed[index].load(Relaxed)),
        }
    }
}
