//! Tests of failing backends: each failure causes the documented status, `Proxy-Status` and one log line.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::http1::SETTINGS;
use crate::report;
use crate::support::upstream::{ok, read_head, scripted};
use crate::support::{Proxy, TIMEOUT, connect, free_port, get, read_response, read_to_end, without_interim};

/// Settings with timeouts that are short enough for a test and long enough for a busy machine.
const TIMEOUTS: [(&str, &str); 3] =
    [("RPROXY_UPSTREAM_TIMEOUT", "400ms"), ("RPROXY_UPSTREAM_READ_TIMEOUT", "400ms"), ("RPROXY_ACCESS_LOG", "text")];

/// A backend failure during one request, and the expected outcome for the client.
struct Failure {
    name: &'static str,
    act: fn(&mut TcpStream),
    expected: ClientOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientOutcome {
    /// A complete response with this status code.
    Whole(u16),
    /// A response with status 200 and a truncated body.
    Aborted,
    /// An error response of the proxy with this status code and error type (RFC 9209).
    Error(u16, &'static str),
}

use ClientOutcome::{Aborted, Error, Whole};

const FAILURES: &[Failure] = &[
    Failure { name: "closes", act: |_| {}, expected: Error(502, "connection_terminated") },
    Failure { name: "resets", act: reset, expected: Error(502, "connection_terminated") },
    Failure {
        name: "closes within the status line",
        act: |stream| send_text(stream, "HTTP/1.1 2"),
        expected: Error(502, "connection_terminated"),
    },
    Failure {
        name: "closes within the fields",
        act: |stream| send_text(stream, "HTTP/1.1 200 OK\r\nContent-Le"),
        expected: Error(502, "connection_terminated"),
    },
    Failure {
        name: "resets within the fields",
        act: |stream| {
            send_text(stream, "HTTP/1.1 200 OK\r\nContent-Le");
            reset(stream);
        },
        expected: Error(502, "connection_terminated"),
    },
    Failure {
        name: "half-closes without a response",
        act: |stream| {
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut [0; 16]);
        },
        expected: Error(502, "connection_terminated"),
    },
    Failure { name: "hangs", act: hang, expected: Error(504, "http_response_timeout") },
    Failure {
        name: "hangs within the fields",
        act: |stream| {
            send_text(stream, "HTTP/1.1 200 OK\r\nContent-Le");
            hang(stream);
        },
        expected: Error(504, "http_response_timeout"),
    },
    Failure {
        name: "sends its head byte by byte, endlessly",
        act: |stream| drip(stream, "HTTP/1.1 200 OK\r\n", "X-A: b\r\n"),
        expected: Error(504, "http_response_timeout"),
    },
    Failure {
        name: "sends a 1xx every 50 ms, endlessly",
        act: |stream| {
            while stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        },
        expected: Error(504, "http_response_timeout"),
    },
    Failure {
        name: "sends 1xx responses as fast as it can",
        act: |stream| while stream.write_all(&b"HTTP/1.1 102 Processing\r\n\r\n".repeat(100)).is_ok() {},
        expected: Error(502, "http_protocol_error"),
    },
    Failure {
        name: "sends endless header fields",
        act: |stream| {
            send_text(stream, "HTTP/1.1 200 OK\r\n");
            while stream.write_all(&b"X-A: b\r\n".repeat(100)).is_ok() {}
        },
        expected: Error(502, "http_protocol_error"),
    },
    Failure {
        name: "sends one endless header field",
        act: |stream| {
            send_text(stream, "HTTP/1.1 200 OK\r\nX-A: ");
            while stream.write_all(&[b'a'; 10_000]).is_ok() {}
        },
        expected: Error(502, "http_protocol_error"),
    },
    Failure {
        name: "sends garbage",
        act: |stream| {
            let _ = stream.write_all(&[0xff; 100]);
            hang(stream);
        },
        expected: Error(502, "http_protocol_error"),
    },
    Failure {
        name: "responds with a TLS alert",
        act: |stream| {
            let _ = stream.write_all(b"\x15\x03\x01\x00\x02\x02\x0a");
            hang(stream);
        },
        expected: Error(502, "http_protocol_error"),
    },
    Failure {
        name: "sends 101 to a request without `Upgrade`",
        act: |stream| {
            send_text(stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
            hang(stream);
        },
        expected: Error(502, "http_protocol_error"),
    },
    Failure {
        name: "sends two different `Content-Length` fields",
        act: |stream| {
            send_text(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab");
            hang(stream);
        },
        expected: Error(502, "http_protocol_error"),
    },
    Failure {
        name: "closes before the end of `Content-Length`",
        act: |stream| send_text(stream, LENGTH),
        expected: Aborted,
    },
    Failure {
        name: "resets before the end of `Content-Length`",
        act: |stream| {
            send_text(stream, LENGTH);
            wait_a_little();
            reset(stream);
        },
        expected: Aborted,
    },
    Failure {
        name: "hangs before the end of `Content-Length`",
        act: |stream| {
            send_text(stream, LENGTH);
            hang(stream);
        },
        expected: Aborted,
    },
    Failure { name: "closes before the last chunk", act: |stream| send_text(stream, CHUNKED), expected: Aborted },
    Failure {
        name: "resets before the last chunk",
        act: |stream| {
            send_text(stream, CHUNKED);
            wait_a_little();
            reset(stream);
        },
        expected: Aborted,
    },
    Failure {
        name: "hangs before the last chunk",
        act: |stream| {
            send_text(stream, CHUNKED);
            hang(stream);
        },
        expected: Aborted,
    },
    Failure {
        name: "sends a chunk without a size",
        act: |stream| {
            send_text(stream, CHUNKED);
            send_text(stream, "x\r\n");
            hang(stream);
        },
        expected: Aborted,
    },
    Failure {
        name: "resets a response that is delimited by close",
        act: |stream| {
            send_text(stream, "HTTP/1.1 200 OK\r\n\r\nhello");
            wait_a_little();
            reset(stream);
        },
        expected: Aborted,
    },
    Failure {
        name: "closes a response that is delimited by close",
        act: |stream| send_text(stream, "HTTP/1.1 200 OK\r\n\r\nhello"),
        expected: Whole(200),
    },
    Failure {
        name: "half-closes after the response",
        act: |stream| {
            send_text(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut [0; 16]);
        },
        expected: Whole(200),
    },
    Failure {
        name: "sends more than `Content-Length`",
        act: |stream| {
            send_text(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, world");
            let _ = stream.read(&mut [0; 16]);
        },
        expected: Whole(200),
    },
    Failure {
        name: "sends its content slowly",
        act: |stream| {
            send_text(stream, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n");
            for _ in 0..20 {
                send_text(stream, "a");
                std::thread::sleep(Duration::from_millis(30));
            }
        },
        expected: Whole(200),
    },
];

const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";

fn send_text(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}

/// Resets the TCP connection instead of closing it.
fn reset(stream: &mut TcpStream) {
    let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
}

/// Sends nothing, and waits until the peer closes the connection.
fn hang(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 16]);
}

fn wait_a_little() {
    std::thread::sleep(Duration::from_millis(50));
}

fn drip(stream: &mut TcpStream, first: &str, then: &str) {
    send_text(stream, first);
    for byte in then.bytes().cycle() {
        if stream.write_all(&[byte]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn backend_failure_fails_one_request_and_leaks_no_file_descriptor() {
    // The target selects the failure.
    let backend = scripted(|mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let target = head.split(' ').nth(1).unwrap_or_default();
            match target.strip_prefix("/failure-").and_then(|number| number.parse::<usize>().ok()) {
                Some(failure) => return (FAILURES[failure % 1000].act)(&mut stream),
                None if stream.write_all(ok("fine").as_bytes()).is_err() => return,
                None => {}
            }
        }
    });
    let proxy = Proxy::start(backend, &[&SETTINGS[..], &TIMEOUTS[..]].concat());
    assert_eq!(get(proxy.address, "/").body, "fine");
    let before = descriptors_after_start(&proxy);
    let mut outcomes = Vec::new();
    for round in 0..3 {
        for (number, failure) in FAILURES.iter().enumerate() {
            // The target identifies the log line of the request.
            let target = format!("/failure-{}", round * 1000 + number);
            let expected = request_outcome(proxy.address, &target);
            assert_eq!(expected.0, failure.expected, "{}: {}", failure.name, expected.1);
            let line = proxy.wait_for_output(&format!("{target} "));
            let is_logged = match failure.expected {
                Whole(_) => !line.contains("upstream_error") && !line.contains("aborted"),
                Aborted => line.contains("aborted") && line.contains("upstream_error=\""),
                Error(_, error) => line.contains(&format!("upstream_error=\"{error}")),
            };
            assert!(is_logged, "{}: {line}", failure.name);
            if round == 0 {
                outcomes.push((failure.name, describe(failure.expected)));
            }
        }
    }
    let lines = proxy.outputs(" \"GET /failure-").len();
    assert_eq!(lines, 3 * FAILURES.len(), "one line each");
    assert_eq!(get(proxy.address, "/").body, "fine");
    assert_descriptors_return_to(&proxy, before);
    report::broken(&outcomes);
}

fn describe(expected: ClientOutcome) -> String {
    match expected {
        Whole(status) => format!("{status}"),
        Aborted => "200, aborted".to_owned(),
        Error(status, error) => format!("{status} `{error}`"),
    }
}

/// Sends a request, and returns the outcome and the received bytes.
fn request_outcome(address: SocketAddr, target: &str) -> (ClientOutcome, String) {
    let mut stream = connect(address);
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let text = without_interim(&read_to_end(&mut stream)).to_owned();
    let head = text.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = &text[(head.len() + 4).min(text.len())..];
    let is_whole = match field("content-length: ") {
        Some(length) => length.parse() == Ok(body.len()),
        None => body.ends_with("0\r\n\r\n"),
    };
    let expected = match field("proxy-status: ") {
        Some(proxy_status) => {
            let error = proxy_status.split("error=").nth(1).unwrap_or_default();
            let error = error.split(';').next().unwrap_or_default();
            let kinds = rproxy_upstream_errors();
            Error(status, kinds.into_iter().find(|kind| *kind == error).unwrap_or("another"))
        }
        None if is_whole => Whole(status),
        None => Aborted,
    };
    (expected, text)
}

fn rproxy_upstream_errors() -> Vec<&'static str> {
    rproxy_upstream::ProxyErrorKind::ALL.iter().map(|kind| kind.as_str()).collect()
}

fn descriptors(proxy: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap().count()
}

/// Returns the number of open file descriptors after startup, once it has been stable for 300 ms.
///
/// Workers open some descriptors only after the process has started.
fn descriptors_after_start(proxy: &Proxy) -> usize {
    let (mut before, mut since) = (descriptors(proxy), Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        std::thread::sleep(Duration::from_millis(10));
        let now = descriptors(proxy);
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
    before
}

/// Waits until at most `before` descriptors are open.
fn assert_descriptors_return_to(proxy: &Proxy, before: usize) {
    let deadline = Instant::now() + TIMEOUT;
    while descriptors(proxy) > before {
        assert!(Instant::now() < deadline, "{} descriptors, {before} before", descriptors(proxy));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn unreachable_backend_causes_502_or_504() {
    // The accept queue is full: the kernel does not respond.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let full = listener.local_addr().unwrap().as_socket().unwrap();
    let waiting: Vec<_> =
        (0..4).map_while(|_| TcpStream::connect_timeout(&full, Duration::from_millis(200)).ok()).collect();

    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    for (address, status, error) in [(nobody, 502, "connection_refused"), (full, 504, "connection_timeout")] {
        let settings = [&SETTINGS[..], &TIMEOUTS[..], &[("RPROXY_UPSTREAM_CONNECT_TIMEOUT", "300ms")]].concat();
        let proxy = Proxy::start(address, &settings);
        let before = descriptors_after_start(&proxy);
        let (got, text) = request_outcome(proxy.address, "/");
        assert_eq!(got, Error(status, error), "{text}");
        proxy.wait_for_output(&format!("upstream_error=\"{error}"));
        proxy.wait_for_log(error);
        assert_descriptors_return_to(&proxy, before);
    }
    drop(waiting);
}

#[test]
fn upload_ends_if_the_backend_stops_reading() {
    type Response = fn(&mut TcpStream);
    let backends: [(Response, ClientOutcome); 3] = [
        // Never reads.
        (hang, Error(504, "http_response_timeout")),
        (
            |stream| {
                let _ = stream.read_exact(&mut [0; 10_000]);
                reset(stream);
            },
            Error(502, "connection_terminated"),
        ),
        // Rejects the request and reads the rest.
        (
            |stream| {
                send_text(stream, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
                let _ = std::io::copy(stream, &mut std::io::sink());
            },
            Whole(413),
        ),
    ];
    for (act, expected) in backends {
        let backend = scripted(move |mut stream| {
            let head = read_head(&mut stream);
            if head.is_some_and(|head| head.contains("/upload")) && expected == Error(504, "http_response_timeout") {
                // The unread bytes stay in the buffers of the sockets.
                std::thread::sleep(Duration::from_secs(3));
            } else {
                act(&mut stream);
            }
        });
        let proxy = Proxy::start(backend, &[&SETTINGS[..], &TIMEOUTS[..]].concat());
        let before = descriptors_after_start(&proxy);
        let mut stream = connect(proxy.address);
        let head = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut sending = stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || while sending.write_all(&[b'a'; 65_536]).is_ok() {});
        let response = read_response(&mut stream).expect("a response");
        let (Error(status, _) | Whole(status)) = expected else { unreachable!() };
        assert_eq!(response.status, status, "{}", response.head);
        if let Error(_, error) = expected {
            assert!(response.header("proxy-status").unwrap().contains(error), "{}", response.head);
        }
        let _ = stream.shutdown(Shutdown::Both);
        sender.join().unwrap();
        drop(stream);
        assert_descriptors_return_to(&proxy, before);
    }
}
