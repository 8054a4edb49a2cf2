//! Tests of ambiguous and malformed HTTP/1.1 requests (RFC 9112 §11.2).

use std::fmt::Write as _;
use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use crate::backends::{Backend, BackendKind, SeenRequest};
use crate::corpus::{self, Case};
use crate::report::{self, Tally};
use crate::support::{Proxy, Response, connect, get, read_response_to};

/// Settings with one worker and one connection pool, so that the next request reuses a desynchronised connection. No
/// other layer responds.
pub(crate) const SETTINGS: [(&str, &str); 7] = [
    ("RPROXY_WORKERS", "1"),
    ("RPROXY_CACHE_ENABLED", "false"),
    ("RPROXY_COMPRESSION", "false"),
    ("RPROXY_RATE_LIMIT_ENABLED", "false"),
    ("RPROXY_FILTER_ENABLED", "false"),
    ("RPROXY_HEAD_TIMEOUT", "300ms"),
    ("RPROXY_H2C", "false"),
];

const CORPORA: [(&str, &str); 3] = [
    ("lengths", include_str!("corpus/lengths.txt")),
    ("chunks", include_str!("corpus/chunks.txt")),
    ("heads", include_str!("corpus/heads.txt")),
];

#[test]
fn http1_requests_are_rejected_or_framed_identically_by_every_backend() {
    let backends: Vec<Backend> = BackendKind::ALL.into_iter().filter_map(BackendKind::start).collect();
    let corpora = CORPORA.map(|(name, text)| (name, corpus::read(text)));
    let tallies: Vec<(BackendKind, Vec<Tally>)> = std::thread::scope(|scope| {
        let runs: Vec<_> = backends.iter().map(|backend| scope.spawn(|| run(backend, &corpora))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    report::requests(&CORPORA.map(|(name, _)| name), &tallies);
    let failures: Vec<&str> =
        tallies.iter().flat_map(|(_, tallies)| tallies).flat_map(|tally| &tally.failures).map(String::as_str).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn run(backend: &Backend, corpora: &[(&str, Vec<Case>)]) -> (BackendKind, Vec<Tally>) {
    let proxy = Proxy::start(backend.address, &SETTINGS);
    let mut probe = 0;
    let tallies = corpora.iter().map(|(_, cases)| {
        let mut tally = Tally::default();
        for case in cases {
            let expected: Vec<Expected> = case.expected.iter().map(|text| Expected::parsed(text)).collect();
            let responses = send(&proxy, case, &expected);
            probe += 1;
            let target = format!("/probe-{probe}");
            let probed = get(proxy.address, &target);
            let mut complaints = String::new();
            if !probed.body.starts_with(&format!("GET {target} a.example")) {
                let _ = write!(complaints, " the next request got {} {:?};", probed.status, probed.body);
            }
            let seen = backend.seen.before(&target);
            judge(backend.kind, &expected, &responses, &seen, &mut tally, &mut complaints);
            if !complaints.is_empty() {
                tally.failures.push(format!("{} / {}:{complaints}", backend.kind.name(), case.name));
            }
        }
        tally
    });
    (backend.kind, tallies.collect())
}

/// The expected result of one request in a case.
#[derive(Debug)]
enum Expected {
    /// The backend receives this request.
    Request(SeenRequest, bool),
    /// The backend receives nothing, and the connection ends after a response with this status.
    Refused(u16),
    /// The backend receives nothing, and the connection may stay open after a response with this status.
    Open(u16),
    /// The proxy responds with this status and closes the connection; the backend may have received a partial request.
    RefusedPartly(u16),
    /// The client aborts the request, so that the backend receives no complete request.
    Cut,
}

impl Expected {
    fn parsed(text: &str) -> Self {
        match text.split(' ').collect::<Vec<_>>()[..] {
            ["cut"] => Self::Cut,
            [status] => Self::Refused(status.parse().unwrap()),
            [status, "open"] => Self::Open(status.parse().unwrap()),
            [status, "partly"] => Self::RefusedPartly(status.parse().unwrap()),
            [method, target, length, ref host @ ..] => {
                let host = host.first().copied().unwrap_or("a.example").to_owned();
                let any_host = host == "any";
                let length = Some(length.parse().unwrap());
                Self::Request(
                    SeenRequest { method: method.to_owned(), target: target.to_owned(), host, length },
                    any_host,
                )
            }
            _ => panic!("{text:?} cannot be expected"),
        }
    }
}

/// The responses to one test case in order, and whether the connection ended after the last response.
struct Answers {
    responses: Vec<Response>,
    has_ended: bool,
}

fn send(proxy: &Proxy, case: &Case, expected: &[Expected]) -> Answers {
    let mut stream = connect(proxy.address);
    stream.set_read_timeout(Some(QUIET)).unwrap();
    // A server that rejects early may close before everything is sent.
    let _ = stream.write_all(&case.bytes());
    let mut responses = Vec::new();
    for expected in expected {
        let has_content = !matches!(expected, Expected::Request(seen, _) if seen.method == "HEAD");
        if matches!(expected, Expected::Cut) {
            let _ = stream.shutdown(Shutdown::Write);
        }
        if stream.peek(&mut [0]).is_err() {
            // Neither a response nor the end of the connection.
            return Answers { responses, has_ended: false };
        }
        match read_final(&mut stream, has_content) {
            Some(response) => responses.push(response),
            None => return Answers { responses, has_ended: true },
        }
    }
    let is_refused = !matches!(expected.last(), Some(Expected::Request(..) | Expected::Open(_)));
    let has_ended = is_refused && stream.peek(&mut [0]).is_ok() && read_final(&mut stream, true).is_none();
    Answers { responses, has_ended }
}

/// The time after which no more responses are expected.
const QUIET: Duration = Duration::from_secs(3);

/// Reads the final response, skipping interim responses (RFC 9110 §15.2).
fn read_final(stream: &mut std::net::TcpStream, has_content: bool) -> Option<Response> {
    loop {
        let response = read_response_to(stream, has_content)?;
        if response.status >= 200 {
            return Some(response);
        }
    }
}

fn judge(
    kind: BackendKind,
    expected: &[Expected],
    responses: &Answers,
    seen: &[Result<SeenRequest, String>],
    tally: &mut Tally,
    complaints: &mut String,
) {
    let mut unmatched: std::collections::VecDeque<_> = seen.iter().collect();
    let mut by_itself = false;
    for (number, expected) in expected.iter().enumerate() {
        let response = responses.responses.get(number);
        match (expected, response) {
            (Expected::Cut, _) => tally.cut += 1,
            (Expected::Refused(status) | Expected::Open(status) | Expected::RefusedPartly(status), Some(response)) => {
                tally.refused += 1;
                if response.status != *status {
                    let _ = write!(complaints, " {} instead of {status};", response.status);
                }
            }
            (Expected::Request(wanted, any_host), Some(response)) if response.header("x-seen").is_some() => {
                tally.passed += 1;
                match unmatched.pop_front() {
                    Some(Ok(seen)) if is_same(kind, wanted, *any_host, seen) => {}
                    other => {
                        let _ = write!(complaints, " {other:?} instead of {wanted};");
                    }
                }
            }
            // The backend rejects a request that the proxy forwarded.
            (Expected::Request(..), Some(_)) if kind != BackendKind::Strict => {
                tally.by_backend += 1;
                by_itself = true;
            }
            (Expected::Request(..), None) if by_itself => {}
            (expected, Some(response)) => {
                let _ = write!(complaints, " {} instead of {expected:?};", response.status);
            }
            (expected, None) => {
                let _ = write!(complaints, " nothing instead of {expected:?};");
            }
        }
    }
    if !unmatched.is_empty() {
        tally.beyond += unmatched.len();
        let _ = write!(complaints, " beyond all that: {unmatched:?};");
    }
    if !matches!(expected.last(), Some(Expected::Request(..) | Expected::Open(_))) && !responses.has_ended {
        complaints.push_str(" the connection stays open;");
    }
}

fn is_same(kind: BackendKind, wanted: &SeenRequest, any_host: bool, seen: &SeenRequest) -> bool {
    let is_length = seen.length.is_none() || seen.length == wanted.length;
    let is_host = any_host || seen.host == wanted.host;
    let is_line = match kind {
        // Gunicorn changes methods to upper case, and Apache merges two slashes; the request is the same.
        BackendKind::Gunicorn | BackendKind::Apache => {
            let path = |target: &str| target.trim_start_matches('/').to_owned();
            seen.method.eq_ignore_ascii_case(&wanted.method) && path(&seen.target) == path(&wanted.target)
        }
        _ => seen.method == wanted.method && seen.target == wanted.target,
    };
    is_line && is_length && is_host
}
