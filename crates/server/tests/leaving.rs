//! Clients that end their side of a connection, clients that have gone, and connections that end with bytes on their way.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/h2.rs"]
#[allow(dead_code)]
mod h2;

use std::convert::Infallible;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::sleep;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use rproxy_server::{HalfClose, Limits, RequestBody, Running, Server};
use tower::service_fn;

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    Cancelled,
}

struct Told {
    outcome: Option<Outcome>,
    to: Sender<Outcome>,
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.to.send(self.outcome.take().unwrap_or(Outcome::Cancelled));
    }
}

/// Answers after `delay`, having read the content, and tells what became of each request.
async fn answer(
    request: Request<RequestBody>,
    delay: Duration,
    to: Sender<Outcome>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut told = Told { outcome: None, to };
    let path = request.uri().path().to_owned();
    if path != "/unread" {
        let _ = request.into_body().collect().await;
    }
    tokio::time::sleep(delay).await;
    told.outcome = Some(Outcome::Answered);
    Ok(Response::new(Full::from(format!("answer to {path}"))))
}

fn start(delay: Duration, half_close: HalfClose) -> (Running, Receiver<Outcome>) {
    let (told, outcomes) = channel();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).workers(1).half_close(half_close);
    let running = server.start(move |_| {
        let told = told.clone();
        service_fn(move |request| answer(request, delay, told.clone()))
    });
    (running.unwrap(), outcomes)
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn read_to_end(socket: &mut impl Read) -> String {
    let mut read = Vec::new();
    socket.read_to_end(&mut read).unwrap_or_else(|error| panic!("{error} after {:?}", read.escape_ascii().to_string()));
    String::from_utf8(read).unwrap()
}

/// Longer than an end may take that comes with its request.
const LATER: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(5);

const WEBSOCKET: &str = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";

// RFC 9112 §9.6
#[test]
fn answers_a_client_that_half_closes_behind_its_request() {
    let (server, _outcomes) = start(LATER, HalfClose::default());
    for request in [
        GET,
        POST,
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /a HTTP/1.0\r\n\r\n",
        "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "POST /a HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let mut socket = connect(server.local_addr().unwrap());
        socket.write_all(request.as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let answer = read_to_end(&mut socket);
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("answer to /a"),
            "{request:?}: {answer:?}"
        );
        assert!(answer.to_ascii_lowercase().contains("connection: close\r\n"), "{request:?}: {answer:?}");
    }
}

#[test]
fn answers_all_that_was_pipelined_before_a_half_close() {
    let (server, _outcomes) = start(LATER, HalfClose::default());
    for requests in [[GET, GET], [POST, POST], [GET, POST], [POST, GET]] {
        let mut socket = connect(server.local_addr().unwrap());
        socket.write_all(requests.concat().as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let answers = read_to_end(&mut socket);
        assert_eq!(answers.matches("answer to /a").count(), 2, "{requests:?}: {answers:?}");
    }
}

#[test]
fn cancels_a_request_whose_client_has_left() {
    let (server, outcomes) = start(LONG, HalfClose::default());
    let many = format!("{GET}{}", "x".repeat(100_000));
    for request in [
        GET.to_owned(),
        POST.to_owned(),
        WEBSOCKET.to_owned(),
        WEBSOCKET.replace("websocket", "h2c"),
        POST.replace("Host: a", "Host: a\r\nConnection: Upgrade\r\nUpgrade: h2c"),
        "GET /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n".to_owned(),
        [GET, GET].concat(),
        [GET, "G"].concat(),
        [GET, "\r\n"].concat(),
        [POST, POST].concat(),
        [POST, "G"].concat(),
        [WEBSOCKET, "\x01\x02"].concat(),
        many,
    ] {
        let mut socket = connect(server.local_addr().unwrap());
        socket.write_all(request.as_bytes()).unwrap();
        sleep(LATER);
        drop(socket);
        let shown = &request[..request.len().min(150)];
        assert_eq!(outcomes.recv_timeout(SOON), Ok(Outcome::Cancelled), "{shown:?}");
    }
    assert_eq!(outcomes.try_recv().ok(), None, "nothing else began");
}

#[test]
fn cancels_an_upgrade_whose_client_ends_its_side() {
    let (server, outcomes) = start(LONG, HalfClose::Always);
    let mut socket = connect(server.local_addr().unwrap());
    socket.write_all(WEBSOCKET.as_bytes()).unwrap();
    // One that comes with the request has it dropped before it begins.
    sleep(Duration::from_millis(50));
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(outcomes.recv_timeout(SOON), Ok(Outcome::Cancelled));
}

#[test]
fn the_setting_says_when_an_end_is_a_half_close() {
    for (half_close, wait, outcome) in
        [(HalfClose::Never, Duration::ZERO, Outcome::Cancelled), (HalfClose::Always, LATER, Outcome::Answered)]
    {
        let (server, outcomes) = start(2 * LATER, half_close);
        for request in [GET, POST] {
            let mut socket = connect(server.local_addr().unwrap());
            socket.write_all(request.as_bytes()).unwrap();
            sleep(wait);
            socket.shutdown(Shutdown::Write).unwrap();
            assert_eq!(outcomes.recv_timeout(SOON).as_ref(), Ok(&outcome), "{half_close:?}: {request:?}");
        }
    }
}

#[test]
fn a_half_closed_connection_that_is_reset_is_noticed() {
    let (server, outcomes) = start(LONG, HalfClose::default());
    for request in [GET, POST] {
        let mut socket = connect(server.local_addr().unwrap());
        socket.write_all(request.as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(outcomes.recv_timeout(LATER), Err(RecvTimeoutError::Timeout));
        // With a linger time of zero, the kernel resets.
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        drop(socket);
        assert_eq!(outcomes.recv_timeout(SOON), Ok(Outcome::Cancelled), "{request:?}");
    }
}

#[test]
fn a_response_ahead_of_the_content_says_that_the_connection_ends_and_is_not_lost() {
    let (server, _outcomes) = start(Duration::ZERO, HalfClose::default());
    for (length, first) in [(3_000, 10), (200_000, 10), (2_000_000, 1_000_000)] {
        let mut socket = connect(server.local_addr().unwrap());
        let head = format!("POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(&vec![b'x'; first]).unwrap();
        sleep(Duration::from_millis(100));
        socket.write_all(&vec![b'x'; length - first]).expect("the rest is read");
        let answer = read_to_end(&mut socket);
        assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("answer to /unread"), "{answer:?}");
    }
}

#[test]
fn content_that_was_taken_leaves_the_connection_in_use() {
    let (server, _outcomes) = start(Duration::ZERO, HalfClose::default());
    let mut socket = connect(server.local_addr().unwrap());
    let chunked = "POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let last = "GET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    socket.write_all([POST, chunked, last].concat().as_bytes()).unwrap();
    let answers = read_to_end(&mut socket);
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    assert_eq!(answers.matches("connection: close").count(), 1, "{answers}");
}

// RFC 9112 §9.6
#[test]
fn bytes_behind_the_last_request_do_not_destroy_its_response() {
    let (server, _outcomes) = start(Duration::from_millis(100), HalfClose::default());
    for request in [GET, POST] {
        let mut socket = connect(server.local_addr().unwrap());
        let request = request.replace("Host: a", "Host: a\r\nConnection: close");
        socket.write_all(request.as_bytes()).unwrap();
        for _ in 0..50 {
            socket.write_all(&[b'x'; 10_000]).expect("what follows is read");
            sleep(Duration::from_millis(4));
        }
        assert!(read_to_end(&mut socket).ends_with("answer to /a"));
    }
}

/// RFC 9112 §8: a client of HTTP/1.0 sees no other end of a body whose length is unknown.
#[test]
fn a_body_that_ends_with_the_connection_does_not_look_whole_if_it_breaks_off() {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).workers(1);
    let server = server.start(|_| {
        service_fn(async |request: Request<RequestBody>| {
            let breaks = request.uri().path() == "/breaks";
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(Response::new(Frames { left: 2, breaks, rest: Box::pin(tokio::time::sleep(LATER)) }))
        })
    });
    let server = server.unwrap();
    let address = server.local_addr().unwrap();
    for (path, is_whole) in [("/whole", true), ("/breaks", false)] {
        for request in
            [format!("GET {path} HTTP/1.0\r\n\r\n"), format!("POST {path} HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")]
        {
            let mut socket = connect(address);
            socket.write_all(request.as_bytes()).unwrap();
            let mut read = Vec::new();
            let end = socket.read_to_end(&mut read);
            assert_eq!(end.is_ok(), is_whole, "{request:?}: {end:?} after {}", read.escape_ascii());
        }
    }
}

/// Frames of a body of unknown length, and then an end or an error.
struct Frames {
    left: usize,
    breaks: bool,
    /// Before the end.
    rest: std::pin::Pin<Box<tokio::time::Sleep>>,
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<std::io::Result<http_body::Frame<Bytes>>>> {
        if self.left == 0 {
            std::task::ready!(self.rest.as_mut().poll(cx));
        }
        std::task::Poll::Ready(match (self.left, self.breaks) {
            (0, true) => Some(Err(std::io::ErrorKind::UnexpectedEof.into())),
            (0, false) => None,
            _ => {
                self.left -= 1;
                Some(Ok(http_body::Frame::data(Bytes::from_static(b"frame"))))
            }
        })
    }
}

#[test]
fn the_time_for_a_head_begins_with_its_first_byte() {
    let mut limits = Limits::default();
    limits.head_timeout = Duration::from_millis(400);
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).workers(1).limits(limits);
    let (told, _outcomes) = channel();
    let server = server.start(move |_| {
        let told = told.clone();
        service_fn(move |request| answer(request, Duration::ZERO, told.clone()))
    });
    let server = server.unwrap();
    let mut socket = connect(server.local_addr().unwrap());
    for number in 0..12 {
        socket.write_all(b"GET /a HTTP/1.1\r\nHo").unwrap();
        sleep(Duration::from_millis(100));
        socket.write_all(b"st: a\r\n\r\n").unwrap();
        let mut read = [0; 1024];
        let length = socket.read(&mut read).unwrap();
        assert!(read[..length].starts_with(b"HTTP/1.1 200 "), "{number}: {}", read[..length].escape_ascii());
    }
}

mod over_tls {
    use super::*;

    fn start(delay: Duration) -> (h2::Server, Receiver<Outcome>) {
        let (told, outcomes) = channel();
        let server = h2::Server::start(
            |_| {},
            move |_| {
                let told = told.clone();
                service_fn(move |request| answer(request, delay, told.clone()))
            },
        );
        (server, outcomes)
    }

    #[test]
    fn answers_a_client_that_sends_its_close_notify_behind_its_request() {
        let (server, _outcomes) = start(LATER);
        for request in [GET, POST] {
            let mut client = server.http1();
            client.write_all(request.as_bytes()).unwrap();
            client.conn.send_close_notify();
            client.flush().unwrap();
            let answer = read_to_end(&mut client);
            assert!(answer.ends_with("answer to /a"), "{answer:?}");
        }
    }

    #[test]
    fn cancels_a_request_whose_client_has_left() {
        let (server, outcomes) = start(LONG);
        for request in [GET, POST, WEBSOCKET] {
            for says_goodbye in [false, true] {
                let mut client = server.http1();
                client.write_all(request.as_bytes()).unwrap();
                sleep(LATER);
                if says_goodbye {
                    client.conn.send_close_notify();
                    client.flush().unwrap();
                }
                drop(client);
                assert_eq!(outcomes.recv_timeout(SOON), Ok(Outcome::Cancelled), "{request:?} {says_goodbye}");
            }
        }
    }

    #[test]
    fn a_response_ahead_of_the_content_is_not_lost() {
        let (server, _outcomes) = start(Duration::ZERO);
        let mut client = server.http1();
        client.write_all(b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n").unwrap();
        sleep(Duration::from_millis(100));
        client.write_all(&vec![b'x'; 500_000]).expect("the rest is read");
        let answer = read_to_end(&mut client);
        assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("answer to /unread"), "{answer:?}");
    }
}
