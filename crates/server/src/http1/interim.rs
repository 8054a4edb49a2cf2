//! Interim responses (RFC 9110 §15.2) on their way to the client, ahead of the answer.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{Response, StatusCode};

use super::request::has_token;
use super::response::put_field;

/// Request extension: takes interim responses to the client that waits for the answer, `102` and `103 Early Hints`
/// above all. Absent where the protocol has no way for them.
///
/// A bare function, so that whoever gets them from a backend need not know whoever serves the client: any crate that
/// names this type means the same extension. After the answer it does nothing.
pub type InterimRelay = Arc<dyn Fn(Response<()>) + Send + Sync>;

/// The interim responses to the request that is being answered.
pub(super) struct Interim {
    slot: Arc<Slot>,
    relay: InterimRelay,
}

#[derive(Default)]
struct Slot(Mutex<State>);

#[derive(Default)]
struct State {
    is_open: bool,
    /// As they will be sent.
    heads: Vec<u8>,
    waker: Option<Waker>,
}

impl Interim {
    pub(super) fn new() -> Self {
        let slot = Arc::<Slot>::default();
        let relay = {
            let slot = Arc::clone(&slot);
            Arc::new(move |head| slot.push(&head))
        };
        Self { slot, relay }
    }

    /// For the next request, whose extension it returns.
    pub(super) fn begin(&mut self) -> InterimRelay {
        // Someone may hold on to the last request, and what comes for that one is not for this.
        if Arc::strong_count(&self.relay) > 1 {
            *self = Self::new();
        }
        self.slot.state().is_open = true;
        Arc::clone(&self.relay)
    }

    /// What has come for the client.
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

    /// The answer is here: what has come before it and was not sent yet, and no more.
    pub(super) fn end(&self) -> Vec<u8> {
        let mut state = self.slot.state();
        state.is_open = false;
        std::mem::take(&mut state.heads)
    }
}

impl Slot {
    // A panic elsewhere leaves nothing half done here.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, head: &Response<()>) {
        // A `100` answers an expectation, and who had one was heard by hyper; a `101` is no interim response to us.
        if !head.status().is_informational() || head.status() < StatusCode::PROCESSING {
            return;
        }
        let mut state = self.state();
        if !state.is_open || state.heads.len() > MOST_UNSENT {
            return;
        }
        write(&mut state.heads, head);
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }
}

impl fmt::Debug for Interim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interim")
    }
}

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
    for (name, value) in head.headers() {
        // RFC 9110 §7.6.1; and it has no content (§15.2) that could be delimited.
        let is_ours = matches!(*name, CONNECTION | CONTENT_LENGTH | TE | TRAILER | TRANSFER_ENCODING | UPGRADE)
            || matches!(name.as_str(), "keep-alive" | "proxy-connection");
        if !is_ours && !nominated(name) {
            put_field(out, name.as_str(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Whoever sends more than the client takes loses what is too much: none of it is needed.
const MOST_UNSENT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, fields: &[(&str, &str)]) -> Response<()> {
        let builder = Response::builder().status(status);
        fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).unwrap()
    }

    fn taken(interim: &Interim) -> String {
        match interim.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(heads) => String::from_utf8(heads).unwrap(),
            Poll::Pending => String::new(),
        }
    }

    #[test]
    fn what_is_for_the_client_reaches_it() {
        let mut interim = Interim::new();
        let relay = interim.begin();
        let hop_by_hop = [("connection", "x-a"), ("x-a", "1"), ("keep-alive", "timeout=5"), ("content-length", "5")];
        relay(response(100, &[]));
        relay(response(101, &[("upgrade", "x")]));
        relay(response(200, &[]));
        assert_eq!(taken(&interim), "");
        relay(response(102, &hop_by_hop));
        relay(response(103, &[("link", "</a.css>; rel=preload"), ("link", "</b.js>; rel=preload")]));
        assert_eq!(
            taken(&interim),
            "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\
             link: </a.css>; rel=preload\r\nlink: </b.js>; rel=preload\r\n\r\n"
        );
    }

    #[test]
    fn what_comes_late_reaches_nobody() {
        let mut interim = Interim::new();
        let first = interim.begin();
        first(response(103, &[]));
        assert_eq!(interim.end(), b"HTTP/1.1 103 Early Hints\r\n\r\n");
        first(response(103, &[]));
        let _second = interim.begin();
        first(response(103, &[]));
        assert_eq!(taken(&interim), "", "it was for the first request");
    }

    #[test]
    fn what_a_client_does_not_take_is_bounded() {
        let mut interim = Interim::new();
        let relay = interim.begin();
        let large = "a".repeat(10_000);
        for _ in 0..100 {
            relay(response(103, &[("x", &large)]));
        }
        assert!(interim.end().len() < MOST_UNSENT + 11_000);
    }
}
