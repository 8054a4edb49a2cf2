//! Turns of the executor for large bodies: a socket that takes everything, with a body that is there, never waits.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::task::yield_now;

/// The bytes that may still be sent in this turn.
pub(crate) struct Turn {
    left: usize,
    /// Between two turns.
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Default for Turn {
    fn default() -> Self {
        Self { left: BYTES_PER_TURN, pause: None }
    }
}

impl Turn {
    /// Ready within a turn. Between two of them the runtime runs other tasks and polls its sockets.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(())
    }

    /// Counts bytes that are sent; too many end the turn.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
        if self.left == 0 {
            *self = Self { left: BYTES_PER_TURN, pause: Some(Box::pin(yield_now())) };
        }
    }

    /// The piece of `data` that ends the turn, if there is that much. Else all of `data` is part of this turn.
    pub(super) fn piece(&mut self, data: &mut impl Buf) -> Option<Bytes> {
        let length = data.remaining().min(self.left);
        let piece = (length == self.left).then(|| data.copy_to_bytes(length));
        self.count(length);
        piece
    }

    /// Waits for the next turn.
    pub(super) async fn next(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}

/// A tenth of a millisecond's work, with TLS twice as much.
const BYTES_PER_TURN: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_after_its_bytes_whatever_the_frames() {
        let mut turn = Turn::default();
        let mut small = Bytes::from(vec![0; BYTES_PER_TURN - 10]);
        assert!(turn.piece(&mut small).is_none());
        assert_eq!(small.len(), BYTES_PER_TURN - 10);
        let mut large = Bytes::from(vec![0; 3 * BYTES_PER_TURN]);
        assert_eq!(turn.piece(&mut large).unwrap().len(), 10);
        assert_eq!(large.len(), 3 * BYTES_PER_TURN - 10);
    }

    #[tokio::test]
    async fn counted_bytes_end_a_turn() {
        let mut turn = Turn::default();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        turn.count(BYTES_PER_TURN - 1);
        assert!(turn.poll(&mut cx).is_ready());
        turn.count(1);
        assert!(turn.poll(&mut cx).is_pending());
        turn.next().await;
        assert!(turn.poll(&mut cx).is_ready());
    }

    #[tokio::test]
    async fn other_tasks_run_between_turns() {
        let mut turn = Turn::default();
        let other = tokio::spawn(async {});
        let mut large = Bytes::from(vec![0; BYTES_PER_TURN]);
        assert!(turn.piece(&mut large).is_some());
        assert!(!other.is_finished());
        turn.next().await;
        assert!(other.is_finished());
        assert!(turn.piece(&mut large).is_none());
    }
}
