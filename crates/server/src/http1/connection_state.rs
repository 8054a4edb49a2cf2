//! The state of an HTTP/1.1 connection, shared by its task, its socket and its service.
//!
//! All three are polled by the same task, so there is no contention. Atomics are used because hyper requires `Send`.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::RejectedHead;

/// The state of a connection.
#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    /// The number of calls of the service.
    calls: AtomicU64,
    /// The number of requests whose response body has not ended.
    in_flight: AtomicUsize,
    /// The number of the call with a rejected head, starting at 1, or 0.
    rejected_call: AtomicU64,
    rejected: AtomicU8,
    /// The number of the incomplete head, starting at 1, or 0.
    incomplete_head: AtomicU64,
    is_head_too_slow: AtomicBool,
    /// The number of the last call with a response, doubled, plus 1 if it switched protocols.
    responded: AtomicU64,
    /// Whether a read waits for a response.
    awaits_response: AtomicBool,
    /// Whether a read waits for the end of a response, to continue with the bytes held after the request.
    awaits_end: AtomicBool,
    /// Whether content of the last request is unread.
    has_unread_content: AtomicBool,
    /// Whether the client has sent its last request.
    is_half_closed: AtomicBool,
    /// Whether the connection closes without a response that could be lost.
    closes_idle: AtomicBool,
}

impl ConnectionState {
    /// Counts a call, until the guard is dropped with the response body. Returns the reason if the head was rejected.
    pub(crate) fn call(self: &Arc<Self>) -> (InFlightRequest, Option<RejectedHead>) {
        self.in_flight.fetch_add(1, Relaxed);
        let call = self.calls.fetch_add(1, Relaxed) + 1;
        let rejected = (self.rejected_call.load(Relaxed) == call).then(|| self.rejected());
        (InFlightRequest { state: Arc::clone(self), call }, rejected)
    }

    /// Returns the number of calls.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight.load(Relaxed) > 0
    }

    /// Rejects the head after `heads` accepted ones.
    pub(crate) fn reject_head(&self, heads: u64, rejected: RejectedHead) {
        self.rejected.store(rejected as u8, Relaxed);
        self.rejected_call.store(heads + 1, Relaxed);
    }

    fn rejected(&self) -> RejectedHead {
        use RejectedHead::{Framing, Malformed, TargetTooLong, TooLarge, TooSlow, UnknownCoding};
        let rejected = self.rejected.load(Relaxed);
        [Framing, TargetTooLong, TooLarge, TooSlow, UnknownCoding]
            .into_iter()
            .find(|reason| *reason as u8 == rejected)
            .unwrap_or(Malformed)
    }

    /// Sets the number of the incomplete head.
    pub(crate) fn set_incomplete_head(&self, head: Option<NonZeroU64>) {
        self.incomplete_head.store(head.map_or(0, NonZeroU64::get), Relaxed);
    }

    /// Returns the number of the incomplete head.
    pub(crate) fn incomplete_head(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.incomplete_head.load(Relaxed))
    }

    /// Makes the next read reject the incomplete head, because it timed out.
    pub(crate) fn time_out_head(&self) {
        self.is_head_too_slow.store(true, Relaxed);
    }

    pub(crate) fn is_head_too_slow(&self) -> bool {
        self.is_head_too_slow.load(Relaxed)
    }

    /// Returns whether the service was called for `heads` requests, and the last response has ended.
    pub(crate) fn has_ended(&self, heads: u64) -> bool {
        let has_ended = self.calls() >= heads && !self.is_in_flight();
        self.awaits_end.store(!has_ended, Relaxed);
        has_ended
    }

    /// Returns once whether a read that waited for the end of a response can continue.
    pub(crate) fn take_end(&self) -> bool {
        self.awaits_end.load(Relaxed) && !self.is_in_flight() && self.awaits_end.swap(false, Relaxed)
    }

    pub(crate) fn set_unread_content(&self, has_unread_content: bool) {
        self.has_unread_content.store(has_unread_content, Relaxed);
    }

    pub(crate) fn has_unread_content(&self) -> bool {
        self.has_unread_content.load(Relaxed)
    }

    pub(crate) fn set_half_closed(&self) {
        self.is_half_closed.store(true, Relaxed);
    }

    pub(crate) fn is_half_closed(&self) -> bool {
        self.is_half_closed.load(Relaxed)
    }

    /// Sets that the connection closes between requests.
    pub(crate) fn set_closes_idle(&self) {
        self.closes_idle.store(true, Relaxed);
    }

    pub(crate) fn closes_idle(&self) -> bool {
        self.closes_idle.load(Relaxed)
    }

    /// Returns whether the response to request number `heads` switched protocols, or `None` if it is pending.
    pub(crate) fn upgrade_response(&self, heads: u64) -> Option<bool> {
        let responded = self.responded.load(Relaxed);
        let has_response = responded >> 1 == heads;
        self.awaits_response.store(!has_response, Relaxed);
        has_response.then_some(responded & 1 == 1)
    }
}

/// A request whose response body has not ended.
#[derive(Debug)]
pub(crate) struct InFlightRequest {
    state: Arc<ConnectionState>,
    call: u64,
}

impl InFlightRequest {
    /// Sets that there is a response. Returns whether a read waits for it, so that the task must be polled again.
    pub(crate) fn set_responded(&self, is_switched: bool) -> bool {
        self.state.responded.store(self.call << 1 | u64::from(is_switched), Relaxed);
        self.state.awaits_response.load(Relaxed)
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.state.in_flight.fetch_sub(1, Relaxed);
    }
}
