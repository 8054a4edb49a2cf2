use std::sync::mpsc;
use std::time::UNIX_EPOCH;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use rproxy_cache::CacheStatus;
use rproxy_client_ip::{ClientIp, PeerAddr};
use rproxy_core::{Rejection, RejectionDetail};
use rproxy_server::RejectedHead;

use super::*;
use crate::line_writer::BUFFER_LIMIT;

pub(super) fn start() -> SystemTime {
    // The example of RFC 9110 §5.6.7.
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
    let status = Some(StatusCode::NOT_FOUND);
    let mut entry = LoggedResponse { status, duration: Duration::from_micros(1500), ..LoggedResponse::default() };
    let rejection = Rejection::new("path_filter", "blocked_path", StatusCode::NOT_FOUND)
        .with_detail(RejectionDetail::Rule("/**/.env".into()));
    entry.head(&Response::new(()), Some(&rejection));
    entry
}

/// An output whose writes block until the test receives the written bytes.
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

const TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn flush_writes_log_lines_of_all_workers() {
    let (log, written) = writer(1000);
    let buffers = [log.buffer(Format::Text), log.buffer(Format::Text)];
    for _ in 0..50 {
        for buffer in &buffers {
            buffer.write(start(), &request(&[]), &response());
        }
    }
    assert!(log.flush_within(TIMEOUT));
    let bytes: Vec<u8> = written.try_iter().flatten().collect();
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("192.0.2.1 - - [")).count(), 100);
    assert_eq!((text.lines().count(), log.dropped()), (100, 0));
}

#[test]
fn writes_a_log_line_without_flush() {
    let (log, written) = writer(1);
    let buffer = log.buffer(Format::Text);
    for _ in 0..3 {
        buffer.write(start(), &request(&[]), &response());
        assert!(written.recv_timeout(TIMEOUT).unwrap().ends_with(b"\n"));
    }
}

#[test]
fn stalled_reader_loses_log_lines_and_does_not_block_workers() {
    let (log, written) = writer(0);
    let buffer = log.buffer(Format::Text);
    let line_length = {
        let mut line = Vec::new();
        text::write(&mut line, start(), &request(&[]), &response(), Colors::Off);
        line.len()
    };
    // One buffer may be with the writer thread and one with the worker.
    let lines = 3 * BUFFER_LIMIT / line_length;
    for _ in 0..lines {
        buffer.write(start(), &request(&[]), &response());
    }
    assert!(!log.flush_within(Duration::from_millis(1)));
    let lost = log.dropped();
    assert!(lost > 0);

    // The reader continues, and gets complete lines: all that were not counted as dropped.
    drop((buffer, log));
    let text = String::from_utf8(written.iter().flatten().collect()).unwrap();
    assert_eq!(text.lines().count() as u64 + lost, lines as u64);
    assert!(text.lines().all(|line| line.ends_with("cache=hit")));
}

#[test]
fn counts_log_lines_for_a_closed_output_as_dropped() {
    let (log, written) = writer(0);
    drop(written);
    log.buffer(Format::Text).write(start(), &request(&[]), &response());
    assert!(log.flush_within(TIMEOUT));
    assert_eq!(log.dropped(), 1);
}

#[test]
fn dropping_the_last_clone_writes_all_log_lines_and_ends_the_thread() {
    let (log, written) = writer(10);
    let (clone, buffer) = (log.clone(), log.buffer(Format::Text));
    drop((log, clone));
    buffer.write(start(), &request(&[]), &response());
    drop(buffer);
    // The iterator ends, since the sender is dropped with the writer thread.
    assert_eq!(written.iter().flatten().filter(|byte| *byte == b'\n').count(), 1);
}

#[test]
fn rejected_head_is_logged_without_method_and_target() {
    let mut request = Request::get("/placeholder").header("user-agent", "x").body(()).unwrap();
    request.extensions_mut().insert(RejectedHead::Malformed);
    request.extensions_mut().insert(PeerAddr("[::ffff:192.0.2.7]:1".parse().unwrap()));
    let mut line = Vec::new();
    text::write(&mut line, start(), &LoggedRequest::of(&request), &LoggedResponse::default(), Colors::Off);
    let line = String::from_utf8(line).unwrap();
    assert!(line.starts_with("192.0.2.7 - - [") && line.contains("] \"-\" 499 0 \"-\" \"-\" - "), "{line}");

    let mut line = Vec::new();
    json::write(&mut line, start(), &LoggedRequest::of(&request), &LoggedResponse::default());
    let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert!(value.get("method").is_none() && value.get("target").is_none());
}

#[test]
fn http2_host_is_taken_from_the_authority() {
    let request = Request::get("https://b.example/x?y").version(http::Version::HTTP_2).body(()).unwrap();
    let mut line = Vec::new();
    json::write(&mut line, start(), &LoggedRequest::of(&request), &LoggedResponse::default());
    let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert_eq!((&value["host"], &value["target"]), (&"b.example".into(), &"/x?y".into()));
    assert_eq!(value["protocol"], "HTTP/2.0");
}
