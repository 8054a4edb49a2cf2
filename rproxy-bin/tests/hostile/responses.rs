//! Tests of ambiguous, malformed and endless responses of backends, which must not affect other requests.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::corpus::{self, Case};
use crate::http1::SETTINGS;
use crate::report;
use crate::support::upstream::{ok, read_head, scripted};
use crate::support::{Proxy, TIMEOUT, exchange, get, without_interim};

#[test]
fn ambiguous_responses_are_rejected_or_framed_consistently() {
    let cases = corpus::read(include_str!("corpus/responses.txt"));
    let script = Script::default();
    let proxy = Proxy::start(backend(&script), &SETTINGS);
    let mut failures = Vec::new();
    let mut outcomes = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        script.begin(case);
        let method = case.word("ask").map_or("GET", |method| std::str::from_utf8(method).unwrap());
        let request = format!("{method} /case HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
        let received = Received::of(without_interim(&exchange(proxy.address, request.as_bytes())), method);
        if case.word("late").is_some() {
            script.send_late_bytes();
        }
        let target = format!("/probe-{number}");
        let probed = get(proxy.address, &target);
        let is_kept = script.used_the_same_connection();

        let expected = Expected::parsed(&case.expected[0]);
        if probed.body != target {
            failures.push(format!("{}: the next request got {} {:?}", case.name, probed.status, probed.body));
        }
        if !expected.is_met(&received, is_kept) {
            failures.push(format!("{}: {received:?}, kept {is_kept}, instead of {expected:?}", case.name));
        }
        outcomes.push(received.outcome());
    }
    report::responses(&outcomes);
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// The scripted bytes that the backend sends, and the progress of the script.
#[derive(Clone, Default)]
struct Script(Arc<(Mutex<ScriptState>, Condvar)>);

#[derive(Default)]
struct ScriptState {
    bytes: Vec<u8>,
    closes: bool,
    /// The bytes to send after the client has received the response.
    late: Option<Vec<u8>>,
    /// The proxy's address on the test connection, to detect whether the next request reuses the connection.
    case_on: Option<SocketAddr>,
    probe_on: Option<SocketAddr>,
    may_send_late: bool,
}

impl Script {
    fn begin(&self, case: &Case) {
        let late = case.word("late").map(<[u8]>::to_vec);
        let closes = case.word("close").is_some();
        *self.0.0.lock().unwrap() = ScriptState { bytes: case.bytes(), closes, late, ..ScriptState::default() };
    }

    fn send_late_bytes(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.may_send_late = true;
        changed.notify_all();
        drop(changed.wait_while(state, |state| state.late.is_some()).unwrap());
    }

    fn used_the_same_connection(&self) -> bool {
        let state = self.0.0.lock().unwrap();
        state.case_on.is_some() && state.case_on == state.probe_on
    }

    /// Sends the scripted response on the test connection.
    fn act(&self, stream: &mut TcpStream) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.case_on = stream.peer_addr().ok();
        let _ = stream.write_all(&state.bytes);
        if state.closes {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if state.late.is_some() {
            state = changed.wait_while(state, |state| !state.may_send_late).unwrap();
            let late = state.late.take().unwrap_or_default();
            let _ = stream.write_all(&late);
            wait_until_taken(stream);
            changed.notify_all();
        }
    }
}

/// Waits until the peer's kernel has received all sent bytes. This takes a moment even over loopback.
fn wait_until_taken(stream: &TcpStream) {
    let port = |address: std::io::Result<SocketAddr>| address.map(|address| format!(":{:04X}", address.port()));
    let (Ok(local), Ok(remote)) = (port(stream.local_addr()), port(stream.peer_addr())) else { return };
    // proc(5): addresses, state, and `tx_queue:rx_queue`.
    let is_ours = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|word| word.ends_with(&local))
            && words.next().is_some_and(|word| word.ends_with(&remote))
    };
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let line = table.lines().find(is_ours).map(str::to_owned);
        let waits =
            |line: String| !line.split_whitespace().nth(4).is_some_and(|queues| queues.starts_with("00000000:"));
        if !line.is_some_and(waits) {
            return;
        }
        assert!(Instant::now() < deadline, "unread bytes remain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn backend(script: &Script) -> SocketAddr {
    let script = script.clone();
    scripted(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let target = head.split(' ').nth(1).unwrap_or_default();
            if target == "/case" {
                script.act(&mut stream);
            } else {
                script.0.0.lock().unwrap().probe_on = stream.peer_addr().ok();
                if stream.write_all(ok(target).as_bytes()).is_err() {
                    return;
                }
            }
        }
    })
}

/// A response as received by the client.
#[derive(Debug)]
struct Received {
    status: u16,
    body: String,
    is_whole: bool,
    proxy_status: String,
}

impl Received {
    fn of(text: &str, method: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let field = |wanted: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(": "));
            fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned())
        };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let (body, is_whole) = match (field("transfer-encoding"), field("content-length")) {
            _ if method == "HEAD" || status == 204 || status == 304 => (body.to_owned(), body.is_empty()),
            (Some(_), _) => chunks(body),
            (None, length) => (body.to_owned(), length.is_some_and(|length| length.parse() == Ok(body.len()))),
        };
        Self { status, body, is_whole, proxy_status: field("proxy-status").unwrap_or_default() }
    }

    fn outcome(&self) -> report::Outcome {
        match self.is_whole {
            _ if !self.proxy_status.is_empty() => report::Outcome::Refused,
            true => report::Outcome::Passed,
            false => report::Outcome::Aborted,
        }
    }
}

/// Returns the content of a chunked body, and whether the body contains the last chunk.
fn chunks(mut rest: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((size, behind)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            return (body, behind == "\r\n");
        }
        body.push_str(&behind[..size.min(behind.len())]);
        rest = behind.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}

#[derive(Debug)]
enum Expected<'a> {
    /// The response is forwarded with this status and content; the flag is whether the connection is reused.
    Passed(u16, bool, &'a str),
    Broken(u16, &'a str),
    /// The response is rejected with this error type.
    Refused(&'a str),
}

impl<'a> Expected<'a> {
    fn parsed(text: &'a str) -> Self {
        let words: Vec<&str> = text.splitn(3, ' ').collect();
        let status = words[0].parse().unwrap();
        let content = words.get(2).copied().unwrap_or_default();
        match words[1] {
            "kept" => Self::Passed(status, true, content),
            "done" => Self::Passed(status, false, content),
            "broken" => Self::Broken(status, content),
            error => Self::Refused(error),
        }
    }

    fn is_met(&self, received: &Received, is_kept: bool) -> bool {
        let Received { status, body, is_whole, proxy_status } = received;
        match self {
            Self::Passed(wanted, keeps, content) => {
                status == wanted && body == content && *is_whole && is_kept == *keeps && proxy_status.is_empty()
            }
            Self::Broken(wanted, content) => status == wanted && body == content && !is_whole && !is_kept,
            Self::Refused(error) => {
                *status == 502 && proxy_status.contains(&format!("error={error}")) && *is_whole && !is_kept
            }
        }
    }
}
