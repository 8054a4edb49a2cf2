//! Tests of HTTP/1.1 over raw sockets: parsing, limits, timeouts and draining.

use std::convert::Infallible;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use rproxy_client_ip::PeerAddr;
use rproxy_request_guard::RequestGuardLayer;
use rproxy_server::{Limits, ProxyProtocolVersions, RunningServer, Server};
use tower::{Layer, service_fn};

/// Starts a server whose responses contain the method, target, host, peer and body of the request. It does not read the
/// body for `/ignore`.
fn start(server: impl FnOnce(Server) -> Server, guard: RequestGuardLayer) -> RunningServer {
    let server = server(Server::bind("127.0.0.1:0".parse().unwrap()).workers(1));
    server
        .start(move |_| {
            guard.layer(service_fn(
                async |request: Request<rproxy_request_guard::GuardBody<rproxy_server::RequestBody>>| {
                    let (head, body) = request.into_parts();
                    let host = head.headers.get("host").map_or("-", |host| host.to_str().unwrap_or("?")).to_owned();
                    let peer = head.extensions.get::<PeerAddr>().expect("the server's extension").0;
                    let mut text = format!("{} {} {host} {}", head.method, head.uri, peer.ip());
                    if head.uri.path() != "/ignore" {
                        match body.collect().await {
                            Ok(body) => text.push_str(&format!(" {}", body.to_bytes().escape_ascii())),
                            Err(error) => text.push_str(&error.to_string()),
                        }
                    }
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
                },
            ))
        })
        .unwrap()
}

fn default() -> RunningServer {
    start(|server| server, RequestGuardLayer::new().max_body(Some(1000)))
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends bytes, and returns the bytes received until the server closes the connection.
fn exchange(server: &RunningServer, bytes: &[u8]) -> String {
    let mut stream = connect(server.local_addr().unwrap());
    stream.write_all(bytes).unwrap();
    read_to_end(&mut stream)
}

fn read_to_end(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    match stream.read_to_end(&mut response) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error} after {}", response.escape_ascii()),
    }
    String::from_utf8(response).unwrap()
}

/// Reads a single response with a `Content-Length`.
fn read_response(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a complete response");
        response.push(byte[0]);
        if response.ends_with(b"\r\n\r\n") {
            let head = String::from_utf8(response.clone()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            return head + &String::from_utf8(body).unwrap();
        }
    }
}

#[test]
fn invalid_requests_get_an_error_status_and_close_the_connection() {
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
        let response = exchange(&server, request.as_bytes());
        let shown = &request[..request.len().min(120)];
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {response:?}");
        assert!(response.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{shown:?}: {response:?}");
        assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{shown:?}: {response:?}");
    }
    // Other connections are served.
    let response = exchange(&server, b"GET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(response.ends_with("GET /ok a 127.0.0.1 "), "{response}");
}

#[test]
fn accepts_heads_and_bodies_in_several_reads() {
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
        let response = read_to_end(&mut stream);
        for expected in ["POST /a a 127.0.0.1 abc", "POST /b a 127.0.0.1 de", "GET /c a 127.0.0.1 "] {
            assert!(response.contains(expected), "{piece}: {response}");
        }
    }
}

// hyper would respond to a head that it cannot parse without calling the service, and so without a log entry.
#[test]
fn each_rejected_request_head_reaches_the_service() {
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
            let response = exchange(&server, format!("{line} HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes());
            // Responses of the guard have a text body.
            assert!(response.contains("\r\ncontent-type: text/plain"), "{line} HTTP/{version}: {response:?}");
        }
    }
}

#[test]
fn percent_encodes_targets_that_a_uri_cannot_represent() {
    let server = default();
    for (target, encoded) in [
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
            let response = exchange(&server, &request.concat());
            assert!(
                response.contains(&format!("\r\n\r\n{method} {encoded} a ")),
                "{}: {response:?}",
                target.escape_ascii()
            );
        }
    }
    // The limit applies to the encoded target.
    let long = [b"GET /", "<".repeat(4000).as_bytes(), b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    assert!(exchange(&server, &long).starts_with("HTTP/1.1 414 "));
}

// RFC 9110 §2.5, RFC 9112 §9.3
#[test]
fn http_1_0_clients_get_http_1_1_responses_and_keep_alive_if_requested() {
    let server = default();
    for (method, content) in [("GET", ""), ("POST", "Content-Length: 2\r\n")] {
        let body = if content.is_empty() { "" } else { "ok" };
        let response = exchange(&server, format!("{method} /a HTTP/1.0\r\n{content}\r\n{body}").as_bytes());
        let response = response.to_ascii_lowercase();
        assert!(
            response.starts_with("http/1.1 200 ok\r\n") && response.contains("connection: close\r\n"),
            "{response:?}"
        );

        let keep_alive = format!("{method} /a HTTP/1.0\r\nConnection: Keep-Alive\r\n{content}\r\n{body}");
        let mut stream = connect(server.local_addr().unwrap());
        for _ in 0..3 {
            stream.write_all(keep_alive.as_bytes()).unwrap();
            let response = read_response(&mut stream).to_ascii_lowercase();
            assert!(response.starts_with("http/1.1 200 ok\r\n"), "{response:?}");
            assert!(response.contains("\r\nconnection: keep-alive\r\n"), "{response:?}");
        }
    }
}

// RFC 9110 §7.8
#[test]
fn upgrade_without_connection_option_is_ignored() {
    let server = default();
    let response = exchange(
        &server,
        b"GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n\
          POST /b HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok\
          GET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    for expected in ["GET /a a 127.0.0.1 ", "POST /b a 127.0.0.1 ok", "GET /c a 127.0.0.1 "] {
        assert!(response.contains(expected), "{response}");
    }
}

#[test]
fn rejected_head_does_not_affect_pipelined_requests_before_it() {
    let server = default();
    let response = exchange(
        &server,
        b"GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\nGET /three HTTP/1.1\nHost: a\r\n\r\n",
    );
    assert!(response.contains("GET /one") && response.contains("GET /two"), "{response}");
    assert!(response.contains("HTTP/1.1 400 ") && !response.contains("refused.invalid"), "{response}");
}

#[test]
fn connection_is_reused_after_a_declined_upgrade() {
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
fn slow_head_gets_408_and_an_idle_connection_closes_without_a_response() {
    let mut limits = Limits::default();
    limits.head_timeout = Duration::from_millis(200);
    limits.idle_timeout = Duration::from_millis(400);
    let server = start(|server| server.limits(limits), RequestGuardLayer::new());
    let response = exchange(&server, b"GET / HTTP/1.1\r\nHost: a\r\nX:");
    assert!(response.starts_with("HTTP/1.1 408 "), "{response:?}");

    let mut stream = connect(server.local_addr().unwrap());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let started = Instant::now();
    assert_eq!(read_to_end(&mut stream).matches("HTTP/1.1 ").count(), 1);
    assert!(started.elapsed() > Duration::from_millis(200));
}

#[test]
fn connection_closes_at_the_request_limit() {
    let mut limits = Limits::default();
    limits.requests = std::num::NonZeroU64::new(3);
    let server = start(|server| server.limits(limits), RequestGuardLayer::new());
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    // Served by the fast path and by hyper.
    for requests in [[get; 4], [post; 4], [get, post, get, post], [post, get, post, get]] {
        let mut stream = connect(server.local_addr().unwrap());
        let responses = requests.map(|request| {
            let _ = stream.write_all(request.as_bytes());
            let mut response = [0; 4096];
            let read = stream.read(&mut response).unwrap_or(0);
            String::from_utf8_lossy(&response[..read]).to_ascii_lowercase()
        });
        let closes = responses.each_ref().map(|response| response.contains("connection: close"));
        assert_eq!(closes, [false, false, true, false], "{responses:?}");
        assert_eq!(responses[3], "");
    }
}

#[test]
fn limits_connections_per_client_except_for_exempt_proxies() {
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
        assert!(Instant::now() < deadline, "the connection is still counted");
    }

    let proxies = "loopback".parse().unwrap();
    let server = start(|server| server.limits(limits).exempt_proxies(proxies), RequestGuardLayer::new());
    let mut open: Vec<_> = (0..3).map(|_| connect(server.local_addr().unwrap())).collect();
    assert!(open.iter_mut().all(is_served), "a proxy is not counted");
}

#[test]
fn connections_over_the_maximum_wait_in_the_accept_queue() {
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
fn connection_closes_after_the_send_timeout_if_the_client_does_not_read() {
    let mut limits = Limits::default();
    limits.send_timeout = Duration::from_millis(500);
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).workers(1).limits(limits);
    let large = Bytes::from(vec![b'x'; 32 << 20]);
    let response = service_fn(move |_: Request<rproxy_server::RequestBody>| {
        let response = Response::new(Full::new(large.clone()));
        async { Ok::<_, Infallible>(response) }
    });
    let server = server.start(move |_| response.clone()).unwrap();
    let mut stream = connect(server.local_addr().unwrap());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.handle().connections() > 0 {
        assert!(Instant::now() < deadline, "the connection is still open");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn slow_request_body_gets_408() {
    let server = start(|server| server, RequestGuardLayer::new().body_timeout(Duration::from_millis(100)));
    let response = exchange(&server, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
    assert!(response.starts_with("HTTP/1.1 408 "), "{response:?}");
}

#[test]
fn sends_100_continue_if_the_client_expects_it() {
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
fn proxy_protocol_header_from_a_trusted_peer_sets_the_peer_address() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let v1 = format!("PROXY TCP4 192.0.2.9 10.0.0.1 1 2\r\n{request}").into_bytes();
    let v2 = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\x0a\0\0\x01\0\x01\0\x02", request.as_bytes()].concat();
    for (versions, accepted) in [
        (ProxyProtocolVersions::V1, [true, false]),
        (ProxyProtocolVersions::V2, [false, true]),
        (ProxyProtocolVersions::Any, [true, true]),
    ] {
        let trusted = "loopback".parse().unwrap();
        let server = start(|server| server.proxy_protocol(trusted, versions), RequestGuardLayer::new());
        for (header, accepted) in [&v1, &v2].into_iter().zip(accepted) {
            let response = exchange(&server, header);
            assert_eq!(response.ends_with("GET / a 192.0.2.9 "), accepted, "{versions:?}: {response}");
            assert_eq!(response.is_empty(), !accepted);
        }
        assert_eq!(exchange(&server, request.as_bytes()), "", "a connection without a header is closed");
    }
}

#[test]
fn handle_returns_the_number_of_open_connections() {
    let server = default();
    assert_eq!(server.handle().connections(), 0);
    let mut client = connect(server.local_addr().unwrap());
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_response(&mut client);
    assert_eq!(server.handle().connections(), 1);
}

#[test]
fn number_of_tasks_returns_to_its_initial_value_when_connections_close() {
    let server = default();
    let settled = |tasks: usize| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while server.handle().tasks() != tasks && Instant::now() < deadline {
            std::thread::yield_now();
        }
        server.handle().tasks()
    };
    // One task per listener and worker.
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
fn draining_finishes_in_flight_requests_and_closes_idle_connections() {
    let server = default();
    let address = server.local_addr().unwrap();
    let mut idle = connect(address);
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_response(&mut idle);
    let mut busy = connect(address);
    busy.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").unwrap();
    busy.read_exact(&mut [0; 25]).unwrap(); // its request is in flight

    server.handle().drain();
    assert_eq!(read_to_end(&mut idle), "");
    assert!(TcpStream::connect(address).is_err(), "the listening socket is closed");
    busy.write_all(b"done").unwrap();
    let response = read_to_end(&mut busy);
    assert!(response.ends_with(" done") && response.contains("connection: close"), "{response}");
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(server.wait());
}
