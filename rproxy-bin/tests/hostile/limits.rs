//! Tests of limits per client: memory use stays below the documented maximum, and each limit is enforced.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rproxy::Config;

use crate::frames::{self, Client, Frame, GOAWAY, HEADERS, RST_STREAM};
use crate::http1::SETTINGS;
use crate::http2::trusting;
use crate::support::upstream::{ok, read_head, responding, scripted};
use crate::support::{Proxy, TIMEOUT, connect, exchange, get, read_response};

/// The memory of one brotli encoder with endless input, rounded up from the measured 27 MB.
const ENCODER: usize = 30 << 20;

/// The maximum number of responses that are compressed at the same time.
const MOST_ENCODERS: usize = 64;

const KIB: usize = 1024;

/// Returns the memory table of `docs/reference/limits.md`.
fn table(config: &Config) -> String {
    let worst = config.limits.limits().worst_case_memory();
    let streams = config.limits.max_streams as usize;
    let (exchange, connections) = (rproxy_upstream::MAX_EXCHANGE_SIZE, config.limits.max_connections);
    let http1 = worst.http1 + exchange;
    let http2 = worst.http2 + streams * (worst.stream + exchange);
    let mut text = String::from("| State | Maximum |\n|---|--:|\n");
    let mut row = |what: &str, bytes: usize| {
        let _ = match bytes {
            0..0x10_0000 => writeln!(text, "| {what} | {} KiB |", bytes.div_ceil(KIB)),
            0x10_0000..0x4000_0000 => writeln!(text, "| {what} | {:.1} MiB |", bytes as f64 / (1 << 20) as f64),
            _ => writeln!(text, "| {what} | {:.1} GiB |", bytes as f64 / (1 << 30) as f64),
        };
    };
    row("HTTP/1.1 connection, server side", worst.http1);
    row("HTTP/2 connection, server side, without its streams", worst.http2);
    row("HTTP/2 stream, server side", worst.stream);
    row("Exchange with a backend", exchange);
    row("Compressor of one response", ENCODER);
    row(&format!("{MOST_ENCODERS} compressors, the maximum"), MOST_ENCODERS * ENCODER);
    row("HTTP/1.1 connection with its exchange", http1);
    row(&format!("HTTP/2 connection with {streams} streams and their exchanges"), http2);
    row(&format!("{connections} HTTP/1.1 connections"), connections * http1);
    row(
        &format!("{connections} HTTP/2 connections with one stream each"),
        connections * (worst.http2 + worst.stream + exchange),
    );
    text
}

#[test]
fn memory_table_of_the_limits_page_is_current() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/limits.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once("<!-- worst case -->\n").expect("the start of the table");
    let (_, after) = rest.split_once("<!-- end -->").expect("the end of the table");
    let expected = format!("{before}<!-- worst case -->\n{}<!-- end -->{after}", table(&Config::default()));
    if std::env::var_os("RPROXY_HOSTILE_REPORT").is_some() {
        std::fs::write(&page, &expected).unwrap();
    } else {
        assert_eq!(text, expected, "RPROXY_HOSTILE_REPORT=docs/contributing/reliability updates it");
    }
}

/// Starts a backend that sends endless responses whose compression requires much memory.
pub(crate) fn endless() -> SocketAddr {
    scripted(|mut stream| {
        if read_head(&mut stream).is_some() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n");
            // xorshift: pseudo-random text of 64 printable bytes.
            let mut state = 0x2545_f491_u32;
            let letters = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                char::from(b'0' + (state >> 26) as u8)
            });
            let text: String = letters.take(50_000).collect();
            while stream.write_all(text.as_bytes()).is_ok() {}
        }
    })
}

pub(crate) fn resident(proxy: &Proxy) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * KIB
}

/// Returns the growth of memory use since `before`, once it is stable.
pub(crate) fn grown(proxy: &Proxy, before: usize) -> usize {
    let mut last = resident(proxy);
    loop {
        std::thread::sleep(Duration::from_millis(400));
        let now = resident(proxy);
        if now <= last + last / 50 {
            return now.saturating_sub(before);
        }
        last = now;
    }
}

#[test]
fn http1_connections_stay_within_the_documented_memory() {
    let limits = Config::default().limits.limits();
    let most = limits.worst_case_memory().http1 + rproxy_upstream::MAX_EXCHANGE_SIZE;
    let proxy = Proxy::start(endless(), &[&SETTINGS[..5], &[("RPROXY_HEAD_TIMEOUT", "60s")]].concat());
    let before = resident(&proxy);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}", "a".repeat(limits.head_size - 100));
    for (what, bytes) in [
        ("an unfinished head", head.as_bytes()),
        ("an unread response", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an unread response to HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
    ] {
        let clients: Vec<TcpStream> = (0..100)
            .map(|_| {
                let mut client = connect(proxy.address);
                client.write_all(bytes).unwrap();
                client
            })
            .collect();
        let each = grown(&proxy, before) / clients.len();
        eprintln!("{what}: {} KiB each", each / KIB);
        assert!(each < most, "{what}: {each} bytes each, {most} at most");
    }
}

#[test]
fn http2_connections_stay_within_the_documented_memory() {
    let limits = Config::default().limits.limits();
    let streams = limits.concurrent_streams as usize;
    let each_stream = limits.worst_case_memory().stream + rproxy_upstream::MAX_EXCHANGE_SIZE;
    for (compression, encoders) in [("false", 0), ("true", MOST_ENCODERS)] {
        let folder = tempfile::tempdir().unwrap();
        let settings = [
            &SETTINGS[..2],
            &SETTINGS[3..],
            &[
                ("RPROXY_COMPRESSION", compression),
                ("RPROXY_TLS_LOCAL", "true"),
                ("RPROXY_HTTP_PORT", "0"),
                ("RPROXY_TLS_CACHE_DIR", folder.path().to_str().unwrap()),
            ],
        ];
        let proxy = Proxy::start(endless(), &settings.concat());
        let config = trusting(&folder.path().join("local/ca.pem"));
        let before = resident(&proxy);
        // The maximum number of requests, with an unlimited window, and nothing read.
        let wide = [(4, (1 << 31) - 1)];
        let mut clients: Vec<Client> =
            (0..4).map(|_| Client::connect(proxy.address, &config).handshake(&wide)).collect();
        // Sent when all clients are connected, since compression keeps the worker busy.
        for client in &mut clients {
            client.send(&Frame::new(8, 0, 0, ((1_u32 << 31) - 70_000).to_be_bytes().to_vec()).bytes());
            for number in 0..limits.concurrent_streams {
                let mut head = frames::get("/");
                head.extend(frames::field("accept-encoding", "br"));
                client.request(2 * number + 1, &head);
            }
        }
        let each = grown(&proxy, before) / clients.len();
        let most = limits.worst_case_memory().http2 + streams * each_stream + encoders * ENCODER / clients.len();
        eprintln!(
            "compression {compression}: {} KiB each connection, {} KiB each stream",
            each / KIB,
            each / streams / KIB
        );
        assert!(each < most, "{each} bytes each, {most} at most");
    }
}

fn small(settings: &[(&str, &str)]) -> Proxy {
    let backend = responding(|head| if head.contains(" /large ") { ok(&"a".repeat(20_000_000)) } else { ok("served") });
    Proxy::start(backend, &[&SETTINGS[..5], settings].concat())
}

/// Returns whether the peer closes the connection.
fn ends(stream: &mut TcpStream) -> bool {
    let mut waste = [0; 65_536];
    loop {
        match stream.read(&mut waste) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return false,
            Err(_) => return true,
        }
    }
}

#[test]
fn rejects_requests_over_size_limits() {
    let settings = [
        ("RPROXY_MAX_HEAD", "1KiB"),
        ("RPROXY_MAX_TARGET", "100B"),
        ("RPROXY_MAX_FIELDS", "5"),
        ("RPROXY_MAX_BODY", "1000"),
    ];
    let proxy = small(&settings);
    let (long, large) = ("a".repeat(101), "a".repeat(1024));
    for (bytes, status) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {large}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-A: b\r\n".repeat(5)), 431),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n{large}"), 413),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n{large}\r\n0\r\n\r\n"), 413),
    ] {
        let response = exchange(proxy.address, bytes.as_bytes());
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {response}");
    }
    assert_eq!(get(proxy.address, "/").body, "served");
}

#[test]
fn timeouts_end_slow_requests_and_connections() {
    const SHORT: &str = "300ms";
    let settings = [
        ("RPROXY_HEAD_TIMEOUT", SHORT),
        ("RPROXY_BODY_TIMEOUT", SHORT),
        ("RPROXY_IDLE_TIMEOUT", SHORT),
        ("RPROXY_SEND_TIMEOUT", SHORT),
    ];
    let proxy = small(&settings);
    for (bytes, status) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n"[..], "HTTP/1.1 408 "),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", "HTTP/1.1 408 "),
        // Idle without any request, and after one.
        (b"", ""),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 "),
    ] {
        let began = Instant::now();
        let response = exchange(proxy.address, bytes);
        assert!(response.starts_with(status), "{}: {response}", bytes.escape_ascii());
        assert!(began.elapsed() < Duration::from_secs(10), "{}", bytes.escape_ascii());
    }
    // An unread response: the kernel gives up, and the proxy with it.
    let open = || std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap().count();
    let mut client = connect(proxy.address);
    client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    client.peek(&mut [0]).unwrap();
    let during = open();
    let deadline = Instant::now() + TIMEOUT;
    while open() >= during {
        assert!(Instant::now() < deadline, "still {during} descriptors");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(client);
}

#[test]
fn connections_over_the_limit_are_closed_or_wait() {
    let proxy = small(&[("RPROXY_MAX_CONNECTIONS_PER_CLIENT", "3"), ("RPROXY_MAX_REQUESTS", "2")]);
    let mut kept: Vec<TcpStream> = (0..3).map(|_| connect(proxy.address)).collect();
    for client in &mut kept {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(read_response(client).unwrap().body, "served");
    }
    assert!(ends(&mut connect(proxy.address)), "a fourth connection of one client");
    // The second request of each connection is its last.
    let first = &mut kept[0];
    first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_response(first).unwrap().header("connection"), Some("close"));
    assert!(ends(first));

    let proxy = small(&[("RPROXY_MAX_CONNECTIONS", "2")]);
    let kept: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut client = connect(proxy.address);
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert_eq!(read_response(&mut client).unwrap().body, "served");
            client
        })
        .collect();
    let mut waiting = connect(proxy.address);
    waiting.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(waiting.read(&mut [0; 1]).is_err(), "the third connection waits");
    drop(kept);
    waiting.set_read_timeout(Some(TIMEOUT)).unwrap();
    assert_eq!(read_response(&mut waiting).unwrap().body, "served");
}

#[test]
fn rejects_streams_over_the_limit_and_ends_incomplete_handshakes() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(
        endless(),
        &[
            &SETTINGS[..5],
            &[
                ("RPROXY_TLS_LOCAL", "true"),
                ("RPROXY_HTTP_PORT", "0"),
                ("RPROXY_TLS_CACHE_DIR", folder.path().to_str().unwrap()),
                ("RPROXY_MAX_STREAMS", "3"),
                ("RPROXY_HANDSHAKE_TIMEOUT", "3s"),
            ],
        ]
        .concat(),
    );
    let config = trusting(&folder.path().join("local/ca.pem"));
    let mut client = Client::connect(proxy.address, &config).handshake(&[(4, 0)]);
    for number in 0..4 {
        client.request(2 * number + 1, &frames::get("/"));
    }
    let refused = client
        .wait_for(|frame| matches!(frame.kind, RST_STREAM | GOAWAY) || frame.kind == HEADERS && frame.stream == 7);
    // REFUSED_STREAM (RFC 9113 §7): the request may be retried.
    let refused = refused.expect("the fourth stream is rejected");
    assert_eq!((refused.kind, refused.stream, refused.payload), (RST_STREAM, 7, vec![0, 0, 0, 7]));

    let mut half = connect(proxy.address);
    half.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
    assert!(ends(&mut half), "the incomplete handshake ends");
}
