//! Conformance cases of RFC 9113 and RFC 7541 for HTTP/2 servers.
//!
//! The cases are in the order of the public conformance suites, and as tolerant: if an error is required, a stream error, a
//! connection error or a closed connection passes. The file is included with `#[path]`, together with `h2.rs`.

use super::h2::{
    ACK, CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, field, settings,
};

/// A conformance case: a section of an RFC, and a test for it.
pub(crate) struct Case {
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    /// The HTTP/2 settings that the client sends.
    pub(crate) settings: &'static [(u16, u32)],
    /// A function that runs the case, and panics if the server does not conform.
    pub(crate) run: fn(&mut Client),
}

const fn case(section: &'static str, name: &'static str, run: fn(&mut Client)) -> Case {
    Case { section, name, settings: &[], run }
}

const fn case_with(
    section: &'static str,
    name: &'static str,
    settings: &'static [(u16, u32)],
    run: fn(&mut Client),
) -> Case {
    Case { section, name, settings, run }
}

// Error codes (RFC 9113 §7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const COMPRESSION_ERROR: u32 = 9;

// Flags of HEADERS (RFC 9113 §6.2).
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;
// Settings (RFC 9113 §6.5.2).
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;

const PUSH_PROMISE: u8 = 5;

fn head(method: &str) -> Vec<u8> {
    head_of(&[(":method", method), (":scheme", "https"), (":path", "/"), (":authority", "localhost")])
}

fn head_of(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

fn get() -> Vec<u8> {
    head("GET")
}

fn post() -> Vec<u8> {
    head("POST")
}

/// Returns the head of a GET request with additional fields.
fn get_with(fields: &[(&str, &str)]) -> Vec<u8> {
    [get(), head_of(fields)].concat()
}

impl Client {
    fn send_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) {
        self.send(&Frame::new(kind, flags, stream, payload.into()).bytes());
    }

    /// Sends a complete request without a body.
    fn send_request(&mut self, stream: u32, head: Vec<u8>) {
        self.send_frame(HEADERS, END_HEADERS | END_STREAM, stream, head);
    }

    /// Sends the head of a POST request without ending the stream.
    fn open_post(&mut self, stream: u32) {
        self.send_frame(HEADERS, END_HEADERS, stream, post());
    }

    /// Asserts that a complete response arrives on the stream.
    fn expect_response(&mut self, stream: u32) {
        let response = self.wait_for(|frame| is_head_or_error(frame, stream)).expect("a response before the end");
        assert_eq!(response.kind, HEADERS, "{response:?}");
        if response.flags & END_STREAM == 0 {
            let last = |frame: &Frame| frame.stream == stream && frame.flags & END_STREAM != 0 && frame.kind <= HEADERS;
            self.wait_for(|frame| last(frame) || frame.kind == GOAWAY).expect("a complete response");
        }
    }

    /// Asserts that the connection is open.
    fn expect_open(&mut self) {
        self.send_frame(PING, 0, 0, *b"h2 ping!");
        let pong = self.wait_for(|frame| is_pong(frame) || frame.kind == GOAWAY).expect("an open connection");
        assert_eq!((pong.kind, &pong.payload[..]), (PING, &b"h2 ping!"[..]));
    }

    /// Asserts that the connection closes with one of these error codes.
    ///
    /// PROTOCOL_ERROR also passes, because h2 often uses it instead of a more specific code, and the suites accept that.
    fn expect_connection_error(&mut self, errors: &[u32]) {
        match self.wait_for(|frame| frame.kind == GOAWAY) {
            Some(goaway) if !errors.contains(&code(&goaway)) => {
                assert_eq!(code(&goaway), PROTOCOL_ERROR, "{goaway:?}");
                self.wait_for_close();
            }
            _ => {}
        }
    }

    /// Asserts that the stream or the connection closes with one of these error codes.
    fn expect_stream_error(&mut self, errors: &[u32]) {
        match self.wait_for(|frame| frame.kind == GOAWAY || frame.kind == RST_STREAM) {
            Some(reset) if reset.kind == RST_STREAM => assert!(errors.contains(&code(&reset)), "{reset:?}"),
            Some(goaway) if !errors.contains(&code(&goaway)) => {
                assert_eq!(code(&goaway), PROTOCOL_ERROR, "{goaway:?}");
                self.wait_for_close();
            }
            _ => {}
        }
    }

    /// Asserts that a malformed message causes a stream or connection error.
    fn expect_malformed(&mut self, stream: u32) {
        match self.wait_for(|frame| is_head_or_error(frame, stream)) {
            Some(response) if response.kind == HEADERS => panic!("the request was served: {response:?}"),
            Some(frame) => assert_eq!(code(&frame), PROTOCOL_ERROR, "{frame:?}"),
            None => {}
        }
    }

    /// Asserts that the next DATA frame has this length.
    fn expect_data(&mut self, length: usize) {
        let data = self.wait_for(|frame| frame.kind == DATA || frame.kind == GOAWAY).expect("data before the end");
        assert_eq!((data.kind, data.payload.len()), (DATA, length));
    }
}

fn is_head_or_error(frame: &Frame, stream: u32) -> bool {
    frame.kind == GOAWAY || frame.stream == stream && (frame.kind == HEADERS || frame.kind == RST_STREAM)
}

fn is_pong(frame: &Frame) -> bool {
    frame.kind == PING && frame.flags & ACK != 0
}

/// Returns the error code in an RST_STREAM or GOAWAY frame.
fn code(frame: &Frame) -> u32 {
    let at = if frame.kind == GOAWAY { 4 } else { 0 };
    u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap())
}

fn word(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// Returns the payload of a PRIORITY frame with this dependency and weight.
fn priority(on: u32, weight: u8) -> Vec<u8> {
    [&word(on)[..], &[weight]].concat()
}

pub(crate) const CASES: &[Case] = &[
    // Generic cases.
    case("2", "PRIORITY on an idle stream is no error", |c| {
        c.send_frame(PRIORITY, 0, 1, priority(0, 255));
        c.send_request(1, get());
        c.expect_response(1);
    }),
    case("2", "WINDOW_UPDATE on a half-closed stream is no error", |c| {
        c.send_request(1, get());
        c.send_frame(WINDOW_UPDATE, 0, 1, word(100));
        c.expect_response(1);
    }),
    case("2", "PRIORITY on a half-closed stream is no error", |c| {
        c.send_request(1, get());
        c.send_frame(PRIORITY, 0, 1, priority(0, 255));
        c.expect_response(1);
    }),
    case("2", "RST_STREAM on a half-closed stream is no error", |c| {
        c.send_request(1, get());
        c.send_frame(RST_STREAM, 0, 1, word(CANCEL));
        c.expect_open();
    }),
    case("2", "PRIORITY on a closed stream is no error", |c| {
        c.send_request(1, get());
        c.expect_response(1);
        c.send_frame(PRIORITY, 0, 1, priority(0, 255));
        c.expect_open();
    }),
    case("3.1", "a DATA frame", |c| {
        c.open_post(1);
        c.send_frame(DATA, END_STREAM, 1, *b"test");
        c.expect_response(1);
    }),
    case("3.1", "several DATA frames", |c| {
        c.open_post(1);
        c.send_frame(DATA, 0, 1, *b"test");
        c.send_frame(DATA, END_STREAM, 1, *b"test");
        c.expect_response(1);
    }),
    case("3.1", "a DATA frame with padding", |c| {
        c.open_post(1);
        c.send_frame(DATA, END_STREAM | PADDED, 1, *b"\x04test\0\0\0\0");
        c.expect_response(1);
    }),
    case("3.2", "a HEADERS frame with padding", |c| {
        let payload = [&[6][..], &get(), &[0; 6]].concat();
        c.send_frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, payload);
        c.expect_response(1);
    }),
    case("3.2", "a HEADERS frame with priority", |c| {
        c.send_frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, [priority(0, 255), get()].concat());
        c.expect_response(1);
    }),
    case("3.3", "PRIORITY frames with each kind of weight and dependency", |c| {
        for payload in [priority(0, 0), priority(0, 255), priority(3, 15), priority(3 | 1 << 31, 15)] {
            c.send_frame(PRIORITY, 0, 1, payload);
        }
        c.send_request(1, get());
        c.expect_response(1);
    }),
    case("3.3", "PRIORITY on an idle stream does not close those before it", |c| {
        c.send_frame(PRIORITY, 0, 3, priority(0, 15));
        c.send_request(1, get());
        c.expect_response(1);
    }),
    case("3.4", "a RST_STREAM frame", |c| {
        c.open_post(1);
        c.send_frame(RST_STREAM, 0, 1, word(CANCEL));
        c.expect_open();
    }),
    case("3.5", "a SETTINGS frame", |c| {
        c.send(&settings(&[(MAX_CONCURRENT_STREAMS, 100)]));
        assert!(c.wait_for(|frame| frame.kind == SETTINGS && frame.flags & ACK != 0).is_some());
    }),
    case("3.7", "a PING frame", |c| c.expect_open()),
    case("3.8", "a GOAWAY frame", |c| {
        c.send_frame(GOAWAY, 0, 0, [word(0), word(0)].concat());
        c.send_frame(PING, 0, 0, *b"h2 ping!");
        if let Some(frame) = c.wait_for(|frame| is_pong(frame) || frame.kind == GOAWAY)
            && frame.kind == GOAWAY
        {
            assert_eq!(code(&frame), 0);
        }
    }),
    case("3.9", "WINDOW_UPDATE frames", |c| {
        c.send_frame(WINDOW_UPDATE, 0, 0, word(1));
        c.open_post(1);
        c.send_frame(WINDOW_UPDATE, 0, 1, word(1));
        c.send_frame(DATA, END_STREAM, 1, *b"test");
        c.expect_response(1);
    }),
    case("3.10", "CONTINUATION frames", |c| {
        c.send_frame(HEADERS, END_STREAM, 1, get());
        c.send_frame(CONTINUATION, 0, 1, field("x-one", "1"));
        c.send_frame(CONTINUATION, END_HEADERS, 1, field("x-two", "2"));
        c.expect_response(1);
    }),
    case("4", "GET, HEAD, POST, and POST with trailers", |c| {
        c.send_request(1, get());
        c.expect_response(1);
        c.send_request(3, head("HEAD"));
        c.expect_response(3);
        c.open_post(5);
        c.send_frame(DATA, END_STREAM, 5, *b"test");
        c.expect_response(5);
        c.open_post(7);
        c.send_frame(DATA, 0, 7, *b"test");
        c.send_frame(HEADERS, END_HEADERS | END_STREAM, 7, field("x-test", "ok"));
        c.expect_response(7);
    }),
    // RFC 7541.
    case("7541 2.3.2", "fields of each representation", |c| {
        // §6.1: `:method: GET` and `:scheme: https` by index; §6.2.1: with incremental indexing, with an indexed name and a
        // new name; §6.2.2 and §6.2.3: without indexing and never indexed. The second request uses the new indices.
        let text = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
        let path = [&[0x04][..], &text("/")].concat();
        let authority = [&[0x41][..], &text("localhost")].concat();
        let new = [&[0x40][..], &text("x-new"), &text("1")].concat();
        let never = [&[0x10][..], &text("x-never"), &text("2")].concat();
        let never_indexed = [&[0x1f, 0x04][..], &text("*/*")].concat();
        c.send_request(1, [&[0x82, 0x87][..], &path, &authority, &new, &never, &never_indexed].concat());
        c.expect_response(1);
        c.send_request(3, [&[0x82, 0x87][..], &path, &[0xbf, 0xbe]].concat());
        c.expect_response(3);
    }),
    case("7541 6.3", "table size updates at the start of a head", |c| {
        c.send_request(1, [&[0x20, 0x3f, 0xe1, 0x1f][..], &get()].concat());
        c.expect_response(1);
    }),
    case("7541 5.2", "a Huffman-coded string", |c| {
        // RFC 7541 C.4.1: www.example.com.
        let host = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        c.send_request(1, [&[0x82, 0x87, 0x84, 0x41, 0x8c][..], &host].concat());
        c.expect_response(1);
    }),
    case("7541 2.3.3", "an unused index", |c| {
        c.send_request(1, [get(), vec![0xff, 0x80, 0x01]].concat());
        c.expect_connection_error(&[COMPRESSION_ERROR]);
    }),
    case("7541 2.3.3", "an unused index of a name", |c| {
        c.send_request(1, [get(), vec![0x7f, 0x80, 0x01, 1, b'x']].concat());
        c.expect_connection_error(&[COMPRESSION_ERROR]);
    }),
    case("7541 4.2", "a table size update at the end of a head", |c| {
        c.send_request(1, [get(), vec![0x3f, 0x61]].concat());
        c.expect_connection_error(&[COMPRESSION_ERROR]);
    }),
    case("7541 5.2", "a Huffman-coded string with more than seven bits of padding", |c| {
        c.send_request(
            1,
            [&get()[..], &[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x84, 0x49, 0x50, 0x9f, 0xff]].concat(),
        );
        c.expect_connection_error(&[COMPRESSION_ERROR]);
    }),
    case("7541 5.2", "a Huffman-coded string padded with zeroes", |c| {
        c.send_request(1, [&get()[..], &[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x83, 0x49, 0x50, 0x90]].concat());
        c.expect_connection_error(&[COMPRESSION_ERROR]);
    }),
    case("7541 5.2", "a Huffman-coded string with the EOS symbol", |c| {
        let eos = [0x49, 0x50, 0x9f, 0xff, 0xff, 0xff, 0xff];
        c.send_request(1, [&get()[..], &[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x87], &eos].concat());
        c.expect_connection_error(&[COMPRESSION_ERROR]);
    }),
    case("7541 6.1", "the index 0", |c| {
        c.send_request(1, [get(), vec![0x80]].concat());
        c.expect_connection_error(&[COMPRESSION_ERROR]);
    }),
    case("7541 6.3", "a table size update above the limit", |c| {
        c.send_request(1, [vec![0x3f, 0xe1, 0xff, 0x03], get()].concat());
        c.expect_connection_error(&[COMPRESSION_ERROR]);
    }),
    // RFC 9113.
    case("4.1", "a frame of an unknown type is ignored", |c| {
        c.send_frame(0xbe, 0, 0, [0; 8]);
        c.expect_open();
    }),
    case("4.1", "undefined flags are ignored", |c| {
        c.send_frame(PING, 0x16, 0, *b"h2 ping!");
        assert!(c.wait_for(is_pong).is_some());
    }),
    case("4.1", "the reserved bit of the stream identifier is ignored", |c| {
        c.send_frame(PING, 0, 1 << 31, *b"h2 ping!");
        assert!(c.wait_for(is_pong).is_some());
    }),
    case("4.2", "a DATA frame of 2^14 bytes", |c| {
        c.open_post(1);
        c.send_frame(DATA, END_STREAM, 1, [b'x'; 16_384]);
        c.expect_response(1);
    }),
    case("4.2", "a DATA frame above the maximum size", |c| {
        c.open_post(1);
        c.send_frame(DATA, END_STREAM, 1, [b'x'; 16_385]);
        c.expect_stream_error(&[FRAME_SIZE_ERROR]);
    }),
    case("4.2", "a HEADERS frame above the maximum size", |c| {
        let large: Vec<u8> = (0..5).flat_map(|n| field(&format!("x-{n}"), &"y".repeat(4000))).collect();
        c.send_frame(HEADERS, END_HEADERS | END_STREAM, 1, [get(), large].concat());
        c.expect_connection_error(&[FRAME_SIZE_ERROR]);
    }),
    case("4.3", "an invalid field block", |c| {
        c.send_request(1, vec![0, 0xff, 0xff, 0xff]);
        c.expect_connection_error(&[COMPRESSION_ERROR]);
    }),
    case("4.3", "PRIORITY within a field block", |c| {
        c.send_frame(HEADERS, 0, 1, get());
        c.send_frame(PRIORITY, 0, 1, priority(0, 255));
        c.send_frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("4.3", "HEADERS of another stream within a field block", |c| {
        c.send_frame(HEADERS, 0, 1, get());
        c.send_frame(HEADERS, END_HEADERS | END_STREAM, 3, get());
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("5.1", "idle: DATA", |c| {
        c.send_frame(DATA, END_STREAM, 1, *b"test");
        c.expect_connection_error(&[PROTOCOL_ERROR, STREAM_CLOSED]);
    }),
    case("5.1", "idle: RST_STREAM", |c| {
        c.send_frame(RST_STREAM, 0, 1, word(CANCEL));
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("5.1", "idle: WINDOW_UPDATE", |c| {
        c.send_frame(WINDOW_UPDATE, 0, 1, word(100));
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("5.1", "idle: CONTINUATION", |c| {
        c.send_frame(CONTINUATION, END_HEADERS, 1, get());
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("5.1", "half-closed: DATA", |c| {
        c.send_request(1, get());
        c.send_frame(DATA, END_STREAM, 1, *b"test");
        c.expect_stream_error(&[STREAM_CLOSED]);
    }),
    case("5.1", "half-closed: HEADERS", |c| {
        c.send_request(1, get());
        c.send_request(1, get());
        c.expect_stream_error(&[STREAM_CLOSED]);
    }),
    case("5.1", "half-closed: CONTINUATION", |c| {
        c.send_request(1, get());
        c.send_frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.expect_connection_error(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    }),
    case("5.1", "closed by the client: DATA", |c| {
        c.open_post(1);
        c.send_frame(RST_STREAM, 0, 1, word(CANCEL));
        c.send_frame(DATA, END_STREAM, 1, *b"test");
        c.expect_stream_error(&[STREAM_CLOSED]);
    }),
    case("5.1", "closed by the client: HEADERS", |c| {
        c.open_post(1);
        c.send_frame(RST_STREAM, 0, 1, word(CANCEL));
        c.send_request(1, get());
        c.expect_stream_error(&[STREAM_CLOSED]);
    }),
    case("5.1", "closed by the client: CONTINUATION", |c| {
        c.open_post(1);
        c.send_frame(RST_STREAM, 0, 1, word(CANCEL));
        c.send_frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.expect_connection_error(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    }),
    case("5.1", "closed by both: DATA", |c| {
        c.send_request(1, get());
        c.expect_response(1);
        c.send_frame(DATA, END_STREAM, 1, *b"test");
        c.expect_stream_error(&[STREAM_CLOSED]);
    }),
    case("5.1", "closed by both: HEADERS", |c| {
        c.send_request(1, get());
        c.expect_response(1);
        c.send_request(1, get());
        c.expect_stream_error(&[STREAM_CLOSED]);
    }),
    case("5.1", "closed by both: CONTINUATION", |c| {
        c.send_request(1, get());
        c.expect_response(1);
        c.send_frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.expect_connection_error(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    }),
    case("5.1.1", "an even stream identifier", |c| {
        c.send_request(2, get());
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("5.1.1", "a decreasing stream identifier", |c| {
        c.send_request(5, get());
        c.send_request(3, get());
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case_with("5.1.2", "streams over the concurrency limit", &[(INITIAL_WINDOW_SIZE, 0)], |c| {
        for stream in (1..=2001).step_by(2) {
            c.send_request(stream, get());
        }
        c.expect_stream_error(&[PROTOCOL_ERROR, REFUSED_STREAM]);
    }),
    case("5.3.1", "HEADERS with a dependency on the same stream", |c| {
        c.send_frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, [priority(1, 255), get()].concat());
        c.expect_stream_error(&[PROTOCOL_ERROR]);
    }),
    case("5.3.1", "PRIORITY with a dependency on the same stream", |c| {
        c.send_frame(PRIORITY, 0, 2, priority(2, 255));
        c.expect_stream_error(&[PROTOCOL_ERROR]);
    }),
    case("5.4.1", "a connection error closes the connection", |c| {
        c.send_frame(PING, 0, 0, [0; 6]);
        c.wait_for_close();
    }),
    case("5.5", "an unknown frame within a field block", |c| {
        c.send_frame(HEADERS, END_STREAM, 1, get());
        c.send_frame(0xbe, 0, 0, [0; 8]);
        c.send_frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.1", "DATA on stream 0", |c| {
        c.send_frame(DATA, END_STREAM, 0, *b"test");
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.1", "DATA with more padding than payload", |c| {
        c.open_post(1);
        c.send_frame(DATA, END_STREAM | PADDED, 1, *b"\x08test");
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.2", "HEADERS on stream 0", |c| {
        c.send_request(0, get());
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.2", "HEADERS with more padding than payload", |c| {
        c.send_frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, [vec![255], get()].concat());
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.3", "PRIORITY on stream 0", |c| {
        c.send_frame(PRIORITY, 0, 0, priority(3, 15));
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.3", "PRIORITY of four bytes", |c| {
        c.send_frame(PRIORITY, 0, 1, [0; 4]);
        c.expect_stream_error(&[FRAME_SIZE_ERROR]);
    }),
    case("6.4", "RST_STREAM on stream 0", |c| {
        c.send_frame(RST_STREAM, 0, 0, word(CANCEL));
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.4", "RST_STREAM of three bytes", |c| {
        c.open_post(1);
        c.send_frame(RST_STREAM, 0, 1, [0; 3]);
        c.expect_connection_error(&[FRAME_SIZE_ERROR]);
    }),
    case("6.5", "a SETTINGS acknowledgement with a payload", |c| {
        c.send_frame(SETTINGS, ACK, 0, [0]);
        c.expect_connection_error(&[FRAME_SIZE_ERROR]);
    }),
    case("6.5", "SETTINGS on a stream", |c| {
        c.send_frame(SETTINGS, 0, 1, [0, 3, 0, 0, 0, 100]);
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.5", "SETTINGS with an incomplete setting", |c| {
        c.send_frame(SETTINGS, 0, 0, [0, 3, 0]);
        c.expect_connection_error(&[FRAME_SIZE_ERROR]);
    }),
    case("6.5.2", "ENABLE_PUSH of 2", |c| {
        c.send(&settings(&[(ENABLE_PUSH, 2)]));
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.5.2", "INITIAL_WINDOW_SIZE of 2^31", |c| {
        c.send(&settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]));
        c.expect_connection_error(&[FLOW_CONTROL_ERROR]);
    }),
    case("6.5.2", "MAX_FRAME_SIZE below 2^14", |c| {
        c.send(&settings(&[(MAX_FRAME_SIZE, 16_383)]));
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.5.2", "MAX_FRAME_SIZE of 2^24", |c| {
        c.send(&settings(&[(MAX_FRAME_SIZE, 1 << 24)]));
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.5.2", "an unknown setting is ignored", |c| {
        c.send(&settings(&[(0xff, 1)]));
        c.expect_open();
    }),
    case_with("6.5.3", "the last value of a repeated setting applies", &[], |c| {
        c.send(&settings(&[(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)]));
        assert!(c.wait_for(|frame| frame.kind == SETTINGS && frame.flags & ACK != 0).is_some());
        c.send_request(1, get());
        c.expect_data(1);
    }),
    case("6.7", "a PING acknowledgement gets no reply", |c| {
        c.send_frame(PING, ACK, 0, *b"invalid!");
        c.expect_open();
    }),
    case("6.7", "PING on a stream", |c| {
        c.send_frame(PING, 0, 1, [0; 8]);
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.7", "PING of six bytes", |c| {
        c.send_frame(PING, 0, 0, [0; 6]);
        c.expect_connection_error(&[FRAME_SIZE_ERROR]);
    }),
    case("6.8", "GOAWAY on a stream", |c| {
        c.send_frame(GOAWAY, 0, 1, [0; 8]);
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.9", "WINDOW_UPDATE with an increment of 0", |c| {
        c.send_frame(WINDOW_UPDATE, 0, 0, word(0));
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.9", "WINDOW_UPDATE on a stream with an increment of 0", |c| {
        c.open_post(1);
        c.send_frame(WINDOW_UPDATE, 0, 1, word(0));
        c.expect_stream_error(&[PROTOCOL_ERROR]);
    }),
    case("6.9", "WINDOW_UPDATE of three bytes", |c| {
        c.send_frame(WINDOW_UPDATE, 0, 0, [0, 0, 1]);
        c.expect_connection_error(&[FRAME_SIZE_ERROR]);
    }),
    case_with("6.9.1", "the server does not exceed the window", &[(INITIAL_WINDOW_SIZE, 1)], |c| {
        c.send_request(1, get());
        c.expect_data(1);
    }),
    case("6.9.1", "a window of more than 2^31 - 1", |c| {
        c.send_frame(WINDOW_UPDATE, 0, 0, word((1 << 31) - 1));
        c.send_frame(WINDOW_UPDATE, 0, 0, word((1 << 31) - 1));
        c.expect_connection_error(&[FLOW_CONTROL_ERROR]);
    }),
    case("6.9.1", "a stream's window of more than 2^31 - 1", |c| {
        c.open_post(1);
        c.send_frame(WINDOW_UPDATE, 0, 1, word((1 << 31) - 1));
        c.send_frame(WINDOW_UPDATE, 0, 1, word((1 << 31) - 1));
        c.expect_stream_error(&[FLOW_CONTROL_ERROR]);
    }),
    case_with("6.9.2", "the window of an open stream grows with the setting", &[(INITIAL_WINDOW_SIZE, 0)], |c| {
        c.send_request(1, get());
        assert!(c.wait_for(|frame| frame.kind == HEADERS).is_some());
        c.send(&settings(&[(INITIAL_WINDOW_SIZE, 1)]));
        c.expect_data(1);
    }),
    case_with("6.9.2", "a window may become negative", &[(INITIAL_WINDOW_SIZE, 3)], |c| {
        c.send_request(1, get());
        c.expect_data(3);
        c.send(&settings(&[(INITIAL_WINDOW_SIZE, 2)]));
        c.send_frame(WINDOW_UPDATE, 0, 1, word(2));
        c.expect_data(1);
    }),
    case("6.10", "CONTINUATION on stream 0", |c| {
        c.send_frame(HEADERS, END_STREAM, 1, get());
        c.send_frame(CONTINUATION, END_HEADERS, 0, field("x", "y"));
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.10", "CONTINUATION followed by DATA", |c| {
        c.send_frame(HEADERS, 0, 1, get());
        c.send_frame(CONTINUATION, 0, 1, field("x", "y"));
        c.send_frame(DATA, END_STREAM, 1, *b"test");
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.10", "CONTINUATION after the end of a field block", |c| {
        c.send_frame(HEADERS, END_HEADERS, 1, post());
        c.send_frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.10", "CONTINUATION after the last CONTINUATION", |c| {
        c.send_frame(HEADERS, 0, 1, post());
        c.send_frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.send_frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("6.10", "CONTINUATION after DATA", |c| {
        c.open_post(1);
        c.send_frame(DATA, 0, 1, *b"test");
        c.send_frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
    case("7", "unknown error codes are ignored", |c| {
        c.open_post(1);
        c.send_frame(RST_STREAM, 0, 1, word(0xff));
        c.expect_open();
        c.send_frame(GOAWAY, 0, 0, [word(0), word(0xff)].concat());
        c.send_frame(PING, 0, 0, *b"h2 ping!");
        if let Some(frame) = c.wait_for(|frame| is_pong(frame) || frame.kind == GOAWAY)
            && frame.kind == GOAWAY
        {
            assert_eq!(code(&frame), 0);
        }
    }),
    case("8.1", "trailers without END_STREAM", |c| {
        c.open_post(1);
        c.send_frame(HEADERS, END_HEADERS, 1, field("x", "y"));
        c.expect_malformed(1);
    }),
    case("8.2.1", "an upper-case field name", |c| {
        c.send_request(1, get_with(&[("X-TEST", "ok")]));
        c.expect_malformed(1);
    }),
    case("8.3", "an unknown pseudo-header field", |c| {
        c.send_request(1, get_with(&[(":test", "ok")]));
        c.expect_malformed(1);
    }),
    case("8.3", "a pseudo-header field for responses", |c| {
        c.send_request(1, get_with(&[(":status", "200")]));
        c.expect_malformed(1);
    }),
    case("8.3", "a pseudo-header field in a trailer", |c| {
        c.open_post(1);
        c.send_frame(DATA, 0, 1, *b"test");
        // Without END_STREAM, as in the suites. With it, h2 ignores the field.
        c.send_frame(HEADERS, END_HEADERS, 1, head_of(&[(":method", "200")]));
        c.expect_malformed(1);
    }),
    case("8.3", "a pseudo-header field after a regular field", |c| {
        c.send_request(
            1,
            head_of(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "localhost"),
                ("x-test", "ok"),
                (":path", "/"),
            ]),
        );
        c.expect_malformed(1);
    }),
    case("8.2.2", "a connection-specific field", |c| {
        c.send_request(1, get_with(&[("connection", "keep-alive")]));
        c.expect_malformed(1);
    }),
    case("8.2.2", "TE with another value than trailers", |c| {
        c.send_request(1, get_with(&[("te", "trailers, deflate")]));
        c.expect_malformed(1);
    }),
    case("8.3.1", "an empty path", |c| {
        c.send_request(
            1,
            head_of(&[(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "")]),
        );
        c.expect_malformed(1);
    }),
    case("8.3.1", "no method", |c| {
        c.send_request(1, head_of(&[(":scheme", "https"), (":authority", "localhost"), (":path", "/")]));
        c.expect_malformed(1);
    }),
    case("8.3.1", "no scheme", |c| {
        c.send_request(1, head_of(&[(":method", "GET"), (":authority", "localhost"), (":path", "/")]));
        c.expect_malformed(1);
    }),
    case("8.3.1", "no path", |c| {
        c.send_request(1, head_of(&[(":method", "GET"), (":scheme", "https"), (":authority", "localhost")]));
        c.expect_malformed(1);
    }),
    case("8.3.1", "two methods", |c| {
        c.send_request(1, [head_of(&[(":method", "GET")]), get()].concat());
        c.expect_malformed(1);
    }),
    case("8.3.1", "two schemes", |c| {
        c.send_request(1, [head_of(&[(":scheme", "https")]), get()].concat());
        c.expect_malformed(1);
    }),
    case("8.3.1", "two paths", |c| {
        c.send_request(1, [head_of(&[(":path", "/")]), get()].concat());
        c.expect_malformed(1);
    }),
    case("8.1.1", "less content than Content-Length", |c| {
        c.send_frame(HEADERS, END_HEADERS, 1, [post(), field("content-length", "8")].concat());
        c.send_frame(DATA, END_STREAM, 1, *b"test");
        c.expect_stream_error(&[PROTOCOL_ERROR]);
    }),
    case("8.1.1", "more content than Content-Length", |c| {
        c.send_frame(HEADERS, END_HEADERS, 1, [post(), field("content-length", "1")].concat());
        c.send_frame(DATA, END_STREAM, 1, *b"test");
        c.expect_stream_error(&[PROTOCOL_ERROR]);
    }),
    case("8.1.1", "more content than Content-Length in several frames", |c| {
        c.send_frame(HEADERS, END_HEADERS, 1, [post(), field("content-length", "4")].concat());
        c.send_frame(DATA, 0, 1, *b"te");
        c.send_frame(DATA, END_STREAM, 1, *b"st!");
        c.expect_stream_error(&[PROTOCOL_ERROR]);
    }),
    case("8.4", "PUSH_PROMISE from a client", |c| {
        c.send_frame(PUSH_PROMISE, END_HEADERS, 1, [&word(2)[..], &get()].concat());
        c.expect_connection_error(&[PROTOCOL_ERROR]);
    }),
];

/// Runs each conformance case on a separate connection, and panics with a list of the failed cases.
pub(crate) fn run(connect: impl Fn() -> Client) {
    let mut failed = Vec::new();
    for case in CASES {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (case.run)(&mut connect().handshake(case.settings));
        }));
        if let Err(panic) = result {
            let reason = panic.downcast_ref::<String>().map_or("", String::as_str);
            failed.push(format!("§{} {}: {reason}", case.section, case.name));
        }
    }
    eprintln!("{} passed, {} failed", CASES.len() - failed.len(), failed.len());
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), CASES.len(), failed.join("\n"));
}
