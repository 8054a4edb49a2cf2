//! Interim responses (RFC 9110 §15.2), which the client receives before the final response.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{Response, StatusCode};

use rproxy_http1::{FieldWriter, has_token};

/// Request extension: a function that sends interim responses, such as `103 Early Hints`, to the client.
///
/// `100 Continue` is sent once, to a client that waits for it: from this function, or when the content is read.
///
/// It is absent if the client cannot receive interim responses. After the final response, it does nothing.
///
/// It is an alias of a standard type, so that other crates, such as an HTTP client for backends, can use the extension
/// without depending on this one.
pub type InterimRelay = Arc<dyn Fn(Response<()>) + Send + Sync>;

/// The interim responses to the current request of a connection.
pub(super) struct InterimResponses {
    slot: Arc<Slot>,
    relay: InterimRelay,
}

#[derive(Default)]
struct Slot(Mutex<State>);

#[derive(Default)]
struct State {
    is_open: bool,
    /// Whether the client waits for a 100 that has not been sent.
    awaits_continue: bool,
    /// The serialised heads of interim responses that have not been sent yet.
    heads: Vec<u8>,
    waker: Option<Waker>,
}

impl InterimResponses {
    pub(super) fn new() -> Self {
        let slot = Arc::<Slot>::default();
        let relay = {
            let slot = Arc::clone(&slot);
            Arc::new(move |head| slot.push(&head))
        };
        Self { slot, relay }
    }

    /// Begins the next request, and returns the [`InterimRelay`] for it.
    pub(super) fn begin(&mut self, expects_continue: bool) -> InterimRelay {
        // The extension of the last request may still be in use, and must not send to this request.
        if Arc::strong_count(&self.relay) > 1 {
            *self = Self::new();
        }
        let mut state = self.slot.state();
        (state.is_open, state.awaits_continue) = (true, expects_continue);
        drop(state);
        Arc::clone(&self.relay)
    }

    /// Waits for interim responses, and returns their serialised heads.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        let mut state = self.slot.state();
        if !state.heads.is_empty() {
            return Poll::Ready(std::mem::take(&mut state.heads));
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Returns the serialised heads of interim responses, which include the 100 unless it was sent before.
    pub(super) fn take_with_continue(&self) -> Vec<u8> {
        let mut state = self.slot.state();
        let mut heads = std::mem::take(&mut state.heads);
        if std::mem::take(&mut state.awaits_continue) {
            heads.extend_from_slice(CONTINUE);
        }
        heads
    }

    /// Rejects further interim responses to the current request, and returns the heads that are not sent yet.
    pub(super) fn end(&self) -> Vec<u8> {
        let mut state = self.slot.state();
        state.is_open = false;
        std::mem::take(&mut state.heads)
    }
}

impl Slot {
    // A poisoned lock is fine, because a panic leaves no partial change.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, head: &Response<()>) {
        // `101` is a final response here.
        if !head.status().is_informational() || head.status() == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let mut state = self.state();
        if !state.is_open || state.heads.len() > MAX_UNSENT {
            return;
        }
        // RFC 9110 §15.2.1: other clients discard a 100.
        if head.status() == StatusCode::CONTINUE && !std::mem::take(&mut state.awaits_continue) {
            return;
        }
        write(&mut state.heads, head);
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }
}

impl fmt::Debug for InterimResponses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InterimResponses")
    }
}

/// The interim response for a client that waits for it before it sends the content (RFC 9110 §10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fn write(out: &mut Vec<u8>, head: &Response<()>) {
    let nominated = |name: &HeaderName| {
        let mut lines = head.headers().get_all(CONNECTION).iter();
        lines.any(|line| has_token(line.as_bytes(), name.as_str().as_bytes()))
    };
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.status().canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    let mut fields = FieldWriter::new(out, head.extensions());
    for (name, value) in head.headers() {
        // RFC 9110 §7.6.1: hop-by-hop fields; §15.2: there is no content, and so no framing.
        let is_hop_by_hop = matches!(*name, CONNECTION | CONTENT_LENGTH | TE | TRAILER | TRANSFER_ENCODING | UPGRADE)
            || matches!(name.as_str(), "keep-alive" | "proxy-connection");
        if !is_hop_by_hop && !nominated(name) {
            fields.put(name, value);
        }
    }
    fields.finish();
    out.extend_from_slice(b"\r\n");
}

/// The maximum size of unsent interim responses; while it is exceeded, additional interim responses are dropped.
const MAX_UNSENT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, fields: &[(&str, &str)]) -> Response<()> {
        let builder = Response::builder().status(status);
        fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).unwrap()
    }

    fn take(interim: &InterimResponses) -> String {
        match interim.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(heads) => String::from_utf8(heads).unwrap(),
            Poll::Pending => String::new(),
        }
    }

    #[test]
    fn forwards_102_and_103_without_hop_by_hop_fields() {
        let mut interim = InterimResponses::new();
        let relay = interim.begin(false);
        let hop_by_hop = [("connection", "x-a"), ("x-a", "1"), ("keep-alive", "timeout=5"), ("content-length", "5")];
        relay(response(100, &[]));
        relay(response(101, &[("upgrade", "x")]));
        relay(response(200, &[]));
        assert_eq!(take(&interim), "");
        relay(response(102, &hop_by_hop));
        relay(response(103, &[("link", "</a.css>; rel=preload"), ("link", "</b.js>; rel=preload")]));
        assert_eq!(
            take(&interim),
            "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\
             link: </a.css>; rel=preload\r\nlink: </b.js>; rel=preload\r\n\r\n"
        );
    }

    #[test]
    fn sends_one_100_to_a_client_that_waits_for_it() {
        let mut interim = InterimResponses::new();
        let relay = interim.begin(true);
        relay(response(103, &[]));
        relay(response(100, &[("x", "1")]));
        relay(response(100, &[]));
        assert_eq!(
            interim.take_with_continue().escape_ascii().to_string(),
            r"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\nx: 1\r\n\r\n"
        );
        assert_eq!(interim.take_with_continue(), b"");
        drop(relay);

        let relay = interim.begin(true);
        assert_eq!(interim.take_with_continue(), CONTINUE);
        relay(response(100, &[]));
        assert_eq!(take(&interim), "");
    }

    #[test]
    fn drops_interim_responses_after_the_final_response() {
        let mut interim = InterimResponses::new();
        let first = interim.begin(false);
        first(response(103, &[]));
        assert_eq!(interim.end(), b"HTTP/1.1 103 Early Hints\r\n\r\n");
        first(response(103, &[]));
        let _second = interim.begin(false);
        first(response(103, &[]));
        assert_eq!(take(&interim), "", "it belongs to the first request");
    }

    #[test]
    fn limits_the_size_of_unsent_interim_responses() {
        let mut interim = InterimResponses::new();
        let relay = interim.begin(false);
        let large = "a".repeat(10_000);
        for _ in 0..100 {
            relay(response(103, &[("x", &large)]));
        }
        assert!(interim.end().len() < MAX_UNSENT + 11_000);
    }
}
