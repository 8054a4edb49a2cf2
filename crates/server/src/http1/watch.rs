//! What the connection's task, its socket and its service tell each other.
//!
//! All three live in one task, so nothing here is contended; atomics are used because hyper wants
//! the pieces to be `Send`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::RefusedHead;

/// The state that is shared.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Requests called so far.
    calls: AtomicU64,
    /// Requests whose response body has not ended.
    in_flight: AtomicUsize,
    /// The number of the call that is refused, counted from 1; 0 is none.
    refused_call: AtomicU64,
    refused: AtomicU8,
    /// Whether the beginning of a head is held back.
    head_began: AtomicBool,
    head_too_slow: AtomicBool,
    /// The number of the last call that was answered, doubled, plus 1 if it switched protocols.
    answered: AtomicU64,
    /// Whether a read waits for an answer.
    awaits_answer: AtomicBool,
}

impl Watch {
    /// Counts a call; the guard ends with its response body. Tells if the call is a refused head.
    pub(crate) fn call(self: &Arc<Self>) -> (InFlight, Option<RefusedHead>) {
        self.in_flight.fetch_add(1, Relaxed);
        let call = self.calls.fetch_add(1, Relaxed) + 1;
        let refused = (self.refused_call.load(Relaxed) == call).then(|| self.refused());
        (InFlight { watch: Arc::clone(self), call }, refused)
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight.load(Relaxed) > 0
    }

    /// The head after `heads` good ones is refused.
    pub(crate) fn refuse(&self, heads: u64, refused: RefusedHead) {
        self.refused.store(refused as u8, Relaxed);
        self.refused_call.store(heads + 1, Relaxed);
    }

    fn refused(&self) -> RefusedHead {
        use RefusedHead::{Framing, Malformed, TargetTooLong, TooLarge, TooSlow};
        let refused = self.refused.load(Relaxed);
        [Framing, TargetTooLong, TooLarge, TooSlow].into_iter().find(|r| *r as u8 == refused).unwrap_or(Malformed)
    }

    pub(crate) fn set_head_began(&self, began: bool) {
        self.head_began.store(began, Relaxed);
    }

    pub(crate) fn has_head_begun(&self) -> bool {
        self.head_began.load(Relaxed)
    }

    /// The head that began has had its time; the next read refuses it.
    pub(crate) fn end_slow_head(&self) {
        self.head_too_slow.store(true, Relaxed);
    }

    pub(crate) fn is_head_too_slow(&self) -> bool {
        self.head_too_slow.load(Relaxed)
    }

    /// The answer to the request of the head number `heads`: whether it switched protocols.
    pub(crate) fn answer_to(&self, heads: u64) -> Option<bool> {
        let answered = self.answered.load(Relaxed);
        let is_answered = answered >> 1 == heads;
        self.awaits_answer.store(!is_answered, Relaxed);
        is_answered.then_some(answered & 1 == 1)
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct InFlight {
    watch: Arc<Watch>,
    call: u64,
}

impl InFlight {
    /// Tells the answer; whether a read waits for it, so that the task must be polled again.
    pub(crate) fn answered(&self, switched: bool) -> bool {
        self.watch.answered.store(self.call << 1 | u64::from(switched), Relaxed);
        self.watch.awaits_answer.load(Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.watch.in_flight.fetch_sub(1, Relaxed);
    }
}
