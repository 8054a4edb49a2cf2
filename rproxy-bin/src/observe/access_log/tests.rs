use std::sync::mpsc;
use std::time::UNIX_EPOCH;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use rproxy_cache::CacheStatus;
use rproxy_client_ip::{ClientIp, PeerAddr};
use rproxy_path_filter::PathFilterDecision;
use rproxy_server::RefusedHead;

use super::*;
use crate::error_response::ErrorReason;

pub(super) fn start() -> SystemTime {
    // RFC 9110 §5.6.7's own example.
    UNIX_EPOCH + Duration::from_millis(784_111_777_123)
}

pub(super) fn request(fields: &[(&str, &[u8])]) -> LoggedRequest {
    let mut request = Request::get("/a?b=c")
        .header("host", "a.example")
        .extension(PeerAddr("10.0.0.1:4711".parse().unwrap()))
        .extension(ClientIp("192.0.2.1".parse().unwrap()))
        .extension(Scheme::HTTPS)
        .body(())
        .unwrap();
    for (name, value) in fields {
        request.headers_mut().insert(HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value).unwrap());
    }
    LoggedRequest::of(&request)
}

pub(super) fn response() -> LoggedResponse {
    let mut entry = LoggedResponse {
        status: Some(StatusCode::OK),
        bytes: 5,
        duration: Duration::from_micros(1500),
        ..LoggedResponse::default()
    };
    let mut response = Response::new(());
    response.extensions_mut().insert(CacheStatus::Hit);
    entry.head(&response, None);
    entry
}

pub(super) fn blocked() -> LoggedResponse {
    let mut response = Response::new(());
    response.extensions_mut().insert(PathFilterDecision::Blocked { rule: "/**/.env".into() });
    let status = Some(StatusCode::NOT_FOUND);
    let mut entry = LoggedResponse { status, duration: Duration::from_micros(1500), ..LoggedResponse::default() };
    entry.head(&response, Some(ErrorReason::BlockedPath));
    entry
}

/// Hands on each write, and waits until it is taken.
struct Pipe(mpsc::SyncSender<Vec<u8>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn writer(capacity: usize) -> (Writer, mpsc::Receiver<Vec<u8>>) {
    let (sender, receiver) = mpsc::sync_channel(capacity);
    (Writer::start(Pipe(sender)).unwrap(), receiver)
}

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn what_is_flushed_has_been_written_by_every_worker() {
    let (log, written) = writer(1000);
    let buffers = [log.buffer(Format::Text), log.buffer(Format::Text)];
    for _ in 0..50 {
        for buffer in &buffers {
            buffer.write(start(), &request(&[]), &response());
        }
    }
    assert!(log.flush_within(PATIENCE));
    let bytes: Vec<u8> = written.try_iter().flatten().collect();
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("192.0.2.1 - - [")).count(), 100);
    assert_eq!((text.lines().count(), log.dropped()), (100, 0));
}

#[test]
fn a_line_is_written_without_being_asked_for() {
    let (log, written) = writer(1);
    let buffer = log.buffer(Format::Text);
    for _ in 0..3 {
        buffer.write(start(), &request(&[]), &response());
        assert!(written.recv_timeout(PATIENCE).unwrap().ends_with(b"\n"));
    }
}

#[test]
fn a_reader_that_stops_costs_lines_and_no_waiting() {
    let (log, written) = writer(0);
    let buffer = log.buffer(Format::Text);
    let line_length = {
        let mut line = Vec::new();
        text::write(&mut line, start(), &request(&[]), &response());
        line.len()
    };
    // One buffer may be with the writer, one with the worker.
    let lines = 3 * BUFFER_LIMIT / line_length;
    for _ in 0..lines {
        buffer.write(start(), &request(&[]), &response());
    }
    assert!(!log.flush_within(Duration::from_millis(1)));
    let lost = log.dropped();
    assert!(lost > 0);

    // The reader comes back, and gets whole lines: all that were not counted as lost.
    drop((buffer, log));
    let text = String::from_utf8(written.iter().flatten().collect()).unwrap();
    assert_eq!(text.lines().count() as u64 + lost, lines as u64);
    assert!(text.lines().all(|line| line.ends_with("cache=hit")));
}

#[test]
fn lines_that_nobody_can_read_are_counted() {
    let (log, written) = writer(0);
    drop(written);
    log.buffer(Format::Text).write(start(), &request(&[]), &response());
    assert!(log.flush_within(PATIENCE));
    assert_eq!(log.dropped(), 1);
}

#[test]
fn the_writer_ends_with_the_last_clone_and_everything_is_written_by_then() {
    let (log, written) = writer(10);
    let (clone, buffer) = (log.clone(), log.buffer(Format::Text));
    drop((log, clone));
    buffer.write(start(), &request(&[]), &response());
    drop(buffer);
    // Ends, because the writer's end of the channel goes with its thread.
    assert_eq!(written.iter().flatten().filter(|byte| *byte == b'\n').count(), 1);
}

#[test]
fn buffers_of_workers_that_are_gone_are_forgotten() {
    let (log, written) = writer(1000);
    for _ in 0..100 {
        log.buffer(Format::Text).write(start(), &request(&[]), &response());
    }
    assert!(log.flush_within(PATIENCE) && log.flush_within(PATIENCE));
    assert!(lock(&log.handle.inner.buffers).is_empty());
    assert_eq!(written.try_iter().flatten().filter(|byte| *byte == b'\n').count(), 100);
}

#[test]
fn a_stand_in_for_a_refused_request_tells_of_no_request() {
    let mut request = Request::get("/stand-in").header("user-agent", "x").body(()).unwrap();
    request.extensions_mut().insert(RefusedHead::Malformed);
    request.extensions_mut().insert(PeerAddr("[::ffff:192.0.2.7]:1".parse().unwrap()));
    let mut line = Vec::new();
    text::write(&mut line, start(), &LoggedRequest::of(&request), &LoggedResponse::default());
    let line = String::from_utf8(line).unwrap();
    assert!(line.starts_with("192.0.2.7 - - [") && line.contains("] \"-\" 499 0 \"-\" \"-\" - "), "{line}");

    let mut line = Vec::new();
    json::write(&mut line, start(), &LoggedRequest::of(&request), &LoggedResponse::default());
    let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert!(value.get("method").is_none() && value.get("target").is_none());
}

#[test]
fn over_http2_the_host_is_the_targets() {
    let request = Request::get("https://b.example/x?y").version(http::Version::HTTP_2).body(()).unwrap();
    let mut line = Vec::new();
    json::write(&mut line, start(), &LoggedRequest::of(&request), &LoggedResponse::default());
    let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert_eq!((&value["host"], &value["target"]), (&"b.example".into(), &"/x?y".into()));
    assert_eq!(value["protocol"], "HTTP/2.0");
}
