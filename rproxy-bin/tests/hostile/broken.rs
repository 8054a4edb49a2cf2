//! Backends that break: each way gives the status of the contract, `Proxy-Status` (RFC 9209), one line of the log, and
//! leaves nothing behind.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::http1::SETTINGS;
use crate::report;
use crate::support::upstream::{ok, read_head, scripted};
use crate::support::{PATIENCE, Proxy, connect, free_port, get, read_answer, read_to_end, without_interim};

/// Long enough for a busy machine, short enough for a test.
const TIMEOUTS: [(&str, &str); 3] =
    [("RPROXY_UPSTREAM_TIMEOUT", "400ms"), ("RPROXY_UPSTREAM_READ_TIMEOUT", "400ms"), ("RPROXY_ACCESS_LOG", "text")];

/// What a backend does with one request, and what the client gets.
struct Way {
    name: &'static str,
    acts: fn(&mut TcpStream),
    gets: Gets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    /// This status, whole.
    Whole(u16),
    /// 200, and no end of the content.
    BrokenOff,
    /// An error of the proxy, in the words of RFC 9209.
    Error(u16, &'static str),
}

use Gets::{BrokenOff, Error, Whole};

const WAYS: &[Way] = &[
    Way { name: "closes", acts: |_| {}, gets: Error(502, "connection_terminated") },
    Way { name: "resets", acts: reset, gets: Error(502, "connection_terminated") },
    Way {
        name: "closes within the status line",
        acts: |stream| say(stream, "HTTP/1.1 2"),
        gets: Error(502, "connection_terminated"),
    },
    Way {
        name: "closes within the fields",
        acts: |stream| say(stream, "HTTP/1.1 200 OK\r\nContent-Le"),
        gets: Error(502, "connection_terminated"),
    },
    Way {
        name: "resets within the fields",
        acts: |stream| {
            say(stream, "HTTP/1.1 200 OK\r\nContent-Le");
            reset(stream);
        },
        gets: Error(502, "connection_terminated"),
    },
    Way {
        name: "half-closes without a response",
        acts: |stream| {
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut [0; 16]);
        },
        gets: Error(502, "connection_terminated"),
    },
    Way { name: "hangs", acts: hang, gets: Error(504, "http_response_timeout") },
    Way {
        name: "hangs within the fields",
        acts: |stream| {
            say(stream, "HTTP/1.1 200 OK\r\nContent-Le");
            hang(stream);
        },
        gets: Error(504, "http_response_timeout"),
    },
    Way {
        name: "sends its head byte by byte, endlessly",
        acts: |stream| drip(stream, "HTTP/1.1 200 OK\r\n", "X-A: b\r\n"),
        gets: Error(504, "http_response_timeout"),
    },
    Way {
        name: "sends a 1xx every 50 ms, endlessly",
        acts: |stream| {
            while stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        },
        gets: Error(504, "http_response_timeout"),
    },
    Way {
        name: "sends 1xx responses as fast as it can",
        acts: |stream| while stream.write_all(&b"HTTP/1.1 102 Processing\r\n\r\n".repeat(100)).is_ok() {},
        gets: Error(502, "http_protocol_error"),
    },
    Way {
        name: "sends endless header fields",
        acts: |stream| {
            say(stream, "HTTP/1.1 200 OK\r\n");
            while stream.write_all(&b"X-A: b\r\n".repeat(100)).is_ok() {}
        },
        gets: Error(502, "http_protocol_error"),
    },
    Way {
        name: "sends one endless header field",
        acts: |stream| {
            say(stream, "HTTP/1.1 200 OK\r\nX-A: ");
            while stream.write_all(&[b'a'; 10_000]).is_ok() {}
        },
        gets: Error(502, "http_protocol_error"),
    },
    Way {
        name: "sends garbage",
        acts: |stream| {
            let _ = stream.write_all(&[0xff; 100]);
            hang(stream);
        },
        gets: Error(502, "http_protocol_error"),
    },
    Way {
        name: "responds with a TLS alert",
        acts: |stream| {
            let _ = stream.write_all(b"\x15\x03\x01\x00\x02\x02\x0a");
            hang(stream);
        },
        gets: Error(502, "http_protocol_error"),
    },
    Way {
        name: "sends 101 to a request without `Upgrade`",
        acts: |stream| {
            say(stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
            hang(stream);
        },
        gets: Error(502, "http_protocol_error"),
    },
    Way {
        name: "sends two different `Content-Length` fields",
        acts: |stream| {
            say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab");
            hang(stream);
        },
        gets: Error(502, "http_protocol_error"),
    },
    Way { name: "closes before the end of `Content-Length`", acts: |stream| say(stream, LENGTH), gets: BrokenOff },
    Way {
        name: "resets before the end of `Content-Length`",
        acts: |stream| {
            say(stream, LENGTH);
            wait_a_little();
            reset(stream);
        },
        gets: BrokenOff,
    },
    Way {
        name: "hangs before the end of `Content-Length`",
        acts: |stream| {
            say(stream, LENGTH);
            hang(stream);
        },
        gets: BrokenOff,
    },
    Way { name: "closes before the last chunk", acts: |stream| say(stream, CHUNKED), gets: BrokenOff },
    Way {
        name: "resets before the last chunk",
        acts: |stream| {
            say(stream, CHUNKED);
            wait_a_little();
            reset(stream);
        },
        gets: BrokenOff,
    },
    Way {
        name: "hangs before the last chunk",
        acts: |stream| {
            say(stream, CHUNKED);
            hang(stream);
        },
        gets: BrokenOff,
    },
    Way {
        name: "sends a chunk without a size",
        acts: |stream| {
            say(stream, CHUNKED);
            say(stream, "x\r\n");
            hang(stream);
        },
        gets: BrokenOff,
    },
    Way {
        name: "resets a response that is delimited by close",
        acts: |stream| {
            say(stream, "HTTP/1.1 200 OK\r\n\r\nhello");
            wait_a_little();
            reset(stream);
        },
        gets: BrokenOff,
    },
    Way {
        name: "closes a response that is delimited by close",
        acts: |stream| say(stream, "HTTP/1.1 200 OK\r\n\r\nhello"),
        gets: Whole(200),
    },
    Way {
        name: "half-closes after the response",
        acts: |stream| {
            say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut [0; 16]);
        },
        gets: Whole(200),
    },
    Way {
        name: "sends more than `Content-Length`",
        acts: |stream| {
            say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, world");
            let _ = stream.read(&mut [0; 16]);
        },
        gets: Whole(200),
    },
    Way {
        name: "sends its content slowly",
        acts: |stream| {
            say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n");
            for _ in 0..20 {
                say(stream, "a");
                std::thread::sleep(Duration::from_millis(30));
            }
        },
        gets: Whole(200),
    },
];

const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";

fn say(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}

/// With RST.
fn reset(stream: &mut TcpStream) {
    let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
}

/// Until the other end has had enough.
fn hang(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 16]);
}

fn wait_a_little() {
    std::thread::sleep(Duration::from_millis(50));
}

fn drip(stream: &mut TcpStream, first: &str, then: &str) {
    say(stream, first);
    for byte in then.bytes().cycle() {
        if stream.write_all(&[byte]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_backend_that_breaks_costs_one_request_and_leaves_nothing() {
    // The target says the way.
    let backend = scripted(|mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let target = head.split(' ').nth(1).unwrap_or_default();
            match target.strip_prefix("/way-").and_then(|number| number.parse::<usize>().ok()) {
                Some(way) => return (WAYS[way % 1000].acts)(&mut stream),
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
        for (number, way) in WAYS.iter().enumerate() {
            // Each line of the log is told from others by it.
            let target = format!("/way-{}", round * 1000 + number);
            let gets = ask(proxy.address, &target);
            assert_eq!(gets.0, way.gets, "{}: {}", way.name, gets.1);
            let line = proxy.wait_for_output(&format!("{target} "));
            let is_told = match way.gets {
                Whole(_) => !line.contains("upstream_error") && !line.contains("aborted"),
                BrokenOff => line.contains("aborted") && line.contains("upstream_error=\""),
                Error(_, error) => line.contains(&format!("upstream_error=\"{error}")),
            };
            assert!(is_told, "{}: {line}", way.name);
            if round == 0 {
                outcomes.push((way.name, told(way.gets)));
            }
        }
    }
    let lines = proxy.outputs(" \"GET /way-").len();
    assert_eq!(lines, 3 * WAYS.len(), "one line each");
    assert_eq!(get(proxy.address, "/").body, "fine");
    comes_back_to(&proxy, before);
    report::broken(&outcomes);
}

fn told(gets: Gets) -> String {
    match gets {
        Whole(status) => format!("{status}"),
        BrokenOff => "200, aborted".to_owned(),
        Error(status, error) => format!("{status} `{error}`"),
    }
}

/// What a client gets, and all that it read.
fn ask(address: SocketAddr, target: &str) -> (Gets, String) {
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
    let gets = match field("proxy-status: ") {
        Some(proxy_status) => {
            let error = proxy_status.split("error=").nth(1).unwrap_or_default();
            let error = error.split(';').next().unwrap_or_default();
            let kinds = rproxy_upstream_errors();
            Error(status, kinds.into_iter().find(|kind| *kind == error).unwrap_or("another"))
        }
        None if is_whole => Whole(status),
        None => BrokenOff,
    };
    (gets, text)
}

fn rproxy_upstream_errors() -> Vec<&'static str> {
    rproxy_upstream::ProxyErrorKind::ALL.iter().map(|kind| kind.as_str()).collect()
}

fn descriptors(proxy: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap().count()
}

/// Returns the number of descriptors once it has not changed for 300 ms: workers open theirs after the first log line.
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

/// Waits until no more descriptors are open than `before`, when one connection to the backend was idle.
fn comes_back_to(proxy: &Proxy, before: usize) {
    let deadline = Instant::now() + PATIENCE;
    while descriptors(proxy) > before {
        assert!(Instant::now() < deadline, "{} descriptors, {before} before", descriptors(proxy));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_backend_that_can_not_be_reached_gets_502_or_504() {
    // Its queue is full: the kernel answers nothing.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let full = listener.local_addr().unwrap().as_socket().unwrap();
    let waiting: Vec<_> =
        (0..4).map_while(|_| TcpStream::connect_timeout(&full, Duration::from_millis(200)).ok()).collect();

    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    for (address, gets) in [(nobody, Error(502, "connection_refused")), (full, Error(504, "connection_timeout"))] {
        let settings = [&SETTINGS[..], &TIMEOUTS[..], &[("RPROXY_UPSTREAM_CONNECT_TIMEOUT", "300ms")]].concat();
        let proxy = Proxy::start(address, &settings);
        let before = descriptors_after_start(&proxy);
        let (got, text) = ask(proxy.address, "/");
        assert_eq!(got, gets, "{text}");
        let Error(_, error) = gets else { unreachable!() };
        proxy.wait_for_output(&format!("upstream_error=\"{error}"));
        proxy.wait_for_log(error);
        comes_back_to(&proxy, before);
    }
    drop(waiting);
}

#[test]
fn a_backend_that_does_not_take_what_it_is_sent_gets_an_end() {
    type Answer = fn(&mut TcpStream);
    let backends: [(Answer, Gets); 3] = [
        // Never reads.
        (hang, Error(504, "http_response_timeout")),
        (
            |stream| {
                let _ = stream.read_exact(&mut [0; 10_000]);
                reset(stream);
            },
            Error(502, "connection_terminated"),
        ),
        // Says no, and listens to the rest.
        (
            |stream| {
                say(stream, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
                let _ = std::io::copy(stream, &mut std::io::sink());
            },
            Whole(413),
        ),
    ];
    for (acts, gets) in backends {
        let backend = scripted(move |mut stream| {
            let head = read_head(&mut stream);
            if head.is_some_and(|head| head.contains("/upload")) && gets == Error(504, "http_response_timeout") {
                // What it does not take stays in the sockets' buffers.
                std::thread::sleep(Duration::from_secs(3));
            } else {
                acts(&mut stream);
            }
        });
        let proxy = Proxy::start(backend, &[&SETTINGS[..], &TIMEOUTS[..]].concat());
        let before = descriptors_after_start(&proxy);
        let mut stream = connect(proxy.address);
        let head = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut sending = stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || while sending.write_all(&[b'a'; 65_536]).is_ok() {});
        let answer = read_answer(&mut stream).expect("an answer");
        let (Error(status, _) | Whole(status)) = gets else { unreachable!() };
        assert_eq!(answer.status, status, "{}", answer.head);
        if let Error(_, error) = gets {
            assert!(answer.header("proxy-status").unwrap().contains(error), "{}", answer.head);
        }
        let _ = stream.shutdown(Shutdown::Both);
        sender.join().unwrap();
        drop(stream);
        comes_back_to(&proxy, before);
    }
}
