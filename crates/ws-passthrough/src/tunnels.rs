//! How many tunnels are open, and their end.

use std::sync::Arc;

use tokio::sync::watch;

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
    draining: watch::Sender<bool>,
}

impl Tunnels {
    pub(crate) fn new() -> Self {
        Self { shared: Arc::new(Shared { open: watch::Sender::new(0), draining: watch::Sender::new(false) }) }
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        *self.shared.open.borrow()
    }

    /// Ends them: each end gets a Close with 1001 (going away) after the message that it is being
    /// sent, and has [some seconds](crate::WsPassthroughLayer::close_timeout) to answer. Further
    /// handshakes are refused with 503.
    pub fn drain(&self) {
        self.shared.draining.send_replace(true);
    }

    /// Waits until none is open.
    pub async fn closed(&self) {
        // Can't fail: we hold the sender.
        let _ = self.shared.open.subscribe().wait_for(|open| *open == 0).await;
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.shared.draining.borrow()
    }

    pub(crate) fn enter(&self) -> OpenTunnel {
        self.shared.open.send_modify(|open| *open += 1);
        OpenTunnel { tunnels: self.clone() }
    }
}

/// Counts for one, until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenTunnel {
    tunnels: Tunnels,
}

impl OpenTunnel {
    /// Waits for [`Tunnels::drain`].
    pub(crate) async fn drained(&self) {
        let _ = self.tunnels.shared.draining.subscribe().wait_for(|draining| *draining).await;
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.tunnels.shared.open.send_modify(|open| *open -= 1);
    }
}
