//! Tests of HTTP/2 floods: memory use stays below the documented maximum, and each client is soon disconnected.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rproxy::Config;

use crate::frames::{self, CONTINUATION, Client, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM};
use crate::http1::SETTINGS;
use crate::limits::{endless, grown, resident};
use crate::support::upstream::{ok, read_head, responding, scripted};
use crate::support::{Proxy, TIMEOUT, connect, exchange, get};

// RFC 9113 §7.
const ENHANCE_YOUR_CALM: u32 = 11;

/// Starts a proxy that accepts HTTP/2 without TLS (h2c).
fn proxy(backend: SocketAddr, settings: &[(&str, &str)]) -> Proxy {
    Proxy::start(backend, &[&SETTINGS[..5], settings].concat())
}

/// Starts a backend that reads requests and never responds.
fn silent() -> SocketAddr {
    scripted(|mut stream| {
        let _ = read_head(&mut stream);
        std::thread::sleep(Duration::from_secs(60));
    })
}

/// Encodes a literal field with incremental indexing (RFC 7541 §6.2.1).
fn indexed_literal(name: &str, value: &str) -> Vec<u8> {
    let mut field = frames::field(name, value);
    field[0] = 0x40;
    field
}

/// The index of the newest entry of the dynamic table (RFC 7541 §6.1, §2.3.3).
const NEWEST: u8 = 0x80 | 62;

/// Tests CVE-2026-49975: a field of 4,000 bytes that is sent once and then repeated with one byte per copy.
#[test]
fn hpack_bombs_stay_within_the_documented_memory() {
    let limits = Config::default().limits.limits();
    let streams = limits.concurrent_streams as usize;
    let proxy = proxy(silent(), &[]);
    let before = resident(&proxy);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect_plaintext(proxy.address).handshake(&[])).collect();
    for client in &mut clients {
        let bomb = indexed_literal("x-bomb", &"b".repeat(4000));
        client.request(1, &[frames::get("/"), bomb].concat());
        for number in 1..limits.concurrent_streams {
            client.request(2 * number + 1, &[frames::get("/"), vec![NEWEST; 7]].concat());
        }
    }
    let each = grown(&proxy, before) / clients.len();
    let worst = limits.worst_case_memory();
    let most = worst.http2 + streams * (worst.stream + rproxy_upstream::MAX_EXCHANGE_SIZE);
    eprintln!("{} KiB each connection", each / 1024);
    assert!(each < most, "{each} bytes each, {most} at most");
}

#[test]
fn hpack_bomb_over_the_limit_ends_the_connection() {
    let proxy = proxy(responding(|_| ok("served")), &[]);
    let before = resident(&proxy);
    let began = Instant::now();
    for _ in 0..20 {
        let mut client = Client::connect_plaintext(proxy.address).handshake(&[]);
        client.request(1, &[frames::get("/"), indexed_literal("x-bomb", &"b".repeat(4000))].concat());
        // 64 MB, in a frame of 16 KiB.
        client.request(3, &[frames::get("/"), vec![NEWEST; 16_000]].concat());
        assert_eq!(client.wait_for_goaway(), Some(ENHANCE_YOUR_CALM));
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let more = grown(&proxy, before);
    assert!(more < 16 << 20, "{more} bytes");
    assert_eq!(get(proxy.address, "/").body, "served");
}

#[test]
fn continuation_floods_end_the_connection() {
    let proxy = proxy(responding(|_| ok("served")), &[]);
    let before = resident(&proxy);
    for piece in [vec![], frames::field("x", "y"), vec![b'a'; 16_000], frames::field("x", &"y".repeat(16_000))] {
        let mut client = Client::connect_plaintext(proxy.address).handshake(&[]);
        client.send(&Frame::new(HEADERS, END_STREAM, 1, frames::get("/")).bytes());
        let began = Instant::now();
        assert!(client.flood(&Frame::new(CONTINUATION, 0, 1, piece).bytes(), 2000));
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    let more = grown(&proxy, before);
    assert!(more < 16 << 20, "{more} bytes");
}

#[test]
fn http2_streams_with_closed_windows_stay_within_documented_memory_and_time_out() {
    let limits = Config::default().limits.limits();
    let streams = limits.concurrent_streams as usize;
    let proxy = proxy(endless(), &[("RPROXY_SEND_TIMEOUT", "3s")]);
    let before = resident(&proxy);
    for window in [0, 1] {
        let mut clients: Vec<Client> =
            (0..4).map(|_| Client::connect_plaintext(proxy.address).handshake(&[(4, window)])).collect();
        for client in &mut clients {
            for number in 0..limits.concurrent_streams {
                client.request(2 * number + 1, &frames::get("/"));
            }
        }
        let each = grown(&proxy, before) / clients.len();
        let worst = limits.worst_case_memory();
        let most = worst.http2 + streams * (worst.stream + rproxy_upstream::MAX_EXCHANGE_SIZE);
        assert!(each < most, "{each} bytes each, {most} at most");
        for client in &mut clients {
            let mut reset = 0;
            while reset < limits.concurrent_streams {
                let frame = client.wait_for(|frame| matches!(frame.kind, RST_STREAM | GOAWAY)).expect("a reset");
                assert_eq!(frame.kind, RST_STREAM);
                reset += 1;
            }
            // The connection stays open.
            client.request(1001, &frames::get("/"));
            assert!(client.wait_for(|frame| frame.kind == HEADERS && frame.stream == 1001).is_some());
        }
    }
}

#[test]
fn rejected_http2_heads_are_logged_counted_and_rate_limited() {
    let settings = [
        ("RPROXY_WORKERS", "1"),
        ("RPROXY_ACCESS_LOG", "json"),
        ("RPROXY_ADMIN_LISTEN", "127.0.0.1:0"),
        ("RPROXY_RATE_LIMIT", "1"),
        ("RPROXY_RATE_BURST", "10"),
        ("RPROXY_RATE_EXEMPT_PATHS", "/exempt"),
    ];
    let proxy = Proxy::start(responding(|_| ok("served")), &settings);
    let mut client = Client::connect_plaintext(proxy.address).handshake(&[]);
    // RFC 9113 §8.2.2: the stream is reset. A head of 3,500 fields gets 431, both by h2 alone.
    let malformed = [frames::get("/"), frames::field("connection", "close")].concat();
    let large = [frames::get("/"), frames::literal(b"a", b"").repeat(2000)].concat();
    let mut stream = 1;
    for (head, reason, status) in [(malformed, "malformed", 400), (large, "head_too_large", 431)] {
        for count in 1..=4 {
            client.request(stream, &head);
            stream += 2;
            let line = || proxy.outputs(&format!("\"refused\":\"{reason}\""));
            let deadline = Instant::now() + Duration::from_secs(10);
            while line().len() < count && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            assert_eq!(line().len(), count, "{reason}");
            assert!(line()[0].contains(&format!("\"status\":{status}")), "{}", line()[0]);
        }
        let send = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let metrics = exchange(proxy.address_of("admin"), send);
        let series = format!("rproxy_refused_requests_total{{reason=\"{reason}\"}} 4");
        assert!(metrics.contains(&series), "{metrics}");
    }
    // Eight of ten requests are used up, and over HTTP/1.1 it is the same client.
    let rejected = b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n";
    let statuses: Vec<String> = (0..10).map(|_| exchange(proxy.address, rejected)[9..12].to_owned()).collect();
    assert!(statuses.iter().filter(|status| *status == "400").count() <= 4, "{statuses:?}");
    assert_eq!(statuses.last().map(String::as_str), Some("429"));
    assert_eq!(get(proxy.address, "/").status, 429);
    assert_eq!(get(proxy.address, "/exempt").status, 200);
}

#[test]
fn many_rejected_requests_end_the_http2_connection_of_untrusted_clients() {
    for (trusted, ends) in [("", true), ("127.0.0.1", false)] {
        let settings = [("RPROXY_TRUSTED_PROXIES", trusted)];
        let proxy = proxy(responding(|_| ok("served")), if trusted.is_empty() { &[] } else { &settings });
        let mut client = Client::connect_plaintext(proxy.address).handshake(&[]);
        let head = [frames::get("/"), frames::field("host", "another.example")].concat();
        let mut goaway = None;
        for number in 0..300 {
            client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, head.clone()).bytes());
            let response = client.wait_for(|frame| matches!(frame.kind, HEADERS | GOAWAY)).expect("a response");
            if response.kind == GOAWAY {
                goaway = Some(response.payload[4..8].to_vec());
                break;
            }
        }
        assert_eq!(goaway, ends.then(|| ENHANCE_YOUR_CALM.to_be_bytes().to_vec()), "{trusted}");
    }
}

#[test]
fn h2c_can_be_disabled_and_upgrade_h2c_is_ignored() {
    let served = || responding(|_| ok("served"));
    let upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n\
                    HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n";
    for (h2c, response) in [("true", None), ("false", Some("HTTP/1.1 400 "))] {
        let proxy = proxy(served(), &[("RPROXY_H2C", h2c)]);
        assert!(exchange(proxy.address, upgrade).starts_with("HTTP/1.1 200 "));
        match response {
            Some(response) => assert!(exchange(proxy.address, frames::PREFACE).starts_with(response)),
            None => {
                let mut client = Client::connect_plaintext(proxy.address).handshake(&[]);
                client.request(1, &frames::get("/"));
                let response = client.wait_for(|frame| frame.kind == HEADERS).unwrap();
                assert_eq!(frames::status(&response.payload), "200");
            }
        }
    }
    // The preface follows a PROXY protocol header.
    let settings = [("RPROXY_PROXY_PROTOCOL", "v1"), ("RPROXY_TRUSTED_PROXIES", "127.0.0.1")];
    let proxy = proxy(responding(ok), &settings);
    let mut socket = connect(proxy.address);
    socket.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n").unwrap();
    let mut client = Client::over(socket).handshake(&[]);
    client.request(1, &frames::get("/"));
    let body = client.wait_for(|frame| frame.kind == frames::DATA).unwrap();
    let head = String::from_utf8(body.payload).unwrap().to_ascii_lowercase();
    assert!(head.contains("x-forwarded-for: 192.0.2.1\r\n"), "{head}");
    assert!(head.contains("x-forwarded-proto: http\r\n"), "{head}");
}

#[test]
fn reset_upload_never_looks_complete_to_the_backend() {
    let (seen, uploads) = std::sync::mpsc::channel();
    let backend = scripted(move |mut stream| {
        let mut bytes = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut bytes);
        let _ = seen.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    let proxy = proxy(backend, &[]);
    let fields = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", "/upload")];
    for code in [0_u32, 2, 5, 8] {
        for length in [None, Some("100")] {
            let mut head: Vec<u8> = fields.iter().flat_map(|(name, value)| frames::field(name, value)).collect();
            head.extend(length.iter().flat_map(|length| frames::field("content-length", length)));
            let mut client = Client::connect_plaintext(proxy.address).handshake(&[]);
            client.head(1, &head, false);
            client.send(&Frame::new(frames::DATA, 0, 1, b"first half".to_vec()).bytes());
            client.send(&Frame::new(RST_STREAM, 0, 1, code.to_be_bytes().to_vec()).bytes());
            // A request that is reset before anything of it was sent may not reach the backend at all.
            if let Ok(upload) = uploads.recv_timeout(Duration::from_secs(2)) {
                assert!(!upload.ends_with("\r\n0\r\n\r\n"), "code {code}: {upload}");
            }
        }
    }
}

#[test]
fn stream_reset_cancels_the_upstream_request() {
    let (events, seen) = std::sync::mpsc::channel();
    let backend = scripted(move |mut stream| {
        if read_head(&mut stream).is_some() {
            let _ = events.send("request");
            let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
            let _ = events.send("gone");
        }
    });
    let proxy = proxy(backend, &[]);
    let head = |method| [(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", "/")];
    let connect = [&head("CONNECT")[..], &[(":protocol", "websocket"), ("sec-websocket-version", "13")]].concat();
    for (head, is_end) in [(&head("GET")[..], true), (&head("POST")[..], false), (&connect[..], false)] {
        let head: Vec<u8> = head.iter().flat_map(|(name, value)| frames::field(name, value)).collect();
        for code in [Some(0_u32), Some(8), None] {
            let mut client = Client::connect_plaintext(proxy.address).handshake(&[]);
            client.head(1, &head, is_end);
            assert_eq!(seen.recv_timeout(TIMEOUT), Ok("request"));
            let began = Instant::now();
            match code {
                Some(code) => client.send(&Frame::new(RST_STREAM, 0, 1, code.to_be_bytes().to_vec()).bytes()),
                None => drop(client),
            }
            assert_eq!(seen.recv_timeout(TIMEOUT), Ok("gone"));
            assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        }
    }
}
