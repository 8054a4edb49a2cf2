//! Tests of HTTP/2 requests that would become different requests in HTTP/1.1 (RFC 9113 §10.3).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::backends::{Backend, BackendKind, SeenRequest};
use crate::corpus::{self, Case, Step};
use crate::frames::{self, Client, DATA, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM};
use crate::http1::SETTINGS;
use crate::report;
use crate::support::{Proxy, TIMEOUT};

#[test]
fn http2_requests_are_rejected_or_forwarded_unchanged_to_every_backend() {
    let cases = corpus::read(include_str!("corpus/http2.txt"));
    let backends: Vec<Backend> = BackendKind::ALL.into_iter().filter_map(BackendKind::start).collect();
    let runs: Vec<(BackendKind, Run)> = std::thread::scope(|scope| {
        let runs: Vec<_> = backends.iter().map(|backend| scope.spawn(|| run(backend, &cases))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    report::http2(&runs);
    let failures: Vec<&String> = runs.iter().flat_map(|(_, run)| &run.failures).collect();
    assert!(failures.is_empty(), "{} failures:\n{failures:#?}", failures.len());
}

/// The number of HTTP/2 cases with each result.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// The number of requests that ended with a stream reset or the end of the connection.
    pub(crate) reset: usize,
    /// The number of requests that were rejected with a status.
    pub(crate) refused: usize,
    pub(crate) passed: usize,
    pub(crate) failures: Vec<String>,
}

fn run(backend: &Backend, cases: &[Case]) -> (BackendKind, Run) {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = SETTINGS.to_vec();
    settings.extend([
        ("RPROXY_TLS_LOCAL", "true"),
        ("RPROXY_HTTP_PORT", "0"),
        ("RPROXY_TLS_CACHE_DIR", folder.path().to_str().unwrap()),
    ]);
    let proxy = Proxy::start(backend.address, &settings);
    let config = trusting(&folder.path().join("local/ca.pem"));
    let mut run = Run::default();
    for (number, case) in cases.iter().enumerate() {
        let end = send(proxy.address, &config, case);
        let target = format!("/probe-{number}");
        let mut probe = Client::connect(proxy.address, &config).handshake(&[]);
        probe.request(1, &frames::get(&target));
        let response = until_end(&mut probe);
        let seen = backend.seen.before(&target);
        let wanted = case.expected[0].as_str();
        let is_as_expected = match (wanted.split(' ').collect::<Vec<_>>().as_slice(), &end) {
            (["reset"], End::Reset) => seen.is_empty(),
            (["refused"], End::Reset) => seen.is_empty(),
            (["refused"], End::Status(status)) => seen.is_empty() && status.starts_with('4'),
            ([status], End::Status(answered)) => seen.is_empty() && answered == status,
            // The first request may have been answered before the second one ended the connection.
            ([_, target, _, "or", "reset"], End::Reset) => {
                seen.iter().all(|seen| seen.as_ref().is_ok_and(|seen| seen.target == *target))
            }
            ([method, target, length, ..], End::Status(status)) => {
                let is_it = |seen: &SeenRequest| {
                    let is_length = seen.length.is_none_or(|seen| length.parse() == Ok(seen));
                    seen.method == *method && seen.target == *target && seen.host == "localhost" && is_length
                };
                status == "200" && matches!(&seen[..], [Ok(seen)] if is_it(seen))
            }
            _ => false,
        };
        match &end {
            End::Reset => run.reset += 1,
            End::Status(status) if status == "200" => run.passed += 1,
            End::Status(_) => run.refused += 1,
        }
        if !is_as_expected || response != End::Status("200".to_owned()) {
            let kind = backend.kind.name();
            run.failures.push(format!(
                "{kind} / {}: {end:?} and {seen:?} instead of {wanted}; the next got {response:?}",
                case.name
            ));
        }
    }
    (backend.kind, run)
}

/// The outcome of an HTTP/2 stream.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Status(String),
    /// The stream was reset, or the connection ended.
    Reset,
}

fn send(address: SocketAddr, config: &Arc<ClientConfig>, case: &Case) -> End {
    let mut client = Client::connect(address, config).handshake(&[]);
    let mut head = Vec::new();
    for step in &case.steps {
        let Step::Word(word, text) = step else { panic!("{:?} has bytes", case.name) };
        match word.as_str() {
            "get" | "post" => {
                let method = word.to_ascii_uppercase();
                for (name, value) in
                    [(":method", method.as_bytes()), (":scheme", &b"https"[..]), (":authority", b"localhost")]
                {
                    head.extend(frames::literal(name.as_bytes(), value));
                }
                head.extend(frames::literal(b":path", text));
            }
            "field" => {
                let at = text.windows(2).position(|two| two == b" =").expect("a name and its value");
                let value = &text[at + 2..];
                head.extend(frames::literal(&text[..at], value.strip_prefix(b" ").unwrap_or(value)));
            }
            "many" => {
                let count = std::str::from_utf8(text).unwrap().parse().unwrap();
                (0..count).for_each(|number| head.extend(frames::literal(format!("x-{number}").as_bytes(), b"b")));
            }
            "head" => client.head(1, &std::mem::take(&mut head), text == b"end"),
            "trailers" => client.head(1, &std::mem::take(&mut head), true),
            "data" => {
                let (flags, data) = match text.strip_prefix(b"end ") {
                    Some(data) => (END_STREAM, data),
                    None => (0, &text[..]),
                };
                client.send(&Frame::new(DATA, flags, 1, data.to_vec()).bytes());
            }
            other => panic!("{other:?} in {:?}", case.name),
        }
    }
    until_end(&mut client)
}

fn until_end(client: &mut Client) -> End {
    let deadline = Instant::now() + TIMEOUT;
    while Instant::now() < deadline {
        match client.wait_for(|frame| matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY)) {
            Some(frame) if frame.kind == HEADERS => match frames::status(&frame.payload) {
                // RFC 9110 §15.2
                interim if interim.starts_with('1') => {}
                status => return End::Status(status),
            },
            Some(_) | None => return End::Reset,
        }
    }
    panic!("no end after {:?}", Duration::from_secs(20))
}

pub(crate) fn trusting(ca: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(PemObject::from_pem_file(ca).unwrap()).unwrap();
    frames::config(roots)
}
