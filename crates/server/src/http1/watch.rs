//! What the connection's task, its socket and its service tell each other.
//!
//! All three live in one task, so nothing here is contended; atomics are used because hyper wants
//! the pieces to be `Send`.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::RefusedHead;

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
    /// The number of the head whose beginning is held back, counted from 1; 0 is none.
    head_began: AtomicU64,
    head_too_slow: AtomicBool,
    /// The number of the last call that was answered, doubled, plus 1 if it switched protocols.
    answered: AtomicU64,
    /// Whether a read waits for an answer.
    awaits_answer: AtomicBool,
    /// Whether a read waits for the end of the answer, to go on with what is held behind the request.
    awaits_end: AtomicBool,
    /// Whether content of the last request has not been taken to its end.
    has_content_left: AtomicBool,
    /// Whether the client has sent its last request.
    is_half_closed: AtomicBool,
    /// Whether the connection ends without an answer that could be lost.
    ends_idle: AtomicBool,
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
        use RefusedHead::{Framing, Malformed, TargetTooLong, TooLarge, TooSlow, UnknownCoding};
        let refused = self.refused.load(Relaxed);
        [Framing, TargetTooLong, TooLarge, TooSlow, UnknownCoding]
            .into_iter()
            .find(|r| *r as u8 == refused)
            .unwrap_or(Malformed)
    }

    /// Tells the number of the head that has come in part, if any.
    pub(crate) fn set_head_began(&self, head: Option<NonZeroU64>) {
        self.head_began.store(head.map_or(0, NonZeroU64::get), Relaxed);
    }

    /// The number of the head that has come in part.
    pub(crate) fn head_began(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.head_began.load(Relaxed))
    }

    /// The head that began has had its time; the next read refuses it.
    pub(crate) fn end_slow_head(&self) {
        self.head_too_slow.store(true, Relaxed);
    }

    pub(crate) fn is_head_too_slow(&self) -> bool {
        self.head_too_slow.load(Relaxed)
    }

    /// Whether each of `heads` requests has been called, and the last response has ended.
    pub(crate) fn has_ended(&self, heads: u64) -> bool {
        let has_ended = self.calls() >= heads && !self.is_in_flight();
        self.awaits_end.store(!has_ended, Relaxed);
        has_ended
    }

    /// Whether a read that waited for the end of a response can go on. Tells it once.
    pub(crate) fn take_end(&self) -> bool {
        self.awaits_end.load(Relaxed) && !self.is_in_flight() && self.awaits_end.swap(false, Relaxed)
    }

    pub(crate) fn set_content_left(&self, has_content_left: bool) {
        self.has_content_left.store(has_content_left, Relaxed);
    }

    pub(crate) fn has_content_left(&self) -> bool {
        self.has_content_left.load(Relaxed)
    }

    pub(crate) fn half_close(&self) {
        self.is_half_closed.store(true, Relaxed);
    }

    pub(crate) fn is_half_closed(&self) -> bool {
        self.is_half_closed.load(Relaxed)
    }

    /// The connection is about to end between requests.
    pub(crate) fn end_idle(&self) {
        self.ends_idle.store(true, Relaxed);
    }

    pub(crate) fn ends_idle(&self) -> bool {
        self.ends_idle.load(Relaxed)
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
