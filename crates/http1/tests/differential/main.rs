//! A differential test: hyper, h11 and nginx read alike what the server role accepts and the client role writes.

#![allow(clippy::unwrap_used)]

mod requests;

use std::convert::Infallible;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, HeaderMap, UPGRADE};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rproxy_http1::{
    BodyDecoder, BodyEncoder, HeadLimits, RequestBodyFraming, RequestHead, RequestParser, write_request_head,
};
use rproxy_test_support::free_port;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::unbounded_channel;

use self::requests::REQUESTS;

/// A request as one of the implementations has read it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading {
    /// The method and the target.
    line: String,
    /// The fields without those about framing and the connection, sorted by name.
    fields: Vec<(String, Vec<u8>)>,
    content: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
}

impl Reading {
    fn new(request: &Request<()>, content: Vec<u8>, trailers: Option<&HeaderMap>) -> Self {
        let target = match (request.uri().path_and_query(), request.uri().authority()) {
            (None, Some(authority)) => authority.to_string(),
            (target, _) => target.map_or_else(|| "/".to_owned(), ToString::to_string),
        };
        Self {
            line: format!("{} {target}", request.method()),
            fields: sorted(pairs(request.headers())),
            content,
            trailers: sorted(trailers.into_iter().flat_map(pairs)),
        }
    }

    /// Parses a line of `read.py`. Returns `None` if h11 rejected the request.
    fn from_h11(line: &str) -> Option<Self> {
        let [method, target, fields, content, trailers] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
        let text = |hex: &str| String::from_utf8(unhex(hex)).unwrap();
        let pairs = |fields: &str| {
            let pairs = fields.split(',').filter_map(|pair| pair.split_once('='));
            sorted(pairs.map(|(name, value)| (text(name), unhex(value))).collect::<Vec<_>>())
        };
        Some(Self {
            line: format!("{} {}", text(method), text(target)),
            fields: pairs(fields),
            content: unhex(content),
            trailers: pairs(trailers),
        })
    }

    /// Removes what nginx does not forward: trailers, and fields for the next recipient only.
    fn without_next_hop(mut self) -> Self {
        self.fields.retain(|(name, _)| !["expect", "te", "keep-alive"].contains(&name.as_str()));
        self.trailers.clear();
        self
    }
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
}

/// Returns fields in the order of their names, without those about framing and the connection.
fn sorted(fields: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    const FRAMING: [&str; 3] = ["connection", "content-length", "transfer-encoding"];
    let mut fields: Vec<_> = fields.into_iter().filter(|(name, _)| !FRAMING.contains(&name.as_str())).collect();
    // Stable: the order of fields with the same name has a meaning (RFC 9110 §5.3).
    fields.sort_by(|(name, _), (other, _)| name.cmp(other));
    fields
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Reads a complete request in the role of a server. Returns its head, its reading and its trailers.
fn read(bytes: &[u8]) -> Option<(RequestHead, Reading, Option<HeaderMap>)> {
    let mut input = BytesMut::from(bytes);
    let mut head = RequestParser::new(HeadLimits::default()).parse(&input.clone().freeze()).unwrap()?;
    // A proxy does not forward them.
    head.request.headers_mut().remove(CONNECTION);
    head.request.headers_mut().remove(UPGRADE);
    let _ = input.split_to(head.length);
    let mut decoder = BodyDecoder::for_request(head.framing);
    let (mut content, mut trailers) = (Vec::new(), None);
    while let Some(frame) = decoder.decode(&mut input).unwrap() {
        match frame.into_data() {
            Ok(data) => content.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let reading = Reading::new(&head.request, content, trailers.as_ref());
    decoder.has_ended().then_some((head, reading, trailers))
}

/// Reads a request in the role of a server, and writes it in the role of a client, with the received letter case of names.
fn forward(bytes: &[u8]) -> (Reading, Vec<u8>) {
    let (mut head, reading, trailers) = read(bytes).unwrap();
    head.request.extensions_mut().insert(head.received);
    let mut written = Vec::new();
    let framing = if head.framing == RequestBodyFraming::Upgrade { RequestBodyFraming::None } else { head.framing };
    write_request_head(&mut written, &head.request, framing);
    if let Some(mut encoder) = BodyEncoder::for_request(framing) {
        if !reading.content.is_empty() {
            encoder.begin_data(&mut written, reading.content.len()).unwrap();
            written.extend_from_slice(&reading.content);
            written.extend_from_slice(encoder.end_data());
        }
        encoder.end(&mut written, trailers.as_ref()).unwrap();
    }
    (reading, written)
}

/// Compares the readings of a program with those of the server role.
fn assert_alike(program: &str, readings: &[Option<Reading>], expected: impl Fn(Reading) -> Reading) {
    assert_eq!(readings.len(), REQUESTS.len());
    for ((bytes, rejected_by), reading) in REQUESTS.iter().zip(readings) {
        let own = (!rejected_by.contains(&program)).then(|| expected(forward(bytes).0));
        assert_eq!(*reading, own, "{program}: {}", bytes.escape_ascii());
    }
}

#[test]
fn server_role_reads_a_forwarded_request_like_the_original() {
    let readings: Vec<_> =
        REQUESTS.iter().map(|(bytes, _)| read(&forward(bytes).1).map(|(_, reading, _)| reading)).collect();
    assert_alike("server role", &readings, |own| own);
}

#[tokio::test]
async fn hyper_reads_forwarded_requests_like_the_server_role() {
    let mut readings = Vec::new();
    for (bytes, _) in REQUESTS {
        readings.push(read_with_hyper(&forward(bytes).1).await);
    }
    assert_alike("hyper", &readings, |own| own);
}

async fn read_with_hyper(bytes: &[u8]) -> Option<Reading> {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    client.write_all(bytes).await.unwrap();
    let (sender, mut readings) = unbounded_channel();
    let service = service_fn(move |request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            let (head, body) = request.into_parts();
            let collected = body.collect().await.unwrap();
            let trailers = collected.trailers().cloned();
            let content = collected.to_bytes().to_vec();
            sender.send(Reading::new(&Request::from_parts(head, ()), content, trailers.as_ref())).unwrap();
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
    tokio::select! {
        biased;
        Some(reading) = readings.recv() => Some(reading),
        _ = connection => readings.try_recv().ok(),
    }
}

/// Returns whether a counterpart is installed. With `TEST_REQUIRE_COUNTERPARTS`, it must be.
fn has(path: &str) -> bool {
    let is_installed = Path::new(path).exists();
    assert!(
        is_installed || std::env::var_os("TEST_REQUIRE_COUNTERPARTS").is_none(),
        "{path} is required and not installed"
    );
    if !is_installed {
        eprintln!("skipped: {path} is not installed");
    }
    is_installed
}

#[test]
fn h11_reads_forwarded_requests_like_the_server_role() {
    if !has("/usr/lib/python3/dist-packages/h11") {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/read.py");
    let mut python =
        Command::new("/usr/bin/python3").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = python.stdin.take().unwrap();
    for (bytes, _) in REQUESTS {
        let hex: String = forward(bytes).1.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(input, "{hex}").unwrap();
    }
    drop(input);
    let output = python.wait_with_output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let readings: Vec<_> = lines.lines().map(Reading::from_h11).collect();
    assert_alike("h11", &readings, |own| own);
}

/// Compares the requests that nginx forwards to another server.
#[test]
fn nginx_reads_forwarded_requests_like_the_server_role() {
    if !has("/usr/sbin/nginx") {
        return;
    }
    let recorder = TcpListener::bind("127.0.0.1:0").unwrap();
    let nginx = Nginx::start(recorder.local_addr().unwrap().port());
    recorder.set_nonblocking(true).unwrap();
    let mut readings = Vec::new();
    for (bytes, _) in REQUESTS {
        let mut client = nginx.connect();
        client.write_all(&forward(bytes).1).unwrap();
        readings.push(record(&recorder, &mut client).map(Reading::without_next_hop));
    }
    assert_alike("nginx", &readings, Reading::without_next_hop);
}

/// Reads the request that nginx forwards. Returns `None` if nginx responds to the client itself.
fn record(recorder: &TcpListener, client: &mut TcpStream) -> Option<Reading> {
    client.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut server = loop {
        if let Ok((server, _)) = recorder.accept() {
            break server;
        }
        let mut response = [0; 1024];
        match client.read(&mut response) {
            // nginx sends it before it connects to the recorder.
            Ok(length) if response[..length] == *b"HTTP/1.1 100 Continue\r\n\r\n" => {}
            Ok(_) => return None,
            Err(_) => {}
        }
    };
    server.set_nonblocking(false).unwrap();
    let (mut received, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let length = server.read(&mut piece).unwrap();
        assert_ne!(length, 0, "nginx closed an incomplete request: {}", received.escape_ascii());
        received.extend_from_slice(&piece[..length]);
        if let Some((_, reading, _)) = read(&received) {
            server.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
            return Some(reading);
        }
    }
}

/// An nginx that forwards all requests to another port, until it is dropped.
struct Nginx {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Nginx {
    fn start(recorder: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let configuration = include_str!("nginx.conf")
            .replace("{{folder}}", folder.path().to_str().unwrap())
            .replace("{{port}}", &port.to_string())
            .replace("{{recorder}}", &recorder.to_string());
        let path = folder.path().join("nginx.conf");
        fs::write(&path, configuration).unwrap();
        let mut process = Command::new("/usr/sbin/nginx")
            .args(["-e", "stderr", "-p"])
            .arg(folder.path())
            .arg("-c")
            .arg(&path)
            .spawn()
            .unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "nginx has ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { process, port, _folder: folder }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).unwrap()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
