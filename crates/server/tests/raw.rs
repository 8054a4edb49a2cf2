//! What the server makes of bytes on a socket.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::convert::Infallible;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use rproxy_client_ip::PeerAddr;
use rproxy_server::{Limits, ProxyVersions, RequestGuardLayer, Running, Server};
use tower::{Layer, service_fn};

/// Answers with method, target, host and body; reads the body only where the target does not say `/ignore`.
fn start(server: impl FnOnce(Server) -> Server, guard: RequestGuardLayer) -> Running {
    let server = server(Server::bind("127.0.0.1:0".parse().unwrap()).workers(1));
    server
        .start(move |_| {
            guard.layer(service_fn(async |request: Request<rproxy_server::GuardBody<rproxy_server::RequestBody>>| {
                let (head, body) = request.into_parts();
                let host = head.headers.get("host").map_or("-", |host| host.to_str().unwrap_or("?")).to_owned();
                let peer = head.extensions.get::<PeerAddr>().expect("the server's part").0;
                let mut text = format!("{} {} {host} {}", head.method, head.uri, peer.ip());
                if head.uri.path() != "/ignore" {
                    match body.collect().await {
                        Ok(body) => text.push_str(&format!(" {}", body.to_bytes().escape_ascii())),
                        Err(error) => text.push_str(&error.to_string()),
                    }
                }
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
            }))
        })
        .unwrap()
}

fn default() -> Running {
    start(|server| server, RequestGuardLayer::new().max_body(Some(1000)))
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends, and reads until the server closes.
fn exchange(server: &Running, bytes: &[u8]) -> String {
    let mut stream = connect(server.local_addr().unwrap());
    stream.write_all(bytes).unwrap();
    read_to_end(&mut stream)
}

fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error} after {}", answer.escape_ascii()),
    }
    String::from_utf8(answer).unwrap()
}

/// Reads one response with a `Content-Length`.
fn read_response(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a whole response");
        answer.push(byte[0]);
        if answer.ends_with(b"\r\n\r\n") {
            let head = String::from_utf8(answer.clone()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            return head + &String::from_utf8(body).unwrap();
        }
    }
}

#[test]
fn bad_requests_get_their_status_and_the_connection_ends() {
    let server = default();
    let long = "a".repeat(40_000);
    for (request, status) in [
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n".to_owned(),
            400,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n".to_owned(), 400),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_owned(), 405),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned(), 501),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200)), 431),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n{long}"), 413),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9c40\r\n{long}\r\n0\r\n\r\n"), 413),
    ] {
        let answer = exchange(&server, request.as_bytes());
        let shown = &request[..request.len().min(120)];
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer:?}");
        assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{shown:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shown:?}: {answer:?}");
    }
    // It goes on serving others.
    let answer = exchange(&server, b"GET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.ends_with("GET /ok a 127.0.0.1 "), "{answer}");
}

#[test]
fn heads_and_bodies_arrive_in_any_pieces() {
    let server = default();
    let bytes = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
        POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nde\
        GET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for piece in [1, 7, 50, bytes.len()] {
        let mut stream = connect(server.local_addr().unwrap());
        stream.set_nodelay(true).unwrap();
        for piece in bytes.chunks(piece) {
            stream.write_all(piece).unwrap();
        }
        let answer = read_to_end(&mut stream);
        for expected in ["POST /a a 127.0.0.1 abc", "POST /b a 127.0.0.1 de", "GET /c a 127.0.0.1 "] {
            assert!(answer.contains(expected), "{piece}: {answer}");
        }
    }
}

/// hyper answers a head that it can't parse by itself: no service, no log and no metric learns of it.
#[test]
fn each_rejected_head_reaches_the_service() {
    let server = default();
    let (long, scheme) = ("A".repeat(300), "a".repeat(100));
    let fields = "a: b\r\n".repeat(100);
    for line in [
        "GET http://[::1/",
        "GET http://a:1:2/",
        "GET http://@/",
        "GET http://a%zz/",
        "GET http://<a>/",
        "GET ://a/",
        "GET a",
        "GET ?a",
        "GET **",
        "GET \"",
        "CONNECT /a",
        &format!("GET {scheme}://a/"),
        &format!("{long} a"),
        &format!("GET / HTTP/1.1\r\n{fields}a: b\r\nx: GET /"),
    ] {
        for version in ["1.0", "1.1"] {
            let answer = exchange(&server, format!("{line} HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes());
            // The guard's own response has a text.
            assert!(answer.contains("\r\ncontent-type: text/plain"), "{line} HTTP/{version}: {answer:?}");
        }
    }
}

#[test]
fn targets_are_percent_encoded_where_a_uri_cannot_hold_them() {
    let server = default();
    for (target, seen) in [
        (&b"/a?q=\"x\""[..], "/a?q=%22x%22"),
        (b"/\"a\"{b}|^\\", "/\"a\"{b}|^\\"),
        (b"/<a>?<b>", "/%3Ca%3E?%3Cb%3E"),
        (b"/`a`", "/%60a%60"),
        (b"/\xc3\xa9?\xff", "/%C3%A9?%FF"),
        (b"http://a/<b>", "/%3Cb%3E"),
    ] {
        for (method, content) in [("GET", ""), ("POST", "Content-Length: 2\r\n")] {
            let head = format!(" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{content}\r\nok");
            let request =
                [method.as_bytes(), b" ", target, &head.as_bytes()[..head.len() - 2 * usize::from(content.is_empty())]];
            let answer = exchange(&server, &request.concat());
            assert!(answer.contains(&format!("\r\n\r\n{method} {seen} a ")), "{}: {answer:?}", target.escape_ascii());
        }
    }
    // The limit is one of the target as it is forwarded.
    let long = [b"GET /", "<".repeat(4000).as_bytes(), b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    assert!(exchange(&server, &long).starts_with("HTTP/1.1 414 "));
}

// RFC 9110 §2.5, RFC 9112 §9.3
#[test]
fn clients_of_http_1_0_get_our_version_and_keep_their_connection_if_they_ask() {
    let server = default();
    for (method, content) in [("GET", ""), ("POST", "Content-Length: 2\r\n")] {
        let body = if content.is_empty() { "" } else { "ok" };
        let answer = exchange(&server, format!("{method} /a HTTP/1.0\r\n{content}\r\n{body}").as_bytes());
        let answer = answer.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 200 ok\r\n") && answer.contains("connection: close\r\n"), "{answer:?}");

        let asks = format!("{method} /a HTTP/1.0\r\nConnection: Keep-Alive\r\n{content}\r\n{body}");
        let mut stream = connect(server.local_addr().unwrap());
        for _ in 0..3 {
            stream.write_all(asks.as_bytes()).unwrap();
            let answer = read_response(&mut stream).to_ascii_lowercase();
            assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer:?}");
            assert!(answer.contains("\r\nconnection: keep-alive\r\n"), "{answer:?}");
        }
    }
}

// RFC 9110 §7.8
#[test]
fn an_upgrade_that_connection_does_not_name_is_an_ordinary_request() {
    let server = default();
    let answer = exchange(
        &server,
        b"GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n\
          POST /b HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok\
          GET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    for expected in ["GET /a a 127.0.0.1 ", "POST /b a 127.0.0.1 ok", "GET /c a 127.0.0.1 "] {
        assert!(answer.contains(expected), "{answer}");
    }
}

#[test]
fn a_refused_head_behind_good_ones_is_refused_alone() {
    let server = default();
    let answer = exchange(
        &server,
        b"GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\nGET /three HTTP/1.1\nHost: a\r\n\r\n",
    );
    assert!(answer.contains("GET /one") && answer.contains("GET /two"), "{answer}");
    assert!(answer.contains("HTTP/1.1 400 ") && !answer.contains("refused.invalid"), "{answer}");
}

#[test]
fn a_declined_upgrade_leaves_the_connection_in_use() {
    let server = default();
    let mut stream = connect(server.local_addr().unwrap());
    stream.write_all(b"GET /before HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(read_response(&mut stream).ends_with("GET /before a 127.0.0.1 "));
    stream.write_all(b"GET /up HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").unwrap();
    assert!(read_response(&mut stream).ends_with("GET /up a 127.0.0.1 "));
    stream.write_all(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(read_response(&mut stream).ends_with("GET /next a 127.0.0.1 "));
}

#[test]
fn a_slow_head_gets_408_and_an_idle_connection_ends_in_silence() {
    let mut limits = Limits::default();
    limits.head_timeout = Duration::from_millis(200);
    limits.idle_timeout = Duration::from_millis(400);
    let server = start(|server| server.limits(limits), RequestGuardLayer::new());
    let answer = exchange(&server, b"GET / HTTP/1.1\r\nHost: a\r\nX:");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");

    let mut stream = connect(server.local_addr().unwrap());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let began = Instant::now();
    assert_eq!(read_to_end(&mut stream).matches("HTTP/1.1 ").count(), 1);
    assert!(began.elapsed() > Duration::from_millis(200));
}

#[test]
fn after_so_many_requests_a_connection_closes() {
    let mut limits = Limits::default();
    limits.requests = std::num::NonZeroU64::new(3);
    let server = start(|server| server.limits(limits), RequestGuardLayer::new());
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    // Whoever answers them, hyper or we ourselves.
    for requests in [[get; 4], [post; 4], [get, post, get, post], [post, get, post, get]] {
        let mut stream = connect(server.local_addr().unwrap());
        let answers = requests.map(|request| {
            let _ = stream.write_all(request.as_bytes());
            let mut answer = [0; 4096];
            let read = stream.read(&mut answer).unwrap_or(0);
            String::from_utf8_lossy(&answer[..read]).to_ascii_lowercase()
        });
        let closes = answers.each_ref().map(|answer| answer.contains("connection: close"));
        assert_eq!(closes, [false, false, true, false], "{answers:?}");
        assert_eq!(answers[3], "");
    }
}

#[test]
fn a_client_has_so_many_connections_and_no_more() {
    let mut limits = Limits::default();
    limits.connections_per_client = 2;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let is_served = |stream: &mut TcpStream| {
        let _ = stream.write_all(request);
        stream.read(&mut [0; 1024]).unwrap_or(0) > 0
    };
    let server = start(|server| server.limits(limits.clone()), RequestGuardLayer::new());
    let mut open: Vec<_> = (0..3).map(|_| connect(server.local_addr().unwrap())).collect();
    let served: Vec<_> = open.iter_mut().map(is_served).collect();
    assert_eq!(served, [true, true, false]);
    open.remove(0);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_served(&mut connect(server.local_addr().unwrap())) {
        assert!(Instant::now() < deadline, "the place is not given back");
    }

    let proxies = "loopback".parse().unwrap();
    let server = start(|server| server.limits(limits).uncounted(proxies), RequestGuardLayer::new());
    let mut open: Vec<_> = (0..3).map(|_| connect(server.local_addr().unwrap())).collect();
    assert!(open.iter_mut().all(is_served), "a proxy is not counted");
}

#[test]
fn connections_beyond_all_that_there_may_be_wait_for_a_place() {
    let mut limits = Limits::default();
    limits.connections = 2;
    let server = start(|server| server.limits(limits), RequestGuardLayer::new());
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut open: Vec<_> = (0..3).map(|_| connect(server.local_addr().unwrap())).collect();
    for stream in &mut open {
        stream.write_all(request).unwrap();
    }
    let mut last = open.pop().unwrap();
    for stream in &mut open {
        assert!(read_response(stream).starts_with("HTTP/1.1 200 "));
    }
    last.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let waits = last.read(&mut [0]).unwrap_err();
    assert!(matches!(waits.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{waits}");
    open.pop();
    last.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(read_response(&mut last).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_client_that_takes_nothing_is_given_up() {
    let mut limits = Limits::default();
    limits.send_timeout = Duration::from_millis(500);
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).workers(1).limits(limits);
    let large = Bytes::from(vec![b'x'; 32 << 20]);
    let answer = service_fn(move |_: Request<rproxy_server::RequestBody>| {
        let response = Response::new(Full::new(large.clone()));
        async { Ok::<_, Infallible>(response) }
    });
    let server = server.start(move |_| answer.clone()).unwrap();
    let mut stream = connect(server.local_addr().unwrap());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.handle().connections() > 0 {
        assert!(Instant::now() < deadline, "still held");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_slow_body_gets_408() {
    let server = start(|server| server, RequestGuardLayer::new().body_timeout(Duration::from_millis(100)));
    let answer = exchange(&server, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
}

#[test]
fn an_expected_continue_is_sent() {
    let server = default();
    let mut stream = connect(server.local_addr().unwrap());
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n").unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(interim.escape_ascii().to_string(), r"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").unwrap();
    assert!(read_response(&mut stream).ends_with(" ok"));
}

#[test]
fn the_peer_is_who_a_trusted_balancer_says() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let v1 = format!("PROXY TCP4 192.0.2.9 10.0.0.1 1 2\r\n{request}").into_bytes();
    let v2 = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\x0a\0\0\x01\0\x01\0\x02", request.as_bytes()].concat();
    for (versions, accepted) in
        [(ProxyVersions::V1, [true, false]), (ProxyVersions::V2, [false, true]), (ProxyVersions::Any, [true, true])]
    {
        let trusted = "loopback".parse().unwrap();
        let server = start(|server| server.proxy_protocol(trusted, versions), RequestGuardLayer::new());
        for (header, accepted) in [&v1, &v2].into_iter().zip(accepted) {
            let answer = exchange(&server, header);
            assert_eq!(answer.ends_with("GET / a 192.0.2.9 "), accepted, "{versions:?}: {answer}");
            assert_eq!(answer.is_empty(), !accepted);
        }
        assert_eq!(exchange(&server, request.as_bytes()), "", "no header, no service");
    }
}

#[test]
fn connections_are_those_that_are_open() {
    let server = default();
    assert_eq!(server.handle().connections(), 0);
    let mut client = connect(server.local_addr().unwrap());
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_response(&mut client);
    assert_eq!(server.handle().connections(), 1);
}

#[test]
fn tasks_come_back_to_what_they_were() {
    let server = default();
    let settled = |tasks: usize| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while server.handle().tasks() != tasks && Instant::now() < deadline {
            std::thread::yield_now();
        }
        server.handle().tasks()
    };
    // One for each listener of each worker.
    let before = settled(1);
    assert_eq!(before, 1);
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = connect(server.local_addr().unwrap());
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            read_response(&mut client);
            client
        })
        .collect();
    assert_eq!(settled(before + 3), before + 3);
    drop(clients);
    assert_eq!(settled(before), before);
}

#[test]
fn draining_finishes_what_is_in_flight_and_closes_what_is_idle() {
    let server = default();
    let address = server.local_addr().unwrap();
    let mut idle = connect(address);
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_response(&mut idle);
    let mut busy = connect(address);
    busy.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").unwrap();
    busy.read_exact(&mut [0; 25]).unwrap(); // its request has begun

    server.handle().drain();
    assert_eq!(read_to_end(&mut idle), "");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    busy.write_all(b"done").unwrap();
    let answer = read_to_end(&mut busy);
    assert!(answer.ends_with(" done") && answer.contains("connection: close"), "{answer}");
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(server.wait());
}
