//! The state of an HTTP/1.1 connection, shared by its task, its socket and its service.
//!
//! All three are polled by the same task, so there is no contention. Atomics are used because hyper requires `Send`.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::RejectedHead;

/// The shared state of an HTTP/1.1 connection.
#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    /// The number of times that the service was called.
    calls: AtomicU64,
    /// The number of requests whose response body has not ended yet.
    in_flight: AtomicUsize,
    /// The ordinal number of the service call for a rejected head, starting at 1, or 0 if no head was rejected.
    rejected_call: AtomicU64,
    rejected: AtomicU8,
    /// The ordinal number of the incomplete request head, starting at 1, or 0 if no head is incomplete.
    incomplete_head: AtomicU64,
    is_head_too_slow: AtomicBool,
    /// Twice the ordinal number of the last service call that has responded, plus 1 if it switched protocols.
    responded: AtomicU64,
    /// Whether a read waits until the service has responded to an upgrade request.
    awaits_response: AtomicBool,
    /// Whether a read waits for the end of a response before it returns the bytes that follow the request.
    awaits_end: AtomicBool,
    /// Whether the content of the last request has not been read completely.
    has_unread_content: AtomicBool,
    /// Whether the client half-closed the connection after its last request.
    is_half_closed: AtomicBool,
    /// Whether the connection closes while idle, so that no response can be lost.
    closes_idle: AtomicBool,
}

impl ConnectionState {
    /// Counts a service call as in flight until the returned guard is dropped with the response body. Returns the
    /// reason if the head was rejected.
    pub(crate) fn call(self: &Arc<Self>) -> (InFlightRequest, Option<RejectedHead>) {
        self.in_flight.fetch_add(1, Relaxed);
        let call = self.calls.fetch_add(1, Relaxed) + 1;
        let rejected = (self.rejected_call.load(Relaxed) == call).then(|| self.rejected());
        (InFlightRequest { state: Arc::clone(self), call }, rejected)
    }

    /// Returns the number of times that the service was called.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight.load(Relaxed) > 0
    }

    /// Records the rejection of the request head that follows `heads` accepted heads.
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

    /// Sets the ordinal number of the incomplete request head, starting at 1.
    pub(crate) fn set_incomplete_head(&self, head: Option<NonZeroU64>) {
        self.incomplete_head.store(head.map_or(0, NonZeroU64::get), Relaxed);
    }

    /// Returns the ordinal number of the incomplete request head, starting at 1.
    pub(crate) fn incomplete_head(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.incomplete_head.load(Relaxed))
    }

    /// Makes the next read reject the incomplete request head, because of the head timeout.
    pub(crate) fn time_out_head(&self) {
        self.is_head_too_slow.store(true, Relaxed);
    }

    pub(crate) fn is_head_too_slow(&self) -> bool {
        self.is_head_too_slow.load(Relaxed)
    }

    /// Returns whether the service was called for `heads` requests, and all of their responses have ended.
    pub(crate) fn has_ended(&self, heads: u64) -> bool {
        let has_ended = self.calls() >= heads && !self.is_in_flight();
        self.awaits_end.store(!has_ended, Relaxed);
        has_ended
    }

    /// Returns true once after the end of a response that a read was waiting for.
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

    /// Records that the connection closes between two requests.
    pub(crate) fn set_closes_idle(&self) {
        self.closes_idle.store(true, Relaxed);
    }

    pub(crate) fn closes_idle(&self) -> bool {
        self.closes_idle.load(Relaxed)
    }

    /// Returns whether the response to request number `heads` switched protocols, or `None` before the response.
    pub(crate) fn upgrade_response(&self, heads: u64) -> Option<bool> {
        let responded = self.responded.load(Relaxed);
        let has_response = responded >> 1 == heads;
        self.awaits_response.store(!has_response, Relaxed);
        has_response.then_some(responded & 1 == 1)
    }
}

/// A guard for a request whose response body has not ended.
#[derive(Debug)]
pub(crate) struct InFlightRequest {
    state: Arc<ConnectionState>,
    call: u64,
}

impl InFlightRequest {
    /// Records that the service responded to the request. Returns whether a read waits for it, so that the task must be
    /// polled again.
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
