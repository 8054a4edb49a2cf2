//! Tests of half-closed connections, and of connections that close while bytes are in transit.

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
use rproxy_server::{HalfClose, Limits, RequestBody, RunningServer, Server};
use tower::service_fn;

/// The outcome of a request in the service.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Responded,
    Cancelled,
}

/// A guard that sends the outcome of a request when it is dropped.
struct OutcomeReporter {
    outcome: Option<Outcome>,
    sender: Sender<Outcome>,
}

impl Drop for OutcomeReporter {
    fn drop(&mut self) {
        let _ = self.sender.send(self.outcome.take().unwrap_or(Outcome::Cancelled));
    }
}

/// Reads the request content, responds after `delay`, and reports the outcome of the request.
async fn respond(
    request: Request<RequestBody>,
    delay: Duration,
    sender: Sender<Outcome>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut reporter = OutcomeReporter { outcome: None, sender };
    let path = request.uri().path().to_owned();
    if path != "/unread" {
        let _ = request.into_body().collect().await;
    }
    tokio::time::sleep(delay).await;
    reporter.outcome = Some(Outcome::Responded);
    Ok(Response::new(Full::from(format!("response to {path}"))))
}

fn start(delay: Duration, half_close: HalfClose) -> (RunningServer, Receiver<Outcome>) {
    let (sender, outcomes) = channel();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).workers(1).half_close(half_close);
    let running = server.start(move |_| {
        let sender = sender.clone();
        service_fn(move |request| respond(request, delay, sender.clone()))
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

/// A delay that is longer than [`HalfClose::WithRequest`] allows between a request and a half-close.
const LATER: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(5);

const WEBSOCKET: &str = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";

// RFC 9112 §9.6
#[test]
fn serves_a_client_that_half_closes_after_its_request() {
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
        let response = read_to_end(&mut socket);
        assert!(
            response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("response to /a"),
            "{request:?}: {response:?}"
        );
        assert!(response.to_ascii_lowercase().contains("connection: close\r\n"), "{request:?}: {response:?}");
    }
}

#[test]
fn serves_all_requests_pipelined_before_a_half_close() {
    let (server, _outcomes) = start(LATER, HalfClose::default());
    for requests in [[GET, GET], [POST, POST], [GET, POST], [POST, GET]] {
        let mut socket = connect(server.local_addr().unwrap());
        socket.write_all(requests.concat().as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let responses = read_to_end(&mut socket);
        assert_eq!(responses.matches("response to /a").count(), 2, "{requests:?}: {responses:?}");
    }
}

#[test]
fn cancels_the_request_of_a_client_that_closes_the_connection() {
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
    assert_eq!(outcomes.try_recv().ok(), None, "no other request was served");
}

#[test]
fn cancels_an_upgrade_when_the_client_half_closes() {
    let (server, outcomes) = start(LONG, HalfClose::Always);
    let mut socket = connect(server.local_addr().unwrap());
    socket.write_all(WEBSOCKET.as_bytes()).unwrap();
    // A half-close together with the request would drop the request before it is served.
    sleep(Duration::from_millis(50));
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(outcomes.recv_timeout(SOON), Ok(Outcome::Cancelled));
}

#[test]
fn half_close_policy_determines_whether_the_request_is_cancelled() {
    for (half_close, wait, outcome) in
        [(HalfClose::Never, Duration::ZERO, Outcome::Cancelled), (HalfClose::Always, LATER, Outcome::Responded)]
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
fn reset_of_a_half_closed_connection_cancels_the_request() {
    let (server, outcomes) = start(LONG, HalfClose::default());
    for request in [GET, POST] {
        let mut socket = connect(server.local_addr().unwrap());
        socket.write_all(request.as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(outcomes.recv_timeout(LATER), Err(RecvTimeoutError::Timeout));
        // With a linger time of zero, closing resets the connection.
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        drop(socket);
        assert_eq!(outcomes.recv_timeout(SOON), Ok(Outcome::Cancelled), "{request:?}");
    }
}

#[test]
fn response_sent_before_the_content_is_read_closes_the_connection_and_is_not_lost() {
    let (server, _outcomes) = start(Duration::ZERO, HalfClose::default());
    for (length, first) in [(600_000, 10), (2_000_000, 1_000_000)] {
        let mut socket = connect(server.local_addr().unwrap());
        let head = format!("POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(&vec![b'x'; first]).unwrap();
        sleep(Duration::from_millis(100));
        socket.write_all(&vec![b'x'; length - first]).expect("the rest is read");
        let response = read_to_end(&mut socket);
        assert!(
            response.contains("\r\nconnection: close\r\n") && response.ends_with("response to /unread"),
            "{response:?}"
        );
    }
}

#[test]
fn connection_is_reused_after_the_content_is_read() {
    let (server, _outcomes) = start(Duration::ZERO, HalfClose::default());
    let mut socket = connect(server.local_addr().unwrap());
    let chunked = "POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let last = "GET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    socket.write_all([POST, chunked, last].concat().as_bytes()).unwrap();
    let responses = read_to_end(&mut socket);
    assert_eq!(responses.matches("HTTP/1.1 200 OK").count(), 3, "{responses}");
    assert_eq!(responses.matches("connection: close").count(), 1, "{responses}");
}

// RFC 9112 §9.6
#[test]
fn bytes_after_the_last_request_do_not_reset_the_connection_before_the_response_is_read() {
    let (server, _outcomes) = start(Duration::from_millis(100), HalfClose::default());
    for request in [GET, POST] {
        let mut socket = connect(server.local_addr().unwrap());
        let request = request.replace("Host: a", "Host: a\r\nConnection: close");
        socket.write_all(request.as_bytes()).unwrap();
        for _ in 0..50 {
            socket.write_all(&[b'x'; 10_000]).expect("further bytes are read");
            sleep(Duration::from_millis(4));
        }
        assert!(read_to_end(&mut socket).ends_with("response to /a"));
    }
}

// RFC 9112 §8: for HTTP/1.0, a body of unknown length ends with the connection.
#[test]
fn failed_close_delimited_body_resets_the_connection() {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).workers(1);
    let server = server.start(|_| {
        service_fn(async |request: Request<RequestBody>| {
            let fails = request.uri().path() == "/fails";
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(Response::new(Frames { left: 2, fails, delay: Box::pin(tokio::time::sleep(LATER)) }))
        })
    });
    let server = server.unwrap();
    let address = server.local_addr().unwrap();
    for (path, is_complete) in [("/succeeds", true), ("/fails", false)] {
        for request in
            [format!("GET {path} HTTP/1.0\r\n\r\n"), format!("POST {path} HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")]
        {
            let mut socket = connect(address);
            socket.write_all(request.as_bytes()).unwrap();
            let mut read = Vec::new();
            let end = socket.read_to_end(&mut read);
            assert_eq!(end.is_ok(), is_complete, "{request:?}: {end:?} after {}", read.escape_ascii());
        }
    }
}

/// A response body of unknown length with several frames, followed by its end or an error.
struct Frames {
    left: usize,
    fails: bool,
    /// The delay between the last frame and the end of the body.
    delay: std::pin::Pin<Box<tokio::time::Sleep>>,
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<std::io::Result<http_body::Frame<Bytes>>>> {
        if self.left == 0 {
            std::task::ready!(self.delay.as_mut().poll(cx));
        }
        std::task::Poll::Ready(match (self.left, self.fails) {
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
fn head_timeout_starts_with_the_first_byte_of_each_request_head() {
    let mut limits = Limits::default();
    limits.head_timeout = Duration::from_millis(400);
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).workers(1).limits(limits);
    let (sender, _outcomes) = channel();
    let server = server.start(move |_| {
        let sender = sender.clone();
        service_fn(move |request| respond(request, Duration::ZERO, sender.clone()))
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

    fn start(delay: Duration) -> (crate::h2::Server, Receiver<Outcome>) {
        let (sender, outcomes) = channel();
        let server = crate::h2::Server::start(
            |_| {},
            move |_| {
                let sender = sender.clone();
                service_fn(move |request| respond(request, delay, sender.clone()))
            },
        );
        (server, outcomes)
    }

    #[test]
    fn serves_a_client_that_sends_close_notify_after_its_request() {
        let (server, _outcomes) = start(LATER);
        for request in [GET, POST] {
            let mut client = server.http1();
            client.write_all(request.as_bytes()).unwrap();
            client.conn.send_close_notify();
            client.flush().unwrap();
            let response = read_to_end(&mut client);
            assert!(response.ends_with("response to /a"), "{response:?}");
        }
    }

    #[test]
    fn cancels_the_request_of_a_client_that_closes_the_connection() {
        let (server, outcomes) = start(LONG);
        for request in [GET, POST, WEBSOCKET] {
            for sends_close_notify in [false, true] {
                let mut client = server.http1();
                client.write_all(request.as_bytes()).unwrap();
                sleep(LATER);
                if sends_close_notify {
                    client.conn.send_close_notify();
                    client.flush().unwrap();
                }
                drop(client);
                assert_eq!(outcomes.recv_timeout(SOON), Ok(Outcome::Cancelled), "{request:?} {sends_close_notify}");
            }
        }
    }

    #[test]
    fn response_sent_before_the_content_is_read_over_tls_is_not_lost() {
        let (server, _outcomes) = start(Duration::ZERO);
        let mut client = server.http1();
        client.write_all(b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n").unwrap();
        sleep(Duration::from_millis(100));
        client.write_all(&vec![b'x'; 500_000]).expect("the rest is read");
        let response = read_to_end(&mut client);
        assert!(
            response.contains("\r\nconnection: close\r\n") && response.ends_with("response to /unread"),
            "{response:?}"
        );
    }
}
