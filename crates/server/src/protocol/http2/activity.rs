//! Counters of an HTTP/2 connection, which limit floods of frames and requests (RFC 9113 §10.5).
//!
//! h2 limits the memory that frames can use (CONTINUATION, header lists, streams that are reset before they are served).
//! Three kinds of work are limited here, because h2 does not limit them tightly enough. At the limit, the connection is
//! closed:
//!
//! - frames without content: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, refused streams;
//! - streams that h2 resets because of a protocol error, and heads that are too large for h2;
//! - requests that are rejected as invalid.
//!
//! Except for `charge_rejection`, all methods are called by the task of the connection, so there is no contention. Atomics
//! are used because hyper requires `Send` and `Sync`.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::frames::{DATA, END_STREAM, Frame, HEADERS, RST_STREAM};
use super::token_bucket::TokenBucket;

/// The counters of one HTTP/2 connection, shared by its task, its socket and its streams.
#[derive(Debug)]
pub(super) struct Activity {
    /// The number of running tasks of requests and tunnels.
    open: AtomicUsize,
    /// The number of requests that reached the service.
    requests: AtomicU64,
    /// The number of bytes written to the socket.
    written: AtomicU64,
    /// Whether the last write to the socket could not complete immediately.
    is_blocked: AtomicBool,
    /// The number of frames with content since the last tick; sent response data counts as frames.
    useful: AtomicU64,
    /// The number of frames without content since the last tick.
    empty: AtomicU64,
    has_begun: AtomicBool,
    heads: Heads,
    /// Whether the peer is a proxy whose clients share the connection and must not affect each other.
    is_shared: bool,
    bucket: TokenBucket,
    /// The number of DATA frames that may still arrive for streams that the server has reset.
    late: AtomicU32,
    is_exhausted: AtomicBool,
}

/// Counters of request heads, to find the heads that h2 rejected without calling the service.
#[derive(Debug, Default)]
struct Heads {
    /// The number of request heads that h2 has decoded, and the stream of the last head.
    decoded: AtomicU64,
    decoded_stream: AtomicU32,
    /// The counters at the last call of `take_rejected_heads`: heads, requests, and the highest stream.
    settled: AtomicU64,
    settled_requests: AtomicU64,
    settled_stream: AtomicU32,
    // Frames sent since then for newer streams.
    refused: AtomicU32,
    reset: AtomicU32,
    ended: AtomicU32,
}

/// The number of request heads that h2 rejected without calling the service, per reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RejectedHeads {
    /// The number of malformed request heads, rejected with RST_STREAM.
    pub(super) malformed: u32,
    /// The number of request heads that are too large, rejected with 431.
    pub(super) too_large: u32,
}

impl Activity {
    pub(super) fn new(is_shared: bool) -> Self {
        Self {
            open: AtomicUsize::default(),
            requests: AtomicU64::default(),
            written: AtomicU64::default(),
            is_blocked: AtomicBool::default(),
            useful: AtomicU64::default(),
            empty: AtomicU64::default(),
            has_begun: AtomicBool::default(),
            heads: Heads::default(),
            is_shared,
            bucket: TokenBucket::new(BURST, PER_SECOND),
            late: AtomicU32::default(),
            is_exhausted: AtomicBool::default(),
        }
    }

    pub(super) fn has_open_streams(&self) -> bool {
        self.open.load(Relaxed) > 0
    }

    pub(super) fn stream_opened(&self) {
        self.open.fetch_add(1, Relaxed);
    }

    pub(super) fn stream_closed(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    pub(super) fn count_written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Relaxed);
    }

    /// Returns whether the client has sent at least one frame.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Relaxed)
    }

    /// Returns whether the client has exceeded a flood limit.
    pub(super) fn is_exhausted(&self) -> bool {
        self.is_exhausted.load(Relaxed)
    }

    pub(super) fn set_blocked(&self, blocked: bool) {
        self.is_blocked.store(blocked, Relaxed);
    }

    /// Counts a frame that was received from the client.
    pub(super) fn count_received(&self, frame: &Frame) {
        self.has_begun.store(true, Relaxed);
        match frame.kind {
            HEADERS => self.count_frames(1, 0),
            DATA if frame.length > 0 => self.count_frames(1, 0),
            _ => self.count_frames(0, 1),
        }
    }

    /// Counts a frame that was sent to the client.
    pub(super) fn count_sent(&self, frame: &Frame) {
        let is_new = frame.stream > self.heads.settled_stream.load(Relaxed);
        let new = u32::from(is_new);
        match (frame.kind, frame.code) {
            (HEADERS, _) if frame.flags & END_STREAM != 0 => {
                self.heads.ended.fetch_add(new, Relaxed);
            }
            (RST_STREAM, REFUSED_STREAM) => {
                self.heads.refused.fetch_add(new, Relaxed);
                // Compensates for its head, which was counted as useful.
                self.count_frames(0, EMPTY_PER_USEFUL + 1);
            }
            (RST_STREAM, STREAM_CLOSED) if self.late.load(Relaxed) > 0 => {
                self.late.fetch_sub(1, Relaxed);
            }
            (RST_STREAM, PROTOCOL_ERROR | FLOW_CONTROL_ERROR | STREAM_CLOSED | FRAME_SIZE_ERROR) => {
                self.heads.reset.fetch_add(new, Relaxed);
                self.charge(ERROR_COST);
            }
            (RST_STREAM, _) => {
                let late = self.late.load(Relaxed);
                self.late.store((late + LATE_PER_RESET).min(MAX_LATE), Relaxed);
            }
            _ => {}
        }
    }

    /// Sets the number of decoded request heads, and the stream of the last head.
    pub(super) fn set_heads_decoded(&self, heads: u64, stream: u32) {
        self.heads.decoded.store(heads, Relaxed);
        self.heads.decoded_stream.store(stream, Relaxed);
    }

    /// Returns the number of request heads that h2 has rejected since the last call.
    ///
    /// Must be called when h2 has called the service for all accepted heads. Returns none while data is unsent, because
    /// the frames that reject a head may be among it.
    pub(super) fn take_rejected_heads(&self) -> RejectedHeads {
        let heads = &self.heads;
        let (decoded, settled) = (heads.decoded.load(Relaxed), heads.settled.load(Relaxed));
        if decoded == settled || self.is_blocked.load(Relaxed) {
            return RejectedHeads::default();
        }
        let requests = self.requests();
        let served = requests - heads.settled_requests.swap(requests, Relaxed);
        heads.settled.store(decoded, Relaxed);
        heads.settled_stream.store(heads.decoded_stream.load(Relaxed), Relaxed);
        let take = |count: &AtomicU32| if count.load(Relaxed) == 0 { 0 } else { count.swap(0, Relaxed) };
        let (refused, reset, ended) = (take(&heads.refused), take(&heads.reset), take(&heads.ended));
        let unserved = (decoded - settled).saturating_sub(served).saturating_sub(refused.into());
        // Limited by the frames sent, because h2 ignores new streams after GOAWAY.
        let rejected = u32::try_from(unserved).unwrap_or(u32::MAX).min(reset + ended);
        let too_large = rejected.min(ended);
        if !self.is_shared {
            self.charge(too_large * ERROR_COST);
        }
        RejectedHeads { malformed: rejected - too_large, too_large }
    }

    /// Counts a request that was rejected as invalid, and marks the connection as exhausted at the limit.
    pub(super) fn charge_rejection(&self) {
        if !self.is_shared {
            self.charge(REJECTION_COST);
        }
    }

    /// Allows the client a number of WINDOW_UPDATE frames for this response data.
    pub(super) fn count_response_data(&self, bytes: usize) {
        self.useful.fetch_add(1 + (bytes / 4096) as u64, Relaxed);
    }

    /// Resets the frame counters at each tick, so that they limit a rate.
    pub(super) fn reset_frame_counts(&self) {
        self.useful.store(0, Relaxed);
        self.empty.store(0, Relaxed);
    }

    fn count_frames(&self, useful: u64, empty: u64) {
        let useful = self.useful.fetch_add(useful, Relaxed) + useful;
        let empty = self.empty.fetch_add(empty, Relaxed) + empty;
        if empty > MAX_EMPTY + EMPTY_PER_USEFUL * useful {
            self.is_exhausted.store(true, Relaxed);
        }
    }

    fn charge(&self, tokens: u32) {
        if tokens > 0 && !self.bucket.take(tokens) {
            self.is_exhausted.store(true, Relaxed);
        }
    }
}

/// The maximum number of frames without content per tick on an otherwise idle connection.
const MAX_EMPTY: u64 = 2000;

/// The number of additional frames without content that are allowed per frame with content. A download needs at most
/// two window updates per frame.
const EMPTY_PER_USEFUL: u64 = 8;

// A burst of 20 protocol errors or 100 rejected requests, and then one error or five rejected requests per second.
const BURST: u32 = 100;
const PER_SECOND: u32 = 5;
const ERROR_COST: u32 = 5;
const REJECTION_COST: u32 = 1;

/// The maximum number of DATA frames that may arrive for a stream after the server has reset it: one window.
const LATE_PER_RESET: u32 = 64;
const MAX_LATE: u32 = 128 * LATE_PER_RESET;

// Error codes (RFC 9113 §7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn sent(kind: u8, flags: u8, stream: u32, code: u32) -> Frame {
        Frame { kind, flags, stream, length: 4, code }
    }

    fn reset(stream: u32, code: u32) -> Frame {
        sent(RST_STREAM, 0, stream, code)
    }

    #[test]
    fn rejected_http2_heads_are_distinguished_from_requests() {
        let activity = Activity::new(false);
        // Streams 1 to 9 are served, malformed, too large, refused and served.
        activity.set_heads_decoded(5, 9);
        activity.count_sent(&reset(3, PROTOCOL_ERROR));
        activity.count_sent(&sent(HEADERS, END_STREAM, 5, 0));
        activity.count_sent(&reset(7, REFUSED_STREAM));
        activity.count_request();
        activity.count_request();
        activity.set_blocked(true);
        assert_eq!(activity.take_rejected_heads(), RejectedHeads::default(), "some data is unsent");
        activity.set_blocked(false);
        assert_eq!(activity.take_rejected_heads(), RejectedHeads { malformed: 1, too_large: 1 });
        assert_eq!(activity.take_rejected_heads(), RejectedHeads::default());
        // A response without content, and a stream that is reset after its request was served.
        activity.set_heads_decoded(6, 11);
        activity.count_request();
        activity.count_sent(&sent(HEADERS, END_STREAM, 9, 0));
        activity.count_sent(&reset(11, PROTOCOL_ERROR));
        assert_eq!(activity.take_rejected_heads(), RejectedHeads::default());
        // h2 ignores a stream after GOAWAY.
        activity.set_heads_decoded(7, 13);
        assert_eq!(activity.take_rejected_heads(), RejectedHeads::default());
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_protocol_errors_exhaust_the_budget_of_a_connection() {
        let activity = Activity::new(true);
        for _ in 0..20 {
            activity.count_sent(&reset(1, FLOW_CONTROL_ERROR));
        }
        assert!(!activity.is_exhausted());
        for _ in 0..1000 {
            tokio::time::advance(Duration::from_secs(1)).await;
            activity.count_sent(&reset(1, PROTOCOL_ERROR));
        }
        assert!(!activity.is_exhausted());
        activity.count_sent(&reset(1, STREAM_CLOSED));
        assert!(activity.is_exhausted());
    }

    #[test]
    fn rejected_requests_do_not_exhaust_the_budget_of_a_shared_connection() {
        for (is_shared, exhausted) in [(false, true), (true, false)] {
            let activity = Activity::new(is_shared);
            (0..101).for_each(|_| activity.charge_rejection());
            assert_eq!(activity.is_exhausted(), exhausted);
        }
    }

    #[test]
    fn data_in_transit_for_a_reset_stream_is_not_an_error() {
        let activity = Activity::new(false);
        // RFC 9113 §8.1: NO_ERROR, after an early response.
        activity.count_sent(&reset(1, 0));
        (0..LATE_PER_RESET).for_each(|_| activity.count_sent(&reset(1, STREAM_CLOSED)));
        (0..20).for_each(|_| activity.count_sent(&reset(1, STREAM_CLOSED)));
        assert!(!activity.is_exhausted());
        activity.count_sent(&reset(1, STREAM_CLOSED));
        assert!(activity.is_exhausted());
    }

    #[test]
    fn refused_streams_count_as_frames_without_content() {
        let activity = Activity::new(false);
        let head = Frame { kind: HEADERS, flags: 5, stream: 1, length: 9, code: 0 };
        for _ in 0..2000 {
            activity.count_received(&head);
            activity.count_sent(&reset(1, REFUSED_STREAM));
        }
        assert!(!activity.is_exhausted());
        activity.count_received(&head);
        activity.count_sent(&reset(1, REFUSED_STREAM));
        assert!(activity.is_exhausted());
    }
}
