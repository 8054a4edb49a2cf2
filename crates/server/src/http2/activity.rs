//! What a client makes an HTTP/2 connection do, counted: its task, its socket and its streams share it.
//!
//! h2 bounds what a frame can make it hold (CONTINUATION, header lists, streams that are reset before they are served). Three
//! kinds of work it does not bound, or not tightly enough, and a connection ends when there is too much of them
//! (RFC 9113 §10.5):
//!
//! - frames that carry no part of a request: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, refused streams;
//! - streams that h2 resets because the client broke the protocol, and heads that h2 finds too large;
//! - requests that are rejected before anything is done for them.
//!
//! All but `charge_rejection` is called by the connection's own task, so nothing here is contended; atomics are
//! used because hyper wants the pieces to be `Send` and `Sync`.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::frames::{DATA, END_STREAM, Frame, HEADERS, RST_STREAM};
use super::ration::Ration;

/// The counts of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    /// Tasks that run: of requests, and of tunnels.
    open: AtomicUsize,
    /// Requests that reached the service.
    requests: AtomicU64,
    /// Bytes that the socket took.
    written: AtomicU64,
    /// Whether the socket takes no more for now.
    is_blocked: AtomicBool,
    /// Frames and parts of responses that carry something, since the last tick.
    useful: AtomicU64,
    /// Frames that carry nothing, since the last tick.
    idle: AtomicU64,
    has_begun: AtomicBool,
    heads: Heads,
    /// The client is a proxy with clients of its own: what one of them sends is not held against the others.
    is_shared: bool,
    ration: Ration,
    /// DATA frames that may arrive for streams that were reset on our own account.
    late: AtomicU32,
    is_exhausted: AtomicBool,
}

/// Request heads, and which of them h2 answered itself.
#[derive(Debug, Default)]
struct Heads {
    /// Heads that h2 has decoded, and the stream of the last.
    decoded: AtomicU64,
    decoded_stream: AtomicU32,
    /// Heads, requests and the highest stream at the last settlement.
    settled: AtomicU64,
    settled_requests: AtomicU64,
    settled_stream: AtomicU32,
    // Frames sent since then for streams that are newer.
    refused: AtomicU32,
    reset: AtomicU32,
    ended: AtomicU32,
}

/// Request heads that h2 rejected by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unserved {
    /// With RST_STREAM.
    pub(super) malformed: u32,
    /// With 431.
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
            idle: AtomicU64::default(),
            has_begun: AtomicBool::default(),
            heads: Heads::default(),
            is_shared,
            ration: Ration::new(BURST, PER_SECOND),
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

    /// Whether the client has sent a frame.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Relaxed)
    }

    /// Whether the client has cost too much.
    pub(super) fn is_exhausted(&self) -> bool {
        self.is_exhausted.load(Relaxed)
    }

    pub(super) fn set_blocked(&self, blocked: bool) {
        self.is_blocked.store(blocked, Relaxed);
    }

    /// Counts a frame of the client.
    pub(super) fn count_received(&self, frame: &Frame) {
        self.has_begun.store(true, Relaxed);
        match frame.kind {
            HEADERS => self.pay(1, 0),
            DATA if frame.length > 0 => self.pay(1, 0),
            _ => self.pay(0, 1),
        }
    }

    /// Counts a frame of ours.
    pub(super) fn count_sent(&self, frame: &Frame) {
        let is_new = frame.stream > self.heads.settled_stream.load(Relaxed);
        let new = u32::from(is_new);
        match (frame.kind, frame.code) {
            (HEADERS, _) if frame.flags & END_STREAM != 0 => {
                self.heads.ended.fetch_add(new, Relaxed);
            }
            (RST_STREAM, REFUSED_STREAM) => {
                self.heads.refused.fetch_add(new, Relaxed);
                // Its head counted as useful.
                self.pay(0, PER_USEFUL + 1);
            }
            (RST_STREAM, STREAM_CLOSED) if self.late.load(Relaxed) > 0 => {
                self.late.fetch_sub(1, Relaxed);
            }
            (RST_STREAM, PROTOCOL_ERROR | FLOW_CONTROL_ERROR | STREAM_CLOSED | FRAME_SIZE_ERROR) => {
                self.heads.reset.fetch_add(new, Relaxed);
                self.charge(ERROR);
            }
            (RST_STREAM, _) => {
                let late = self.late.load(Relaxed);
                self.late.store((late + LATE_PER_RESET).min(MAX_LATE), Relaxed);
            }
            _ => {}
        }
    }

    /// So many heads, the last of them of this stream, have been decoded.
    pub(super) fn heads_decoded(&self, heads: u64, stream: u32) {
        self.heads.decoded.store(heads, Relaxed);
        self.heads.decoded_stream.store(stream, Relaxed);
    }

    /// The heads decoded since the last call that never became requests, when h2 has called the service for all others
    /// and has written all that it had to say.
    pub(super) fn settle(&self) -> Unserved {
        let heads = &self.heads;
        let (decoded, settled) = (heads.decoded.load(Relaxed), heads.settled.load(Relaxed));
        if decoded == settled || self.is_blocked.load(Relaxed) {
            return Unserved::default();
        }
        let requests = self.requests();
        let served = requests - heads.settled_requests.swap(requests, Relaxed);
        heads.settled.store(decoded, Relaxed);
        heads.settled_stream.store(heads.decoded_stream.load(Relaxed), Relaxed);
        let take = |count: &AtomicU32| if count.load(Relaxed) == 0 { 0 } else { count.swap(0, Relaxed) };
        let (refused, reset, ended) = (take(&heads.refused), take(&heads.reset), take(&heads.ended));
        let unserved = (decoded - settled).saturating_sub(served).saturating_sub(refused.into());
        // After GOAWAY, h2 ignores new streams.
        let answered = u32::try_from(unserved).unwrap_or(u32::MAX).min(reset + ended);
        let too_large = answered.min(ended);
        if !self.is_shared {
            self.charge(too_large * ERROR);
        }
        Unserved { malformed: answered - too_large, too_large }
    }

    /// Counts a request that was rejected because it is no valid request.
    pub(super) fn charge_rejection(&self) {
        if !self.is_shared {
            self.charge(REJECTION);
        }
    }

    /// A part of a response earns the window updates that it brings about.
    pub(super) fn earn(&self, bytes: usize) {
        self.useful.fetch_add(1 + (bytes / 4096) as u64, Relaxed);
    }

    /// Counts frames anew: a long-lived connection may have some of any kind now and then.
    pub(super) fn forgive(&self) {
        self.useful.store(0, Relaxed);
        self.idle.store(0, Relaxed);
    }

    fn pay(&self, useful: u64, idle: u64) {
        let useful = self.useful.fetch_add(useful, Relaxed) + useful;
        let idle = self.idle.fetch_add(idle, Relaxed) + idle;
        if idle > FREE + PER_USEFUL * useful {
            self.is_exhausted.store(true, Relaxed);
        }
    }

    fn charge(&self, points: u32) {
        if points > 0 && !self.ration.spend(points) {
            self.is_exhausted.store(true, Relaxed);
        }
    }
}

/// Frames that carry nothing, between two ticks of a connection that does nothing else.
const FREE: u64 = 2000;

/// How many more for each frame that carries something. A download takes two window updates for a frame at most.
const PER_USEFUL: u64 = 8;

// 20 protocol errors or 100 rejected requests at once, and then one or five in a second.
const BURST: u32 = 100;
const PER_SECOND: u32 = 5;
const ERROR: u32 = 5;
const REJECTION: u32 = 1;

/// What a client may have sent before it learns that its stream was reset: a stream's window of DATA frames.
const LATE_PER_RESET: u32 = 64;
const MAX_LATE: u32 = 128 * LATE_PER_RESET;

// RFC 9113 §7.
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
    fn tells_heads_that_h2_rejected_from_requests() {
        let activity = Activity::new(false);
        // Streams 1 to 9: served, malformed, too large, refused, served.
        activity.heads_decoded(5, 9);
        activity.count_sent(&reset(3, PROTOCOL_ERROR));
        activity.count_sent(&sent(HEADERS, END_STREAM, 5, 0));
        activity.count_sent(&reset(7, REFUSED_STREAM));
        activity.count_request();
        activity.count_request();
        activity.set_blocked(true);
        assert_eq!(activity.settle(), Unserved::default(), "not everything is written");
        activity.set_blocked(false);
        assert_eq!(activity.settle(), Unserved { malformed: 1, too_large: 1 });
        assert_eq!(activity.settle(), Unserved::default());
        // A response without content, and a stream that is reset after it became a request.
        activity.heads_decoded(6, 11);
        activity.count_request();
        activity.count_sent(&sent(HEADERS, END_STREAM, 9, 0));
        activity.count_sent(&reset(11, PROTOCOL_ERROR));
        assert_eq!(activity.settle(), Unserved::default());
        // A stream that is ignored after GOAWAY.
        activity.heads_decoded(7, 13);
        assert_eq!(activity.settle(), Unserved::default());
    }

    #[tokio::test(start_paused = true)]
    async fn twenty_protocol_errors_are_too_many_unless_time_passes_between_them() {
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
    fn rejected_requests_of_a_proxy_are_not_held_against_its_connection() {
        for (is_shared, exhausted) in [(false, true), (true, false)] {
            let activity = Activity::new(is_shared);
            (0..101).for_each(|_| activity.charge_rejection());
            assert_eq!(activity.is_exhausted(), exhausted);
        }
    }

    #[test]
    fn data_in_flight_for_a_stream_that_was_reset_costs_nothing() {
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
    fn refused_streams_count_as_frames_that_carry_nothing() {
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
