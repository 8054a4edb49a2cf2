//! Turns of the executor for large bodies: a socket that takes everything, with a body that is there, never waits.

use bytes::{Buf, Bytes};
use tokio::task::yield_now;

/// The bytes that may still be sent in this turn.
pub(super) struct Turn {
    left: usize,
}

impl Default for Turn {
    fn default() -> Self {
        Self { left: BYTES_PER_TURN }
    }
}

impl Turn {
    /// The piece of `data` that ends the turn, if there is that much. Else all of `data` is part of this turn.
    pub(super) fn piece(&mut self, data: &mut impl Buf) -> Option<Bytes> {
        match self.left.checked_sub(data.remaining()) {
            Some(left) if left > 0 => {
                self.left = left;
                None
            }
            _ => Some(data.copy_to_bytes(self.left)),
        }
    }

    /// Lets the runtime run other tasks and poll its sockets.
    pub(super) async fn end(&mut self) {
        self.left = BYTES_PER_TURN;
        yield_now().await;
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
    async fn other_tasks_run_between_turns() {
        let mut turn = Turn::default();
        let other = tokio::spawn(async {});
        let mut large = Bytes::from(vec![0; BYTES_PER_TURN]);
        assert!(turn.piece(&mut large).is_some());
        assert!(!other.is_finished());
        turn.end().await;
        assert!(other.is_finished());
        assert!(turn.piece(&mut large).is_none());
    }
}
