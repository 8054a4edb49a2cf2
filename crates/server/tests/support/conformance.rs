//! What RFC 9113 and RFC 7541 ask of a server, case by case, in the order and with the tolerance of the public
//! conformance suites: where an error is due, the stream's, the connection's, or the end of the connection will do.
//!
//! Included with `#[path]`, beside `h2.rs`, by whatever serves HTTP/2.

use super::h2::{
    ACK, CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, field, settings,
};

/// One case.
pub(crate) struct Case {
    pub(crate) section: &'static str,
    pub(crate) what: &'static str,
    /// Those of the client.
    pub(crate) settings: &'static [(u16, u32)],
    /// Talks, and panics where the answer is not what it has to be.
    pub(crate) talk: fn(&mut Client),
}

const fn case(section: &'static str, what: &'static str, talk: fn(&mut Client)) -> Case {
    Case { section, what, settings: &[], talk }
}

const fn case_with(
    section: &'static str,
    what: &'static str,
    settings: &'static [(u16, u32)],
    talk: fn(&mut Client),
) -> Case {
    Case { section, what, settings, talk }
}

// RFC 9113 §7.
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const COMPRESSION_ERROR: u32 = 9;

// RFC 9113 §6.2.
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;
// RFC 9113 §6.5.2.
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

/// With fields after a sound head.
fn get_with(fields: &[(&str, &str)]) -> Vec<u8> {
    [get(), head_of(fields)].concat()
}

impl Client {
    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) {
        self.send(&Frame::new(kind, flags, stream, payload.into()).bytes());
    }

    /// A whole request without a body.
    fn ask(&mut self, stream: u32, head: Vec<u8>) {
        self.frame(HEADERS, END_HEADERS | END_STREAM, stream, head);
    }

    /// A request whose body is to come.
    fn begin(&mut self, stream: u32) {
        self.frame(HEADERS, END_HEADERS, stream, post());
    }

    /// The response of this stream comes whole.
    fn is_served(&mut self, stream: u32) {
        let answer = self.until(|frame| is_head_or_error(frame, stream)).expect("an answer before the end");
        assert_eq!(answer.kind, HEADERS, "{answer:?}");
        if answer.flags & END_STREAM == 0 {
            let last = |frame: &Frame| frame.stream == stream && frame.flags & END_STREAM != 0 && frame.kind <= HEADERS;
            self.until(|frame| last(frame) || frame.kind == GOAWAY).expect("a whole answer");
        }
    }

    /// The connection goes on.
    fn goes_on(&mut self) {
        self.frame(PING, 0, 0, *b"h2 ping!");
        let pong = self.until(|frame| is_pong(frame) || frame.kind == GOAWAY).expect("a connection");
        assert_eq!((pong.kind, &pong.payload[..]), (PING, &b"h2 ping!"[..]));
    }

    /// The connection ends, with one of these errors or with a more general one. (h2 says PROTOCOL_ERROR of much that
    /// has a name of its own, and closes; that is taken by the suites, too.)
    fn is_refused(&mut self, errors: &[u32]) {
        match self.until(|frame| frame.kind == GOAWAY) {
            Some(goaway) if !errors.contains(&code(&goaway)) => {
                assert_eq!(code(&goaway), PROTOCOL_ERROR, "{goaway:?}");
                self.ends();
            }
            _ => {}
        }
    }

    /// The stream ends with one of these errors, or the connection does.
    fn is_reset(&mut self, errors: &[u32]) {
        match self.until(|frame| frame.kind == GOAWAY || frame.kind == RST_STREAM) {
            Some(reset) if reset.kind == RST_STREAM => assert!(errors.contains(&code(&reset)), "{reset:?}"),
            Some(goaway) if !errors.contains(&code(&goaway)) => {
                assert_eq!(code(&goaway), PROTOCOL_ERROR, "{goaway:?}");
                self.ends();
            }
            _ => {}
        }
    }

    /// As `is_reset`, or an answer that says that the request was bad: the message was malformed, not the frames.
    fn is_malformed(&mut self, stream: u32) {
        let answer = self.until(|frame| is_head_or_error(frame, stream));
        match answer {
            Some(answer) if answer.kind == HEADERS => panic!("it was served: {answer:?}"),
            Some(frame) => assert_eq!(code(&frame), PROTOCOL_ERROR, "{frame:?}"),
            None => {}
        }
    }

    /// The next DATA frame has this length.
    fn gets(&mut self, length: usize) {
        let data = self.until(|frame| frame.kind == DATA || frame.kind == GOAWAY).expect("data before the end");
        assert_eq!((data.kind, data.payload.len()), (DATA, length));
    }
}

fn is_head_or_error(frame: &Frame, stream: u32) -> bool {
    frame.kind == GOAWAY || frame.stream == stream && (frame.kind == HEADERS || frame.kind == RST_STREAM)
}

fn is_pong(frame: &Frame) -> bool {
    frame.kind == PING && frame.flags & ACK != 0
}

/// The error code, which comes last but for what GOAWAY adds for people.
fn code(frame: &Frame) -> u32 {
    let at = if frame.kind == GOAWAY { 4 } else { 0 };
    u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap())
}

fn word(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// The payload of a PRIORITY frame.
fn priority(on: u32, weight: u8) -> Vec<u8> {
    [&word(on)[..], &[weight]].concat()
}

pub(crate) const CASES: &[Case] = &[
    // What every server does.
    case("2", "PRIORITY on an idle stream is no error", |c| {
        c.frame(PRIORITY, 0, 1, priority(0, 255));
        c.ask(1, get());
        c.is_served(1);
    }),
    case("2", "WINDOW_UPDATE on a half-closed stream is no error", |c| {
        c.ask(1, get());
        c.frame(WINDOW_UPDATE, 0, 1, word(100));
        c.is_served(1);
    }),
    case("2", "PRIORITY on a half-closed stream is no error", |c| {
        c.ask(1, get());
        c.frame(PRIORITY, 0, 1, priority(0, 255));
        c.is_served(1);
    }),
    case("2", "RST_STREAM on a half-closed stream is no error", |c| {
        c.ask(1, get());
        c.frame(RST_STREAM, 0, 1, word(CANCEL));
        c.goes_on();
    }),
    case("2", "PRIORITY on a closed stream is no error", |c| {
        c.ask(1, get());
        c.is_served(1);
        c.frame(PRIORITY, 0, 1, priority(0, 255));
        c.goes_on();
    }),
    case("3.1", "a DATA frame", |c| {
        c.begin(1);
        c.frame(DATA, END_STREAM, 1, *b"test");
        c.is_served(1);
    }),
    case("3.1", "several DATA frames", |c| {
        c.begin(1);
        c.frame(DATA, 0, 1, *b"test");
        c.frame(DATA, END_STREAM, 1, *b"test");
        c.is_served(1);
    }),
    case("3.1", "a DATA frame with padding", |c| {
        c.begin(1);
        c.frame(DATA, END_STREAM | PADDED, 1, *b"\x04test\0\0\0\0");
        c.is_served(1);
    }),
    case("3.2", "a HEADERS frame with padding", |c| {
        let payload = [&[6][..], &get(), &[0; 6]].concat();
        c.frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, payload);
        c.is_served(1);
    }),
    case("3.2", "a HEADERS frame with priority", |c| {
        c.frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, [priority(0, 255), get()].concat());
        c.is_served(1);
    }),
    case("3.3", "PRIORITY frames with each kind of weight and dependency", |c| {
        for payload in [priority(0, 0), priority(0, 255), priority(3, 15), priority(3 | 1 << 31, 15)] {
            c.frame(PRIORITY, 0, 1, payload);
        }
        c.ask(1, get());
        c.is_served(1);
    }),
    case("3.3", "PRIORITY on an idle stream does not close those before it", |c| {
        c.frame(PRIORITY, 0, 3, priority(0, 15));
        c.ask(1, get());
        c.is_served(1);
    }),
    case("3.4", "a RST_STREAM frame", |c| {
        c.begin(1);
        c.frame(RST_STREAM, 0, 1, word(CANCEL));
        c.goes_on();
    }),
    case("3.5", "a SETTINGS frame", |c| {
        c.send(&settings(&[(MAX_CONCURRENT_STREAMS, 100)]));
        assert!(c.until(|frame| frame.kind == SETTINGS && frame.flags & ACK != 0).is_some());
    }),
    case("3.7", "a PING frame", |c| c.goes_on()),
    case("3.8", "a GOAWAY frame", |c| {
        c.frame(GOAWAY, 0, 0, [word(0), word(0)].concat());
        c.frame(PING, 0, 0, *b"h2 ping!");
        if let Some(frame) = c.until(|frame| is_pong(frame) || frame.kind == GOAWAY)
            && frame.kind == GOAWAY
        {
            assert_eq!(code(&frame), 0);
        }
    }),
    case("3.9", "WINDOW_UPDATE frames", |c| {
        c.frame(WINDOW_UPDATE, 0, 0, word(1));
        c.begin(1);
        c.frame(WINDOW_UPDATE, 0, 1, word(1));
        c.frame(DATA, END_STREAM, 1, *b"test");
        c.is_served(1);
    }),
    case("3.10", "CONTINUATION frames", |c| {
        c.frame(HEADERS, END_STREAM, 1, get());
        c.frame(CONTINUATION, 0, 1, field("x-one", "1"));
        c.frame(CONTINUATION, END_HEADERS, 1, field("x-two", "2"));
        c.is_served(1);
    }),
    case("4", "GET, HEAD, POST, and POST with trailers", |c| {
        c.ask(1, get());
        c.is_served(1);
        c.ask(3, head("HEAD"));
        c.is_served(3);
        c.begin(5);
        c.frame(DATA, END_STREAM, 5, *b"test");
        c.is_served(5);
        c.begin(7);
        c.frame(DATA, 0, 7, *b"test");
        c.frame(HEADERS, END_HEADERS | END_STREAM, 7, field("x-test", "ok"));
        c.is_served(7);
    }),
    // RFC 7541.
    case("7541 2.3.2", "fields of each representation", |c| {
        // §6.1: `:method: GET` and `:scheme: https` by index; §6.2.1 with a name by index and a new one, into the
        // table; §6.2.2 and §6.2.3 likewise; and then by the index that they have got.
        let text = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
        let path = [&[0x04][..], &text("/")].concat();
        let authority = [&[0x41][..], &text("localhost")].concat();
        let new = [&[0x40][..], &text("x-new"), &text("1")].concat();
        let never = [&[0x10][..], &text("x-never"), &text("2")].concat();
        let never_indexed = [&[0x1f, 0x04][..], &text("*/*")].concat();
        c.ask(1, [&[0x82, 0x87][..], &path, &authority, &new, &never, &never_indexed].concat());
        c.is_served(1);
        c.ask(3, [&[0x82, 0x87][..], &path, &[0xbf, 0xbe]].concat());
        c.is_served(3);
    }),
    case("7541 6.3", "table size updates at the beginning of a head", |c| {
        c.ask(1, [&[0x20, 0x3f, 0xe1, 0x1f][..], &get()].concat());
        c.is_served(1);
    }),
    case("7541 5.2", "Huffman's code", |c| {
        // RFC 7541 C.4.1: www.example.com.
        let host = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        c.ask(1, [&[0x82, 0x87, 0x84, 0x41, 0x8c][..], &host].concat());
        c.is_served(1);
    }),
    case("7541 2.3.3", "an index that nothing has", |c| {
        c.ask(1, [get(), vec![0xff, 0x80, 0x01]].concat());
        c.is_refused(&[COMPRESSION_ERROR]);
    }),
    case("7541 2.3.3", "a name of an index that nothing has", |c| {
        c.ask(1, [get(), vec![0x7f, 0x80, 0x01, 1, b'x']].concat());
        c.is_refused(&[COMPRESSION_ERROR]);
    }),
    case("7541 4.2", "a table size update at the end of a head", |c| {
        c.ask(1, [get(), vec![0x3f, 0x61]].concat());
        c.is_refused(&[COMPRESSION_ERROR]);
    }),
    case("7541 5.2", "Huffman's code with more than seven bits of padding", |c| {
        c.ask(1, [&get()[..], &[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x84, 0x49, 0x50, 0x9f, 0xff]].concat());
        c.is_refused(&[COMPRESSION_ERROR]);
    }),
    case("7541 5.2", "Huffman's code with padding of zeroes", |c| {
        c.ask(1, [&get()[..], &[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x83, 0x49, 0x50, 0x90]].concat());
        c.is_refused(&[COMPRESSION_ERROR]);
    }),
    case("7541 5.2", "Huffman's code with the symbol for the end", |c| {
        let eos = [0x49, 0x50, 0x9f, 0xff, 0xff, 0xff, 0xff];
        c.ask(1, [&get()[..], &[0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x87], &eos].concat());
        c.is_refused(&[COMPRESSION_ERROR]);
    }),
    case("7541 6.1", "the index 0", |c| {
        c.ask(1, [get(), vec![0x80]].concat());
        c.is_refused(&[COMPRESSION_ERROR]);
    }),
    case("7541 6.3", "a larger table than was allowed", |c| {
        c.ask(1, [vec![0x3f, 0xe1, 0xff, 0x03], get()].concat());
        c.is_refused(&[COMPRESSION_ERROR]);
    }),
    // RFC 9113.
    case("4.1", "a frame of an unknown type is ignored", |c| {
        c.frame(0xbe, 0, 0, [0; 8]);
        c.goes_on();
    }),
    case("4.1", "flags that are not defined are ignored", |c| {
        c.frame(PING, 0x16, 0, *b"h2 ping!");
        assert!(c.until(is_pong).is_some());
    }),
    case("4.1", "the reserved bit of a stream's number is ignored", |c| {
        c.frame(PING, 0, 1 << 31, *b"h2 ping!");
        assert!(c.until(is_pong).is_some());
    }),
    case("4.2", "a DATA frame of 2^14 bytes", |c| {
        c.begin(1);
        c.frame(DATA, END_STREAM, 1, [b'x'; 16_384]);
        c.is_served(1);
    }),
    case("4.2", "a larger DATA frame than is allowed", |c| {
        c.begin(1);
        c.frame(DATA, END_STREAM, 1, [b'x'; 16_385]);
        c.is_reset(&[FRAME_SIZE_ERROR]);
    }),
    case("4.2", "a larger HEADERS frame than is allowed", |c| {
        let large: Vec<u8> = (0..5).flat_map(|n| field(&format!("x-{n}"), &"y".repeat(4000))).collect();
        c.frame(HEADERS, END_HEADERS | END_STREAM, 1, [get(), large].concat());
        c.is_refused(&[FRAME_SIZE_ERROR]);
    }),
    case("4.3", "a block that can't be decoded", |c| {
        c.ask(1, vec![0, 0xff, 0xff, 0xff]);
        c.is_refused(&[COMPRESSION_ERROR]);
    }),
    case("4.3", "PRIORITY within a block", |c| {
        c.frame(HEADERS, 0, 1, get());
        c.frame(PRIORITY, 0, 1, priority(0, 255));
        c.frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("4.3", "HEADERS of another stream within a block", |c| {
        c.frame(HEADERS, 0, 1, get());
        c.frame(HEADERS, END_HEADERS | END_STREAM, 3, get());
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("5.1", "idle: DATA", |c| {
        c.frame(DATA, END_STREAM, 1, *b"test");
        c.is_refused(&[PROTOCOL_ERROR, STREAM_CLOSED]);
    }),
    case("5.1", "idle: RST_STREAM", |c| {
        c.frame(RST_STREAM, 0, 1, word(CANCEL));
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("5.1", "idle: WINDOW_UPDATE", |c| {
        c.frame(WINDOW_UPDATE, 0, 1, word(100));
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("5.1", "idle: CONTINUATION", |c| {
        c.frame(CONTINUATION, END_HEADERS, 1, get());
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("5.1", "half-closed: DATA", |c| {
        c.ask(1, get());
        c.frame(DATA, END_STREAM, 1, *b"test");
        c.is_reset(&[STREAM_CLOSED]);
    }),
    case("5.1", "half-closed: HEADERS", |c| {
        c.ask(1, get());
        c.ask(1, get());
        c.is_reset(&[STREAM_CLOSED]);
    }),
    case("5.1", "half-closed: CONTINUATION", |c| {
        c.ask(1, get());
        c.frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.is_refused(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    }),
    case("5.1", "closed by the client: DATA", |c| {
        c.begin(1);
        c.frame(RST_STREAM, 0, 1, word(CANCEL));
        c.frame(DATA, END_STREAM, 1, *b"test");
        c.is_reset(&[STREAM_CLOSED]);
    }),
    case("5.1", "closed by the client: HEADERS", |c| {
        c.begin(1);
        c.frame(RST_STREAM, 0, 1, word(CANCEL));
        c.ask(1, get());
        c.is_reset(&[STREAM_CLOSED]);
    }),
    case("5.1", "closed by the client: CONTINUATION", |c| {
        c.begin(1);
        c.frame(RST_STREAM, 0, 1, word(CANCEL));
        c.frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.is_refused(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    }),
    case("5.1", "closed by both: DATA", |c| {
        c.ask(1, get());
        c.is_served(1);
        c.frame(DATA, END_STREAM, 1, *b"test");
        c.is_reset(&[STREAM_CLOSED]);
    }),
    case("5.1", "closed by both: HEADERS", |c| {
        c.ask(1, get());
        c.is_served(1);
        c.ask(1, get());
        c.is_reset(&[STREAM_CLOSED]);
    }),
    case("5.1", "closed by both: CONTINUATION", |c| {
        c.ask(1, get());
        c.is_served(1);
        c.frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.is_refused(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    }),
    case("5.1.1", "a stream of an even number", |c| {
        c.ask(2, get());
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("5.1.1", "a stream of a lower number than the one before", |c| {
        c.ask(5, get());
        c.ask(3, get());
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case_with("5.1.2", "more streams than are allowed", &[(INITIAL_WINDOW_SIZE, 0)], |c| {
        for stream in (1..=2001).step_by(2) {
            c.ask(stream, get());
        }
        c.is_reset(&[PROTOCOL_ERROR, REFUSED_STREAM]);
    }),
    case("5.3.1", "HEADERS that depend on themselves", |c| {
        c.frame(HEADERS, END_HEADERS | END_STREAM | WITH_PRIORITY, 1, [priority(1, 255), get()].concat());
        c.is_reset(&[PROTOCOL_ERROR]);
    }),
    case("5.3.1", "PRIORITY that depends on itself", |c| {
        c.frame(PRIORITY, 0, 2, priority(2, 255));
        c.is_reset(&[PROTOCOL_ERROR]);
    }),
    case("5.4.1", "after an error the connection is closed", |c| {
        c.frame(PING, 0, 0, [0; 6]);
        c.ends();
    }),
    case("5.5", "an unknown frame within a block", |c| {
        c.frame(HEADERS, END_STREAM, 1, get());
        c.frame(0xbe, 0, 0, [0; 8]);
        c.frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.1", "DATA of the connection", |c| {
        c.frame(DATA, END_STREAM, 0, *b"test");
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.1", "DATA that is all padding and more", |c| {
        c.begin(1);
        c.frame(DATA, END_STREAM | PADDED, 1, *b"\x08test");
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.2", "HEADERS of the connection", |c| {
        c.ask(0, get());
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.2", "HEADERS that are all padding and more", |c| {
        c.frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, [vec![255], get()].concat());
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.3", "PRIORITY of the connection", |c| {
        c.frame(PRIORITY, 0, 0, priority(3, 15));
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.3", "PRIORITY of four bytes", |c| {
        c.frame(PRIORITY, 0, 1, [0; 4]);
        c.is_reset(&[FRAME_SIZE_ERROR]);
    }),
    case("6.4", "RST_STREAM of the connection", |c| {
        c.frame(RST_STREAM, 0, 0, word(CANCEL));
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.4", "RST_STREAM of three bytes", |c| {
        c.begin(1);
        c.frame(RST_STREAM, 0, 1, [0; 3]);
        c.is_refused(&[FRAME_SIZE_ERROR]);
    }),
    case("6.5", "SETTINGS that acknowledge and have something to say", |c| {
        c.frame(SETTINGS, ACK, 0, [0]);
        c.is_refused(&[FRAME_SIZE_ERROR]);
    }),
    case("6.5", "SETTINGS of a stream", |c| {
        c.frame(SETTINGS, 0, 1, [0, 3, 0, 0, 0, 100]);
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.5", "SETTINGS of no whole number of settings", |c| {
        c.frame(SETTINGS, 0, 0, [0, 3, 0]);
        c.is_refused(&[FRAME_SIZE_ERROR]);
    }),
    case("6.5.2", "ENABLE_PUSH of 2", |c| {
        c.send(&settings(&[(ENABLE_PUSH, 2)]));
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.5.2", "INITIAL_WINDOW_SIZE of 2^31", |c| {
        c.send(&settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]));
        c.is_refused(&[FLOW_CONTROL_ERROR]);
    }),
    case("6.5.2", "MAX_FRAME_SIZE below 2^14", |c| {
        c.send(&settings(&[(MAX_FRAME_SIZE, 16_383)]));
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.5.2", "MAX_FRAME_SIZE of 2^24", |c| {
        c.send(&settings(&[(MAX_FRAME_SIZE, 1 << 24)]));
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.5.2", "an unknown setting is ignored", |c| {
        c.send(&settings(&[(0xff, 1)]));
        c.goes_on();
    }),
    case_with("6.5.3", "of several values of a setting the last one counts", &[], |c| {
        c.send(&settings(&[(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)]));
        assert!(c.until(|frame| frame.kind == SETTINGS && frame.flags & ACK != 0).is_some());
        c.ask(1, get());
        c.gets(1);
    }),
    case("6.7", "PING that acknowledges is not answered", |c| {
        c.frame(PING, ACK, 0, *b"invalid!");
        c.goes_on();
    }),
    case("6.7", "PING of a stream", |c| {
        c.frame(PING, 0, 1, [0; 8]);
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.7", "PING of six bytes", |c| {
        c.frame(PING, 0, 0, [0; 6]);
        c.is_refused(&[FRAME_SIZE_ERROR]);
    }),
    case("6.8", "GOAWAY of a stream", |c| {
        c.frame(GOAWAY, 0, 1, [0; 8]);
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.9", "WINDOW_UPDATE of nothing", |c| {
        c.frame(WINDOW_UPDATE, 0, 0, word(0));
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.9", "WINDOW_UPDATE of nothing for a stream", |c| {
        c.begin(1);
        c.frame(WINDOW_UPDATE, 0, 1, word(0));
        c.is_reset(&[PROTOCOL_ERROR]);
    }),
    case("6.9", "WINDOW_UPDATE of three bytes", |c| {
        c.frame(WINDOW_UPDATE, 0, 0, [0, 0, 1]);
        c.is_refused(&[FRAME_SIZE_ERROR]);
    }),
    case_with("6.9.1", "no more is sent than the window has room for", &[(INITIAL_WINDOW_SIZE, 1)], |c| {
        c.ask(1, get());
        c.gets(1);
    }),
    case("6.9.1", "a window of more than 2^31 - 1", |c| {
        c.frame(WINDOW_UPDATE, 0, 0, word((1 << 31) - 1));
        c.frame(WINDOW_UPDATE, 0, 0, word((1 << 31) - 1));
        c.is_refused(&[FLOW_CONTROL_ERROR]);
    }),
    case("6.9.1", "a stream's window of more than 2^31 - 1", |c| {
        c.begin(1);
        c.frame(WINDOW_UPDATE, 0, 1, word((1 << 31) - 1));
        c.frame(WINDOW_UPDATE, 0, 1, word((1 << 31) - 1));
        c.is_reset(&[FLOW_CONTROL_ERROR]);
    }),
    case_with("6.9.2", "the window of an open stream grows with the setting", &[(INITIAL_WINDOW_SIZE, 0)], |c| {
        c.ask(1, get());
        assert!(c.until(|frame| frame.kind == HEADERS).is_some());
        c.send(&settings(&[(INITIAL_WINDOW_SIZE, 1)]));
        c.gets(1);
    }),
    case_with("6.9.2", "a window may become negative", &[(INITIAL_WINDOW_SIZE, 3)], |c| {
        c.ask(1, get());
        c.gets(3);
        c.send(&settings(&[(INITIAL_WINDOW_SIZE, 2)]));
        c.frame(WINDOW_UPDATE, 0, 1, word(2));
        c.gets(1);
    }),
    case("6.10", "CONTINUATION of the connection", |c| {
        c.frame(HEADERS, END_STREAM, 1, get());
        c.frame(CONTINUATION, END_HEADERS, 0, field("x", "y"));
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.10", "CONTINUATION, then something else", |c| {
        c.frame(HEADERS, 0, 1, get());
        c.frame(CONTINUATION, 0, 1, field("x", "y"));
        c.frame(DATA, END_STREAM, 1, *b"test");
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.10", "CONTINUATION after the end of a block", |c| {
        c.frame(HEADERS, END_HEADERS, 1, post());
        c.frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.10", "CONTINUATION after the last CONTINUATION", |c| {
        c.frame(HEADERS, 0, 1, post());
        c.frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("6.10", "CONTINUATION after DATA", |c| {
        c.begin(1);
        c.frame(DATA, 0, 1, *b"test");
        c.frame(CONTINUATION, END_HEADERS, 1, field("x", "y"));
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
    case("7", "unknown error codes mean nothing", |c| {
        c.begin(1);
        c.frame(RST_STREAM, 0, 1, word(0xff));
        c.goes_on();
        c.frame(GOAWAY, 0, 0, [word(0), word(0xff)].concat());
        c.frame(PING, 0, 0, *b"h2 ping!");
        if let Some(frame) = c.until(|frame| is_pong(frame) || frame.kind == GOAWAY)
            && frame.kind == GOAWAY
        {
            assert_eq!(code(&frame), 0);
        }
    }),
    case("8.1", "a second head that is not the end", |c| {
        c.begin(1);
        c.frame(HEADERS, END_HEADERS, 1, field("x", "y"));
        c.is_malformed(1);
    }),
    case("8.2.1", "a name in capitals", |c| {
        c.ask(1, get_with(&[("X-TEST", "ok")]));
        c.is_malformed(1);
    }),
    case("8.3", "an unknown pseudo-header field", |c| {
        c.ask(1, get_with(&[(":test", "ok")]));
        c.is_malformed(1);
    }),
    case("8.3", "a pseudo-header field of responses", |c| {
        c.ask(1, get_with(&[(":status", "200")]));
        c.is_malformed(1);
    }),
    case("8.3", "a pseudo-header field in a trailer", |c| {
        c.begin(1);
        c.frame(DATA, 0, 1, *b"test");
        // As the suites send it, without the end. With it, h2 drops the field and goes on.
        c.frame(HEADERS, END_HEADERS, 1, head_of(&[(":method", "200")]));
        c.is_malformed(1);
    }),
    case("8.3", "a pseudo-header field after another", |c| {
        c.ask(
            1,
            head_of(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "localhost"),
                ("x-test", "ok"),
                (":path", "/"),
            ]),
        );
        c.is_malformed(1);
    }),
    case("8.2.2", "a field of the connection", |c| {
        c.ask(1, get_with(&[("connection", "keep-alive")]));
        c.is_malformed(1);
    }),
    case("8.2.2", "TE that is not trailers", |c| {
        c.ask(1, get_with(&[("te", "trailers, deflate")]));
        c.is_malformed(1);
    }),
    case("8.3.1", "an empty path", |c| {
        c.ask(1, head_of(&[(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "")]));
        c.is_malformed(1);
    }),
    case("8.3.1", "no method", |c| {
        c.ask(1, head_of(&[(":scheme", "https"), (":authority", "localhost"), (":path", "/")]));
        c.is_malformed(1);
    }),
    case("8.3.1", "no scheme", |c| {
        c.ask(1, head_of(&[(":method", "GET"), (":authority", "localhost"), (":path", "/")]));
        c.is_malformed(1);
    }),
    case("8.3.1", "no path", |c| {
        c.ask(1, head_of(&[(":method", "GET"), (":scheme", "https"), (":authority", "localhost")]));
        c.is_malformed(1);
    }),
    case("8.3.1", "two methods", |c| {
        c.ask(1, [head_of(&[(":method", "GET")]), get()].concat());
        c.is_malformed(1);
    }),
    case("8.3.1", "two schemes", |c| {
        c.ask(1, [head_of(&[(":scheme", "https")]), get()].concat());
        c.is_malformed(1);
    }),
    case("8.3.1", "two paths", |c| {
        c.ask(1, [head_of(&[(":path", "/")]), get()].concat());
        c.is_malformed(1);
    }),
    case("8.1.1", "less content than the length says", |c| {
        c.frame(HEADERS, END_HEADERS, 1, [post(), field("content-length", "8")].concat());
        c.frame(DATA, END_STREAM, 1, *b"test");
        c.is_reset(&[PROTOCOL_ERROR]);
    }),
    case("8.1.1", "more content than the length says", |c| {
        c.frame(HEADERS, END_HEADERS, 1, [post(), field("content-length", "1")].concat());
        c.frame(DATA, END_STREAM, 1, *b"test");
        c.is_reset(&[PROTOCOL_ERROR]);
    }),
    case("8.1.1", "another sum of contents than the length says", |c| {
        c.frame(HEADERS, END_HEADERS, 1, [post(), field("content-length", "4")].concat());
        c.frame(DATA, 0, 1, *b"te");
        c.frame(DATA, END_STREAM, 1, *b"st!");
        c.is_reset(&[PROTOCOL_ERROR]);
    }),
    case("8.4", "PUSH_PROMISE from a client", |c| {
        c.frame(PUSH_PROMISE, END_HEADERS, 1, [&word(2)[..], &get()].concat());
        c.is_refused(&[PROTOCOL_ERROR]);
    }),
];

/// Runs all cases, each on a connection of its own, and fails with all that failed.
pub(crate) fn run(connect: impl Fn() -> Client) {
    let mut failed = Vec::new();
    for case in CASES {
        let talked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (case.talk)(&mut connect().greeted(case.settings));
        }));
        if let Err(panic) = talked {
            let reason = panic.downcast_ref::<String>().map_or("", String::as_str);
            failed.push(format!("§{} {}: {reason}", case.section, case.what));
        }
    }
    eprintln!("{} passed, {} failed", CASES.len() - failed.len(), failed.len());
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), CASES.len(), failed.join("\n"));
}
