//! Requests that one reader could take differently from another (RFC 9112 §11.2): refused, or, at each of several makes
//! of backend, the requests that the client has framed and no others.

use std::fmt::Write as _;
use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use crate::corpus::{self, Case};
use crate::makes::{Backend, Make, Seen};
use crate::report::{self, Tally};
use crate::support::{Answer, Proxy, connect, get, read_answer_to};

/// One worker, and so one pool of connections to the backend: a poisoned one is used next. Nothing else answers.
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
fn what_has_two_readings_is_refused_and_all_else_has_one_everywhere() {
    let backends: Vec<Backend> = Make::ALL.into_iter().filter_map(Make::start).collect();
    let corpora = CORPORA.map(|(name, text)| (name, corpus::read(text)));
    let tallies: Vec<(Make, Vec<Tally>)> = std::thread::scope(|scope| {
        let runs: Vec<_> = backends.iter().map(|backend| scope.spawn(|| run(backend, &corpora))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    report::requests(&CORPORA.map(|(name, _)| name), &tallies);
    let failures: Vec<&str> =
        tallies.iter().flat_map(|(_, tallies)| tallies).flat_map(|tally| &tally.failures).map(String::as_str).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn run(backend: &Backend, corpora: &[(&str, Vec<Case>)]) -> (Make, Vec<Tally>) {
    let proxy = Proxy::start(backend.address, &SETTINGS);
    let mut probe = 0;
    let tallies = corpora.iter().map(|(_, cases)| {
        let mut tally = Tally::default();
        for case in cases {
            let expected: Vec<Expected> = case.expected.iter().map(|text| Expected::parsed(text)).collect();
            let answers = send(&proxy, case, &expected);
            probe += 1;
            let target = format!("/probe-{probe}");
            let probed = get(proxy.address, &target);
            let mut complaints = String::new();
            if !probed.body.starts_with(&format!("GET {target} a.example")) {
                let _ = write!(complaints, " the next request got {} {:?};", probed.status, probed.body);
            }
            let seen = backend.seen.before(&target);
            judge(backend.make, &expected, &answers, &seen, &mut tally, &mut complaints);
            if !complaints.is_empty() {
                tally.failures.push(format!("{} / {}:{complaints}", backend.make.name(), case.name));
            }
        }
        tally
    });
    (backend.make, tallies.collect())
}

/// What is to become of one of the requests of a case.
#[derive(Debug)]
enum Expected {
    /// The backend sees it.
    Request(Seen, bool),
    /// The backend sees nothing, and the connection ends with this status.
    Refused(u16),
    /// As the former, but the connection may go on: where the request ends was clear.
    Open(u16),
    /// As the first, but of its beginning the backend may have seen something.
    RefusedPartly(u16),
    /// It does not come to its end, so the backend sees no whole one.
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
                Self::Request(Seen { method: method.to_owned(), target: target.to_owned(), host, length }, any_host)
            }
            _ => panic!("{text:?} can't be expected"),
        }
    }
}

/// The answers in order, and whether the connection ended behind the last.
struct Answers {
    answers: Vec<Answer>,
    has_ended: bool,
}

fn send(proxy: &Proxy, case: &Case, expected: &[Expected]) -> Answers {
    let mut stream = connect(proxy.address);
    stream.set_read_timeout(Some(QUIET)).unwrap();
    // Who refuses early may close before everything is sent.
    let _ = stream.write_all(&case.bytes());
    let mut answers = Vec::new();
    for expected in expected {
        let has_content = !matches!(expected, Expected::Request(seen, _) if seen.method == "HEAD");
        if matches!(expected, Expected::Cut) {
            let _ = stream.shutdown(Shutdown::Write);
        }
        if stream.peek(&mut [0]).is_err() {
            // Nothing comes, and nothing ends.
            return Answers { answers, has_ended: false };
        }
        match read_final(&mut stream, has_content) {
            Some(answer) => answers.push(answer),
            None => return Answers { answers, has_ended: true },
        }
    }
    let is_refused = !matches!(expected.last(), Some(Expected::Request(..) | Expected::Open(_)));
    let has_ended = is_refused && stream.peek(&mut [0]).is_ok() && read_final(&mut stream, true).is_none();
    Answers { answers, has_ended }
}

/// After so long, nothing will come any more.
const QUIET: Duration = Duration::from_secs(3);

/// RFC 9110 §15.2: what comes before the answer is none.
fn read_final(stream: &mut std::net::TcpStream, has_content: bool) -> Option<Answer> {
    loop {
        let answer = read_answer_to(stream, has_content)?;
        if answer.status >= 200 {
            return Some(answer);
        }
    }
}

fn judge(
    make: Make,
    expected: &[Expected],
    answers: &Answers,
    seen: &[Result<Seen, String>],
    tally: &mut Tally,
    complaints: &mut String,
) {
    let mut unmatched: std::collections::VecDeque<_> = seen.iter().collect();
    let mut by_itself = false;
    for (number, expected) in expected.iter().enumerate() {
        let answer = answers.answers.get(number);
        match (expected, answer) {
            (Expected::Cut, _) => tally.cut += 1,
            (Expected::Refused(status) | Expected::Open(status) | Expected::RefusedPartly(status), Some(answer)) => {
                tally.refused += 1;
                if answer.status != *status {
                    let _ = write!(complaints, " {} instead of {status};", answer.status);
                }
            }
            (Expected::Request(wanted, any_host), Some(answer)) if answer.header("x-seen").is_some() => {
                tally.passed += 1;
                match unmatched.pop_front() {
                    Some(Ok(seen)) if is_same(make, wanted, *any_host, seen) => {}
                    other => {
                        let _ = write!(complaints, " {other:?} instead of {wanted};");
                    }
                }
            }
            // The backend refuses what the proxy does not.
            (Expected::Request(..), Some(_)) if make != Make::Strict => {
                tally.by_backend += 1;
                by_itself = true;
            }
            (Expected::Request(..), None) if by_itself => {}
            (expected, Some(answer)) => {
                let _ = write!(complaints, " {} instead of {expected:?};", answer.status);
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
    if !matches!(expected.last(), Some(Expected::Request(..) | Expected::Open(_))) && !answers.has_ended {
        complaints.push_str(" the connection goes on;");
    }
}

fn is_same(make: Make, wanted: &Seen, any_host: bool, seen: &Seen) -> bool {
    let is_length = seen.length.is_none() || seen.length == wanted.length;
    let is_host = any_host || seen.host == wanted.host;
    let is_line = match make {
        // Gunicorn writes methods large, Apache makes one slash of two: another spelling, and the same request.
        Make::Gunicorn | Make::Apache => {
            let path = |target: &str| target.trim_start_matches('/').to_owned();
            seen.method.eq_ignore_ascii_case(&wanted.method) && path(&seen.target) == path(&wanted.target)
        }
        _ => seen.method == wanted.method && seen.target == wanted.target,
    };
    is_line && is_length && is_host
}
