//! HTTP/2 test backends with scripted responses and frames.
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

/// The action of a test backend on receipt of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// A complete response with this text.
    Respond(&'static str),
    /// A response with this text whose body stays open until [`Backend::finish`] is called.
    OpenResponse(&'static str),
    /// An endless response, sent as fast as the flow-control windows allow.
    EndlessResponse,
    /// No response to the request.
    NoResponse,
    /// RST_STREAM with this error code instead of a response.
    Reset(u32),
    /// RST_STREAM with this error code after a part of the response.
    ResetWithinResponse(&'static str, u32),
    /// Closing the connection instead of sending a response.
    Close,
    /// Closing the connection after a part of the response.
    CloseWithinResponse(&'static str),
    /// GOAWAY with a last stream identifier before this request, then closing the connection.
    GoAwayUnprocessed,
    /// An interim response, then [`Action::GoAwayUnprocessed`].
    InterimThenGoAwayUnprocessed,
    /// An interim response, then RST_STREAM with this error code.
    InterimThenReset(u32),
    /// GOAWAY, and a response with this text whose body stays open until [`Backend::finish`] is called.
    GoAwayThenOpenResponse(&'static str),
    /// A complete response with this text, then GOAWAY.
    RespondThenGoAway(&'static str),
    /// A complete response before the content of the request is read, then RST_STREAM with NO_ERROR.
    EarlyResponse(&'static str),
    /// A response with this text and this `content-length`.
    DeclaredLength(&'static str, u64),
    /// A response with this number of header fields of this size.
    Fields(usize, usize),
    /// A response with this status and a `content-length`, without content.
    Status(u16),
    /// An interim response with `link`, then a response with two DATA frames, an empty DATA frame between them, and a
    /// trailer section.
    InterimAndTrailers,
    /// This number of interim responses, then a final response.
    Interim(usize),
    /// A response that echoes the request body, and ends or fails when the request body does.
    Echo,
}

/// The limits of an HTTP/2 test backend.
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

    /// Limits the number of connections that the backend accepts in total.
    pub(crate) fn max_connections(self, connections: usize) -> Self {
        Self { connections: Some(connections), ..self }
    }

    /// Limits the requests per connection, as `keepalive_requests` in nginx does.
    pub(crate) fn max_requests(self, requests: usize) -> Self {
        Self { requests: Some(requests), ..self }
    }

    pub(crate) fn connection_window(self, bytes: u32) -> Self {
        Self { connection_window: Some(bytes), ..self }
    }
}

/// A test backend for HTTP/2 without TLS.
pub(crate) struct Backend {
    address: SocketAddr,
    observations: Arc<Observations>,
}

/// The counters and records of a test backend.
#[derive(Default)]
struct Observations {
    connections: AtomicUsize,
    requests: AtomicUsize,
    streams: AtomicUsize,
    max_concurrent_streams: AtomicUsize,
    bodies: Mutex<Vec<Bytes>>,
    sent: AtomicUsize,
    finish: Notify,
    failure: Mutex<Option<u32>>,
}

/// A command to the task that serves a connection.
enum Command {
    Close,
    GoAway,
}

type Script = Arc<dyn Fn(&Request<()>, usize) -> Action + Send + Sync>;

impl Backend {
    pub(crate) async fn start(
        server: Server,
        script: impl Fn(&Request<()>, usize) -> Action + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (observations, script): (Arc<Observations>, Script) = (Arc::default(), Arc::new(script));
        let shared = Arc::clone(&observations);
        tokio::spawn(async move {
            while server.connections != Some(shared.connections.load(SeqCst))
                && let Ok((stream, _)) = listener.accept().await
            {
                shared.connections.fetch_add(1, SeqCst);
                tokio::spawn(serve(stream, server, Arc::clone(&shared), Arc::clone(&script)));
            }
        });
        Self { address, observations }
    }

    pub(crate) fn origin(&self) -> String {
        format!("h2c://{}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.observations.connections.load(SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.observations.requests.load(SeqCst)
    }

    /// Returns the largest number of concurrent streams on any connection.
    pub(crate) fn max_concurrent_streams(&self) -> usize {
        self.observations.max_concurrent_streams.load(SeqCst)
    }

    pub(crate) fn bodies(&self) -> Vec<Bytes> {
        self.observations.bodies.lock().unwrap().clone()
    }

    /// Waits until a request body fails, and returns the error code of its RST_STREAM.
    pub(crate) async fn failure(&self) -> Option<u32> {
        self.observations.finish.notified().await;
        *self.observations.failure.lock().unwrap()
    }

    /// Ends all responses whose body is open.
    pub(crate) fn finish(&self) {
        self.observations.finish.notify_waiters();
    }

    /// Waits until flow control blocks all endless responses.
    pub(crate) async fn wait_until_stalled(&self) {
        let (mut before, mut since) = (0, Instant::now());
        while since.elapsed() < Duration::from_millis(200) {
            let sent = self.observations.sent.load(SeqCst);
            if sent != before {
                (before, since) = (sent, Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn serve(stream: TcpStream, server: Server, observations: Arc<Observations>, script: Script) {
    let stream = stream.into_std().unwrap();
    // For frames that h2 would not send.
    let raw = stream.try_clone().unwrap();
    let mut builder = h2::server::Builder::new();
    if let Some(streams) = server.streams {
        builder.max_concurrent_streams(streams);
    }
    if let Some(bytes) = server.connection_window {
        builder.initial_connection_window_size(bytes);
    }
    let Ok(mut connection) = builder.handshake(TcpStream::from_std(stream).unwrap()).await else { return };
    let (commands, mut command_receiver) = tokio::sync::mpsc::unbounded_channel();
    let streams = Arc::new(AtomicUsize::new(0));
    let mut accepted_requests = 0;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            command = command_receiver.recv() => match command {
                Some(Command::GoAway) => {
                    connection.graceful_shutdown();
                    continue;
                }
                Some(Command::Close) | None => return,
            },
        };
        let Some(Ok((request, respond))) = accepted else { return };
        accepted_requests += 1;
        if let Some(max) = server.requests {
            if accepted_requests == max {
                let id = request.body().stream_id().as_u32();
                write_goaway(&mut raw.try_clone().unwrap(), id);
            } else if accepted_requests > max {
                continue;
            }
        }
        let number = observations.requests.fetch_add(1, SeqCst);
        let (head, body) = request.into_parts();
        let action = script(&Request::from_parts(head, ()), number);
        let now = streams.fetch_add(1, SeqCst) + 1;
        observations.max_concurrent_streams.fetch_max(now, SeqCst);
        let (observations, streams, commands) = (Arc::clone(&observations), Arc::clone(&streams), commands.clone());
        let mut raw = raw.try_clone().unwrap();
        tokio::spawn(async move {
            let id = body.stream_id().as_u32();
            let _ = perform(action, body, respond, &observations, &commands, id, &mut raw).await;
            streams.fetch_sub(1, SeqCst);
        });
    }
}

async fn perform(
    action: Action,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    observations: &Observations,
    commands: &tokio::sync::mpsc::UnboundedSender<Command>,
    id: u32,
    raw: &mut std::net::TcpStream,
) -> Result<(), h2::Error> {
    match action {
        Action::Reset(code) => respond.send_reset(code.into()),
        Action::Close => close(raw, commands).await,
        Action::InterimThenReset(code) => {
            respond.send_informational(Response::builder().status(103).body(()).unwrap())?;
            // A reset discards unsent frames, so they are sent first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            respond.send_reset(code.into());
        }
        Action::GoAwayUnprocessed | Action::InterimThenGoAwayUnprocessed => {
            if matches!(action, Action::InterimThenGoAwayUnprocessed) {
                respond.send_informational(Response::builder().status(103).body(()).unwrap())?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            write_goaway(raw, id.saturating_sub(2));
            drop(commands.send(Command::Close));
        }
        Action::NoResponse => std::future::poll_fn(|cx| respond.poll_reset(cx).map(drop)).await,
        Action::Respond(text) | Action::RespondThenGoAway(text) => {
            let mut content = Vec::new();
            while let Some(data) = body.data().await {
                let data = data?;
                let _ = body.flow_control().release_capacity(data.len());
                content.extend_from_slice(&data);
            }
            observations.bodies.lock().unwrap().push(content.into());
            respond.send_response(Response::new(()), false)?.send_data(Bytes::from_static(text.as_bytes()), true)?;
            if matches!(action, Action::RespondThenGoAway(_)) {
                let _ = commands.send(Command::GoAway);
            }
        }
        Action::OpenResponse(text) | Action::GoAwayThenOpenResponse(text) => {
            if matches!(action, Action::GoAwayThenOpenResponse(_)) {
                let _ = commands.send(Command::GoAway);
            }
            let mut stream = respond.send_response(Response::new(()), false)?;
            stream.send_data(Bytes::from_static(text.as_bytes()), false)?;
            tokio::select! {
                () = observations.finish.notified() => stream.send_data(Bytes::new(), true)?,
                _ = std::future::poll_fn(|cx| stream.poll_reset(cx)) => {}
            }
        }
        Action::EarlyResponse(text) => {
            respond.send_response(Response::new(()), false)?.send_data(Bytes::from_static(text.as_bytes()), true)?;
        }
        Action::DeclaredLength(text, length) => {
            let response = Response::builder().header("content-length", length).body(()).unwrap();
            respond.send_response(response, false)?.send_data(Bytes::from_static(text.as_bytes()), true)?;
        }
        Action::Fields(count, size) => {
            let fields = (0..count).map(|number| (format!("x-{number}"), "v".repeat(size)));
            let response = fields.fold(Response::builder(), |response, (name, value)| response.header(name, value));
            respond.send_response(response.body(()).unwrap(), true)?;
        }
        Action::Status(status) => {
            let response = Response::builder().status(status).header("content-length", 5).body(()).unwrap();
            respond.send_response(response, true)?;
        }
        Action::InterimAndTrailers => {
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
        Action::Interim(count) => {
            for _ in 0..count {
                respond.send_informational(Response::builder().status(102).body(()).unwrap())?;
            }
            respond.send_response(Response::new(()), true)?;
        }
        Action::Echo => {
            let mut stream = respond.send_response(Response::new(()), false)?;
            while let Some(data) = body.data().await {
                let data = match data {
                    Ok(data) => data,
                    Err(error) => {
                        *observations.failure.lock().unwrap() = error.reason().map(u32::from);
                        observations.finish.notify_one();
                        return Err(error);
                    }
                };
                let _ = body.flow_control().release_capacity(data.len());
                stream.send_data(data, false)?;
            }
            stream.send_data(Bytes::new(), true)?;
        }
        Action::ResetWithinResponse(text, code) => {
            let mut stream = respond.send_response(Response::new(()), false)?;
            stream.send_data(Bytes::from_static(text.as_bytes()), false)?;
            // A reset discards unsent frames, so they are sent first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.send_reset(code.into());
        }
        Action::CloseWithinResponse(text) => {
            let mut stream = respond.send_response(Response::new(()), false)?;
            stream.send_data(Bytes::from_static(text.as_bytes()), false)?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            close(raw, commands).await;
        }
        Action::EndlessResponse => {
            let mut stream = respond.send_response(Response::new(()), false)?;
            loop {
                stream.reserve_capacity(16 * 1024);
                match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                    Some(Ok(capacity)) => {
                        stream.send_data(Bytes::from(vec![b'x'; capacity]), false)?;
                        observations.sent.fetch_add(capacity, SeqCst);
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

/// Closes the connection without an RST_STREAM from the h2 crate.
async fn close(raw: &std::net::TcpStream, commands: &tokio::sync::mpsc::UnboundedSender<Command>) {
    raw.shutdown(std::net::Shutdown::Both).unwrap();
    let _ = commands.send(Command::Close);
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

/// Starts a backend that responds with these bytes, with a short delay after each part, and returns its origin.
pub(crate) async fn raw_backend(parts: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("h2c://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let parts = parts.clone();
            tokio::spawn(async move {
                // SETTINGS, and the acknowledgement of the SETTINGS of the client.
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

/// Returns the bytes of an HTTP/2 frame on stream 1.
pub(crate) fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = payload.len().to_be_bytes();
    [&[high, middle, low, kind, flags, 0, 0, 0, 1], payload].concat()
}

/// Returns an HPACK literal field without indexing.
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

/// Returns the content of a response, or the error of its body.
pub(crate) async fn read<B>(response: Response<UpstreamBody<B>>) -> Result<Bytes, BodyError>
where
    B: http_body::Body + 'static,
    UpstreamBody<B>: http_body::Body<Data = Bytes, Error = BodyError>,
{
    Ok(response.into_body().collect().await?.to_bytes())
}
