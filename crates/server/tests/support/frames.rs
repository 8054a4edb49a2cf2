//! A test client for HTTP/2 that sends and receives individual frames.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The HTTP/2 connection preface of a client (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The timeout of all waits in tests, which a passing test never reaches.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the TLS configuration of an HTTP/2 client that trusts the CAs in `roots`.
pub(crate) fn config(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(client)
}

pub(crate) struct Client {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
    is_at_end: bool,
    replies_to_pings: bool,
    has_received_goaway: bool,
    /// The initial stream window in the server's settings.
    stream_window: usize,
}

trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    socket.set_write_timeout(Some(TIMEOUT)).unwrap();
    socket
}

impl Client {
    /// Connects without TLS, and without starting the HTTP/2 handshake.
    pub(crate) fn connect_plaintext(address: SocketAddr) -> Self {
        Self::over(connect(address))
    }

    /// Creates a client for a connected TCP socket.
    pub(crate) fn over(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Self::new(Box::new(socket))
    }

    /// Connects to `localhost` with TLS, but without starting the HTTP/2 handshake.
    pub(crate) fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let socket = connect(address);
        let session = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            match stream.conn.complete_io(&mut stream.sock) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
                _ => {}
            }
        }
        Self::new(Box::new(stream))
    }

    fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            read: Vec::new(),
            is_at_end: false,
            replies_to_pings: false,
            has_received_goaway: false,
            stream_window: 65_535,
        }
    }

    /// Exchanges HTTP/2 prefaces and settings with the server.
    pub(crate) fn handshake(mut self, with: &[(u16, u32)]) -> Self {
        self.send(PREFACE);
        self.send(&settings(with));
        self.wait_for(|frame| frame.kind == SETTINGS && frame.flags == ACK).expect("the settings are acknowledged");
        // The server's settings take effect with this acknowledgement (RFC 9113 §6.5.3).
        self.send(&Frame::new(SETTINGS, ACK, 0, vec![]).bytes());
        self
    }

    /// Makes the client reply to PING frames.
    pub(crate) fn with_ping_replies(mut self) -> Self {
        self.replies_to_pings = true;
        self
    }

    /// Returns the initial window of a stream in the server's settings.
    pub(crate) fn stream_window(&self) -> usize {
        self.stream_window
    }

    /// Returns whether the client has received a GOAWAY frame.
    pub(crate) fn has_received_goaway(&self) -> bool {
        self.has_received_goaway
    }

    /// Sends bytes, and ignores errors, because the server may have closed the connection.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }

    /// Sends a request with a head of any size and without content.
    pub(crate) fn request(&mut self, stream: u32, head: &[u8]) {
        self.head(stream, head, true);
    }

    /// Sends a request head or trailers of any size.
    pub(crate) fn head(&mut self, stream: u32, head: &[u8], is_end: bool) {
        let mut pieces = head.chunks(16_384).peekable();
        let mut kind = HEADERS;
        let end_stream = if is_end { END_STREAM } else { 0 };
        while let Some(piece) = pieces.next() {
            let end = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            let flags = if kind == HEADERS { end | end_stream } else { end };
            self.send(&Frame::new(kind, flags, stream, piece.to_vec()).bytes());
            kind = CONTINUATION;
        }
    }

    /// Sends `bytes` repeatedly, and returns whether the server closes the connection.
    pub(crate) fn flood(&mut self, bytes: &[u8], times: usize) -> bool {
        let batch = bytes.repeat(times.min(100));
        for _ in 0..times.div_ceil(100) {
            if self.stream.write_all(&batch).is_err() {
                return true;
            }
            self.read_available();
            self.read.clear();
            if self.is_at_end {
                return true;
            }
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        while !self.is_at_end && Instant::now() < deadline {
            self.read_available();
            self.read.clear();
        }
        self.is_at_end
    }

    /// Waits for a matching frame, and discards the frames before it. Returns `None` if the connection closes.
    pub(crate) fn wait_for(&mut self, is_match: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            while let Some(frame) = self.next() {
                if is_match(&frame) {
                    return Some(frame);
                }
            }
            if self.is_at_end {
                return None;
            }
            assert!(Instant::now() < deadline, "timed out waiting for a frame");
            self.read_available();
        }
    }

    /// Waits until the connection closes, and returns the error code of the GOAWAY frame, if any.
    pub(crate) fn wait_for_goaway(&mut self) -> Option<u32> {
        let goaway = self.wait_for(|frame| frame.kind == GOAWAY);
        self.wait_for_close();
        goaway.map(|goaway| u32::from_be_bytes(goaway.payload[4..8].try_into().unwrap()))
    }

    /// Waits until the server closes the connection.
    pub(crate) fn wait_for_close(&mut self) {
        while self.wait_for(|_| false).is_some() {}
    }

    /// Asserts that the connection stays open without GOAWAY for a given time.
    pub(crate) fn expect_open_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.read_available();
            while self.next().is_some() {}
            assert!(!self.is_at_end && !self.has_received_goaway);
        }
    }

    fn next(&mut self) -> Option<Frame> {
        let (head, rest) = self.read.split_first_chunk::<9>()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = rest.get(..length)?.to_vec();
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        self.read.drain(..9 + length);
        self.has_received_goaway |= frame.kind == GOAWAY;
        if frame.kind == SETTINGS {
            // RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE.
            let window = frame.payload.chunks(6).find(|setting| setting[..2] == [0, 4]);
            let window = window.map(|setting| u32::from_be_bytes(setting[2..6].try_into().unwrap()) as usize);
            self.stream_window = window.unwrap_or(self.stream_window);
        }
        if self.replies_to_pings && frame.kind == PING && frame.flags == 0 {
            self.send(&Frame::new(PING, ACK, 0, frame.payload.clone()).bytes());
        }
        Some(frame)
    }

    /// Reads the available bytes, or waits up to 20 ms for some.
    fn read_available(&mut self) {
        let mut bytes = [0; 16_384];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.is_at_end = true,
            Ok(read) => self.read.extend_from_slice(&bytes[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => self.is_at_end = true,
        }
    }
}

/// An HTTP/2 frame (RFC 9113 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: Vec<u8>) -> Self {
        Self { kind, flags, stream, payload }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let [_, high, middle, low] = (self.payload.len() as u32).to_be_bytes();
        let head = [high, middle, low, self.kind, self.flags];
        [&head[..], &self.stream.to_be_bytes(), &self.payload].concat()
    }
}

/// Returns a SETTINGS frame with these settings (RFC 9113 §6.5).
pub(crate) fn settings(with: &[(u16, u32)]) -> Vec<u8> {
    let payload = with.iter().flat_map(|(name, value)| {
        let [name, value] = [&name.to_be_bytes()[..], &value.to_be_bytes()[..]];
        [name, value].concat()
    });
    Frame::new(SETTINGS, 0, 0, payload.collect()).bytes()
}

/// Returns the HPACK-encoded head of a GET request.
pub(crate) fn get(path: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// Encodes a header field as an HPACK literal without indexing (RFC 7541 §6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    literal(name.as_bytes(), value.as_bytes())
}

/// Encodes a header field of arbitrary bytes as an HPACK literal.
pub(crate) fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        // RFC 7541 §5.1: an integer with a prefix of seven bits.
        match text.len() {
            short @ ..127 => bytes.push(short as u8),
            mut long => {
                bytes.push(127);
                long -= 127;
                while long >= 128 {
                    bytes.push((long % 128) as u8 | 128);
                    long /= 128;
                }
                bytes.push(long as u8);
            }
        }
        bytes.extend(text);
    }
    bytes
}

/// Decodes the status of an HPACK-encoded response head, which must be its first field.
pub(crate) fn status(head: &[u8]) -> String {
    // Skips updates of the table size (RFC 7541 §6.3).
    let first = head.iter().position(|byte| byte & 0xe0 != 0x20).unwrap();
    // RFC 7541, appendix A: the statuses in the static table, starting at index 8.
    const STATUSES: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
    match &head[first..] {
        [indexed @ 0x88..=0x8e, ..] => STATUSES[usize::from(indexed - 0x88)].to_owned(),
        [_, length, coded @ ..] => huffman_digits(&coded[..usize::from(length & 0x7f)]),
        other => panic!("{other:02x?}"),
    }
}

/// Decodes three digits in the Huffman code of HPACK (RFC 7541, appendix B).
///
/// The digits `0` to `2` have five bits, `3` to `9` have six.
fn huffman_digits(coded: &[u8]) -> String {
    let bits: String = coded.iter().map(|byte| format!("{byte:08b}")).collect();
    let mut rest = bits.as_str();
    let mut digits = String::new();
    while digits.len() < 3 {
        let five = u8::from_str_radix(&rest[..5], 2).unwrap();
        let (digit, length) = match five {
            0..=2 => (five, 5),
            _ => (u8::from_str_radix(&rest[..6], 2).unwrap() - 0x19 + 3, 6),
        };
        digits.push(char::from(b'0' + digit));
        rest = &rest[length..];
    }
    digits
}
