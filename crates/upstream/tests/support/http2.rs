//! HTTP/2 backends that do what a test wants, frame by frame where that matters.
#![allow(dead_code, reason = "each test file uses what it needs")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use rproxy_upstream::{BodyError, Upstream, UpstreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) type Body = Full<Bytes>;

/// What a backend does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// A response that ends after this text.
    Answer(&'static str),
    /// One that ends with [`Backend::finish`].
    Open(&'static str),
    /// One that ends never, sent as fast as the windows allow.
    Endless,
    /// Says nothing.
    Silence,
    /// RST_STREAM with this error code instead of a response.
    Reset(u32),
    /// RST_STREAM with this error code within a response.
    Break(&'static str, u32),
    /// Closes the connection instead of a response.
    Close,
    /// Closes the connection within a response.
    BreakConnection(&'static str),
    /// GOAWAY with the id before this request's, and the end of the connection.
    GoAwayBelow,
    /// An interim response, then as [`Act::GoAwayBelow`].
    InterimThenGoAwayBelow,
    /// An interim response, then RST_STREAM with this error code.
    InterimThenReset(u32),
    /// GOAWAY, and a response that ends with [`Backend::finish`].
    GoAwayThenOpen(&'static str),
    AnswerThenGoAway(&'static str),
    /// A whole response before the content of the request, which is then refused with RST_STREAM(NO_ERROR).
    Early(&'static str),
    /// A response that says that it has this length.
    Length(&'static str, u64),
    /// So many fields of so many bytes each.
    Fields(usize, usize),
    /// This status and a `content-length`, without content.
    Status(u16),
    /// An interim response with a link, then a response in two parts with an empty one between, and a trailer section.
    InterimAndTrailers,
    /// So many interim responses.
    Interim(usize),
    /// What the client sends, part by part, to its end or failure.
    Echo,
}

/// The settings of a backend.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Server {
    streams: Option<u32>,
    connections: Option<usize>,
    connection_window: Option<u32>,
    requests: Option<usize>,
}

impl Server {
    pub(crate) fn max_streams(self, streams: u32) -> Self {
        Self { streams: Some(streams), ..self }
    }

    /// Refuses further connections.
    pub(crate) fn max_connections(self, connections: usize) -> Self {
        Self { connections: Some(connections), ..self }
    }

    /// Ends each connection after this many requests, as nginx does (`keepalive_requests`).
    pub(crate) fn max_requests(self, requests: usize) -> Self {
        Self { requests: Some(requests), ..self }
    }

    pub(crate) fn connection_window(self, bytes: u32) -> Self {
        Self { connection_window: Some(bytes), ..self }
    }
}

/// A backend that speaks HTTP/2 in the clear.
pub(crate) struct Backend {
    address: SocketAddr,
    seen: Arc<Seen>,
}

/// What a backend has seen.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    streams: AtomicUsize,
    most_streams: AtomicUsize,
    bodies: Mutex<Vec<Bytes>>,
    sent: AtomicUsize,
    finish: Notify,
    failure: Mutex<Option<u32>>,
}

enum Order {
    Close,
    GoAway,
}

type Script = Arc<dyn Fn(&Request<()>, usize) -> Act + Send + Sync>;

impl Backend {
    pub(crate) async fn start(
        server: Server,
        script: impl Fn(&Request<()>, usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, script): (Arc<Seen>, Script) = (Arc::default(), Arc::new(script));
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            while server.connections != Some(shared.connections.load(SeqCst))
                && let Ok((stream, _)) = listener.accept().await
            {
                shared.connections.fetch_add(1, SeqCst);
                tokio::spawn(serve(stream, server, Arc::clone(&shared), Arc::clone(&script)));
            }
        });
        Self { address, seen }
    }

    pub(crate) fn origin(&self) -> String {
        format!("h2c://{}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.load(SeqCst)
    }

    /// How many streams there were at once, on all connections, of each connection at most.
    pub(crate) fn most_streams(&self) -> usize {
        self.seen.most_streams.load(SeqCst)
    }

    pub(crate) fn bodies(&self) -> Vec<Bytes> {
        self.seen.bodies.lock().unwrap().clone()
    }

    /// The error code with which a request ended.
    pub(crate) async fn failure(&self) -> Option<u32> {
        self.seen.finish.notified().await;
        *self.seen.failure.lock().unwrap()
    }

    /// Ends the responses that are open.
    pub(crate) fn finish(&self) {
        self.seen.finish.notify_waiters();
    }

    /// Waits until endless responses can't go on.
    pub(crate) async fn until_stalled(&self) {
        let (mut before, mut since) = (0, Instant::now());
        while since.elapsed() < Duration::from_millis(200) {
            let sent = self.seen.sent.load(SeqCst);
            if sent != before {
                (before, since) = (sent, Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn serve(stream: TcpStream, server: Server, seen: Arc<Seen>, script: Script) {
    let stream = stream.into_std().unwrap();
    // Frames that h2 would not send.
    let raw = stream.try_clone().unwrap();
    let mut builder = h2::server::Builder::new();
    if let Some(streams) = server.streams {
        builder.max_concurrent_streams(streams);
    }
    if let Some(bytes) = server.connection_window {
        builder.initial_connection_window_size(bytes);
    }
    let Ok(mut connection) = builder.handshake(TcpStream::from_std(stream).unwrap()).await else { return };
    let (orders, mut ordered) = tokio::sync::mpsc::unbounded_channel();
    let streams = Arc::new(AtomicUsize::new(0));
    let mut accepted_requests = 0;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            order = ordered.recv() => match order {
                Some(Order::GoAway) => {
                    connection.graceful_shutdown();
                    continue;
                }
                Some(Order::Close) | None => return,
            },
        };
        let Some(Ok((request, respond))) = accepted else { return };
        accepted_requests += 1;
        if let Some(most) = server.requests {
            if accepted_requests == most {
                let id = request.body().stream_id().as_u32();
                write_goaway(&mut raw.try_clone().unwrap(), id);
            } else if accepted_requests > most {
                continue;
            }
        }
        let number = seen.requests.fetch_add(1, SeqCst);
        let (head, body) = request.into_parts();
        let act = script(&Request::from_parts(head, ()), number);
        let now = streams.fetch_add(1, SeqCst) + 1;
        seen.most_streams.fetch_max(now, SeqCst);
        let (seen, streams, orders) = (Arc::clone(&seen), Arc::clone(&streams), orders.clone());
        let mut raw = raw.try_clone().unwrap();
        tokio::spawn(async move {
            let id = body.stream_id().as_u32();
            let _ = perform(act, body, respond, &seen, &orders, id, &mut raw).await;
            streams.fetch_sub(1, SeqCst);
        });
    }
}

async fn perform(
    act: Act,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    seen: &Seen,
    orders: &tokio::sync::mpsc::UnboundedSender<Order>,
    id: u32,
    raw: &mut std::net::TcpStream,
) -> Result<(), h2::Error> {
    match act {
        Act::Reset(code) => respond.send_reset(code.into()),
        Act::Close => close(raw, orders).await,
        Act::InterimThenReset(code) => {
            respond.send_informational(Response::builder().status(103).body(()).unwrap())?;
            // A reset takes what was not sent by then with it.
            tokio::time::sleep(Duration::from_millis(50)).await;
            respond.send_reset(code.into());
        }
        Act::GoAwayBelow | Act::InterimThenGoAwayBelow => {
            if matches!(act, Act::InterimThenGoAwayBelow) {
                respond.send_informational(Response::builder().status(103).body(()).unwrap())?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            write_goaway(raw, id.saturating_sub(2));
            drop(orders.send(Order::Close));
        }
        Act::Silence => std::future::poll_fn(|cx| respond.poll_reset(cx).map(drop)).await,
        Act::Answer(text) | Act::AnswerThenGoAway(text) => {
            let mut content = Vec::new();
            while let Some(data) = body.data().await {
                let data = data?;
                let _ = body.flow_control().release_capacity(data.len());
                content.extend_from_slice(&data);
            }
            seen.bodies.lock().unwrap().push(content.into());
            respond.send_response(Response::new(()), false)?.send_data(Bytes::from_static(text.as_bytes()), true)?;
            if matches!(act, Act::AnswerThenGoAway(_)) {
                let _ = orders.send(Order::GoAway);
            }
        }
        Act::Open(text) | Act::GoAwayThenOpen(text) => {
            if matches!(act, Act::GoAwayThenOpen(_)) {
                let _ = orders.send(Order::GoAway);
            }
            let mut stream = respond.send_response(Response::new(()), false)?;
            stream.send_data(Bytes::from_static(text.as_bytes()), false)?;
            tokio::select! {
                () = seen.finish.notified() => stream.send_data(Bytes::new(), true)?,
                _ = std::future::poll_fn(|cx| stream.poll_reset(cx)) => {}
            }
        }
        Act::Early(text) => {
            respond.send_response(Response::new(()), false)?.send_data(Bytes::from_static(text.as_bytes()), true)?;
        }
        Act::Length(text, length) => {
            let response = Response::builder().header("content-length", length).body(()).unwrap();
            respond.send_response(response, false)?.send_data(Bytes::from_static(text.as_bytes()), true)?;
        }
        Act::Fields(count, size) => {
            let fields = (0..count).map(|number| (format!("x-{number}"), "v".repeat(size)));
            let response = fields.fold(Response::builder(), |response, (name, value)| response.header(name, value));
            respond.send_response(response.body(()).unwrap(), true)?;
        }
        Act::Status(status) => {
            let response = Response::builder().status(status).header("content-length", 5).body(()).unwrap();
            respond.send_response(response, true)?;
        }
        Act::InterimAndTrailers => {
            let interim = Response::builder().status(103).header("link", "</a.css>; rel=preload").body(()).unwrap();
            respond.send_informational(interim)?;
            let mut stream = respond.send_response(Response::new(()), false)?;
            for part in ["one", "", "two"] {
                stream.send_data(Bytes::from_static(part.as_bytes()), false)?;
            }
            let trailers = [("x-sum", "1"), ("content-length", "9")];
            let trailers = trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            stream.send_trailers(HeaderMap::from_iter(trailers))?;
        }
        Act::Interim(count) => {
            for _ in 0..count {
                respond.send_informational(Response::builder().status(102).body(()).unwrap())?;
            }
            respond.send_response(Response::new(()), true)?;
        }
        Act::Echo => {
            let mut stream = respond.send_response(Response::new(()), false)?;
            while let Some(data) = body.data().await {
                let data = match data {
                    Ok(data) => data,
                    Err(error) => {
                        *seen.failure.lock().unwrap() = error.reason().map(u32::from);
                        seen.finish.notify_one();
                        return Err(error);
                    }
                };
                let _ = body.flow_control().release_capacity(data.len());
                stream.send_data(data, false)?;
            }
            stream.send_data(Bytes::new(), true)?;
        }
        Act::Break(text, code) => {
            let mut stream = respond.send_response(Response::new(()), false)?;
            stream.send_data(Bytes::from_static(text.as_bytes()), false)?;
            // A reset takes what was not sent by then with it.
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.send_reset(code.into());
        }
        Act::BreakConnection(text) => {
            let mut stream = respond.send_response(Response::new(()), false)?;
            stream.send_data(Bytes::from_static(text.as_bytes()), false)?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            close(raw, orders).await;
        }
        Act::Endless => {
            let mut stream = respond.send_response(Response::new(()), false)?;
            loop {
                stream.reserve_capacity(16 * 1024);
                match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                    Some(Ok(capacity)) => {
                        stream.send_data(Bytes::from(vec![b'x'; capacity]), false)?;
                        seen.sent.fetch_add(capacity, SeqCst);
                    }
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                }
            }
        }
    }
    Ok(())
}

fn write_goaway(raw: &mut std::net::TcpStream, last_stream: u32) {
    use std::io::Write;

    let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
    frame.extend(last_stream.to_be_bytes());
    frame.extend([0; 4]);
    raw.write_all(&frame).unwrap();
}

/// Closes the connection before h2 resets the stream.
async fn close(raw: &std::net::TcpStream, orders: &tokio::sync::mpsc::UnboundedSender<Order>) {
    raw.shutdown(std::net::Shutdown::Both).unwrap();
    let _ = orders.send(Order::Close);
    std::future::pending::<()>().await;
}

pub(crate) fn upstream(backend: &Backend) -> Upstream<Body> {
    Upstream::builder().backend(&backend.origin()).unwrap().timeout(Duration::from_secs(5)).build().unwrap()
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "a.example").body(Body::default()).unwrap()
}

pub(crate) fn post(content: &'static str) -> Request<Body> {
    Request::post("/").header("host", "a.example").body(Body::from(content)).unwrap()
}

/// A backend that answers the first request on each connection with these frames of stream 1, a moment after each other.
pub(crate) async fn raw_backend(parts: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("h2c://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let parts = parts.clone();
            tokio::spawn(async move {
                // SETTINGS, and the acknowledgement of the client's.
                socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]).await.unwrap();
                socket.read_exact(&mut [0; 24]).await.unwrap();
                loop {
                    let mut header = [0; 9];
                    if socket.read_exact(&mut header).await.is_err() {
                        return;
                    }
                    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
                    let _ = socket.read_exact(&mut vec![0; length as usize]).await;
                    if header[3] == HEADERS {
                        for part in &parts {
                            socket.write_all(part).await.unwrap();
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                }
            });
        }
    });
    origin
}

/// A frame of stream 1.
pub(crate) fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = payload.len().to_be_bytes();
    [&[high, middle, low, kind, flags, 0, 0, 0, 1], payload].concat()
}

/// A field, as HPACK has it without its tables.
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| match text.len() {
        length @ 0..127 => [&[length as u8], text.as_bytes()].concat(),
        length => {
            let rest = length - 127;
            [&[127, rest as u8 | 0x80, (rest >> 7) as u8 | 0x80, (rest >> 14) as u8], text.as_bytes()].concat()
        }
    };
    [vec![0], text(name), text(value)].concat()
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITY: u8 = 0x20;

/// The content of a response, or why it broke off.
pub(crate) async fn read<B>(response: Response<UpstreamBody<B>>) -> Result<Bytes, BodyError>
where
    B: http_body::Body + 'static,
    UpstreamBody<B>: http_body::Body<Data = Bytes, Error = BodyError>,
{
    Ok(response.into_body().collect().await?.to_bytes())
}
