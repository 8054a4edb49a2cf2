//! A tracker of WebSocket frame and message boundaries in a stream of bytes.
//!
//! It does not read payloads, except for the code of a Close.

/// A parser of the WebSocket frame headers in one direction (RFC 6455 §5.2).
#[derive(Debug)]
pub(crate) struct FrameTracker {
    position: Position,
    fin: bool,
    opcode: u8,
    masked: bool,
    /// Whether the current fragmented message is incomplete (RFC 6455 §5.4).
    in_message: bool,
    messages: u64,
    key: [u8; 4],
    close: Close,
}

/// The parsed part of the first Close frame.
#[derive(Clone, Copy, Debug, Default)]
struct Close {
    is_complete: bool,
    code: u16,
    /// The number of bytes of the close code that were parsed.
    code_bytes: usize,
}

/// The part of a WebSocket frame that the next byte belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Position {
    /// The first byte of a frame: FIN, the reserved bits and the opcode.
    First,
    /// The second byte of a frame: the mask bit and the short length.
    Second,
    /// The extended length, with `left` bytes remaining.
    Length { left: u8, length: u64 },
    /// The masking key, with `left` bytes remaining, before `length` bytes of payload.
    Mask { left: u8, length: u64 },
    /// The payload, with `left` bytes remaining.
    Payload { left: u64 },
    /// The stream does not consist of WebSocket frames.
    Opaque,
}

impl FrameTracker {
    pub(crate) fn new() -> Self {
        Self {
            position: Position::First,
            fin: true,
            opcode: 0,
            masked: false,
            in_message: false,
            messages: 0,
            key: [0; 4],
            close: Close::default(),
        }
    }

    /// Creates a tracker for a stream that does not consist of WebSocket frames. It finds no boundary, no message and
    /// no Close.
    pub(crate) fn opaque() -> Self {
        Self { position: Position::Opaque, ..Self::new() }
    }

    /// Returns whether a Close frame may follow the parsed bytes: all frames and messages are complete.
    ///
    /// RFC 6455 §5.5 allows control frames between the fragments of a message, but a Close would truncate the message.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.position == Position::First && (!self.in_message || self.close.is_complete)
    }

    /// Returns whether the stream contained a complete Close frame.
    pub(crate) fn has_close(&self) -> bool {
        self.close.is_complete
    }

    /// Returns the close code of the first Close frame, if the frame contains one (RFC 6455 §5.5.1).
    pub(crate) fn close_code(&self) -> Option<u16> {
        (self.close.is_complete && self.close.code_bytes == 2).then_some(self.close.code)
    }

    /// Returns the number of complete messages in the stream.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Parses all of `bytes`, counting messages and recording the first Close frame.
    pub(crate) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let parsed = self.advance_in_frame(bytes);
            bytes = &bytes[parsed..];
        }
    }

    /// Parses `bytes` up to the next message boundary, and returns the number of parsed bytes.
    ///
    /// That is the length of `bytes` if they contain no boundary.
    pub(crate) fn advance_to_boundary(&mut self, bytes: &[u8]) -> usize {
        let mut parsed = 0;
        while !self.is_at_boundary() && parsed < bytes.len() {
            parsed += self.advance_in_frame(&bytes[parsed..]);
        }
        parsed
    }

    /// Parses `bytes` up to the end of the current frame, and returns the number of parsed bytes.
    fn advance_in_frame(&mut self, bytes: &[u8]) -> usize {
        if self.position == Position::Opaque {
            return bytes.len();
        }
        let mut parsed = 0;
        while let Some(&byte) = bytes.get(parsed) {
            if let Position::Payload { left } = self.position {
                let available = (bytes.len() - parsed) as u64;
                if self.opcode == CLOSE {
                    self.parse_close_code(&bytes[parsed..parsed + available.min(left) as usize]);
                }
                if available < left {
                    self.position = Position::Payload { left: left - available };
                    return bytes.len();
                }
                // The cast is lossless: `left` is at most `available`, which was a `usize`.
                parsed += left as usize;
                self.end_frame();
                return parsed;
            }
            parsed += 1;
            self.position = match self.position {
                Position::First => {
                    self.fin = byte & 0x80 != 0;
                    self.opcode = byte & 0x0f;
                    Position::Second
                }
                Position::Second => {
                    self.masked = byte & 0x80 != 0;
                    self.key = [0; 4];
                    match byte & 0x7f {
                        126 => Position::Length { left: 2, length: 0 },
                        127 => Position::Length { left: 8, length: 0 },
                        length => self.after_length(u64::from(length)),
                    }
                }
                Position::Length { left, length } => {
                    let length = length << 8 | u64::from(byte);
                    match left - 1 {
                        0 => self.after_length(length),
                        left => Position::Length { left, length },
                    }
                }
                Position::Mask { left, length } => {
                    self.key[usize::from(4 - left)] = byte;
                    match left - 1 {
                        0 => Position::Payload { left: length },
                        left => Position::Mask { left, length },
                    }
                }
                position @ (Position::Payload { .. } | Position::Opaque) => position,
            };
            if self.position == (Position::Payload { left: 0 }) {
                self.end_frame();
                return parsed;
            }
        }
        parsed
    }

    /// Parses the close code in the first two payload bytes of the first Close frame. Later Close frames are ignored.
    fn parse_close_code(&mut self, payload: &[u8]) {
        if self.close.is_complete {
            return;
        }
        for byte in payload.iter().take(2 - self.close.code_bytes) {
            self.close.code = self.close.code << 8 | u16::from(byte ^ self.key[self.close.code_bytes]);
            self.close.code_bytes += 1;
        }
    }

    fn after_length(&self, length: u64) -> Position {
        match self.masked {
            true => Position::Mask { left: 4, length },
            false => Position::Payload { left: length },
        }
    }

    fn end_frame(&mut self) {
        self.position = Position::First;
        match self.opcode {
            CLOSE => self.close.is_complete = true,
            // RFC 6455 §5.5: the other control frames are not part of a message.
            opcode if opcode & 0x8 != 0 => {}
            _ => {
                self.in_message = !self.fin;
                self.messages += u64::from(self.fin);
            }
        }
    }
}

/// Formats a Close frame with this close code. A frame to a server must be masked (RFC 6455 §5.1).
pub(crate) fn close_frame(code: u16, mask: Option<[u8; 4]>) -> Vec<u8> {
    let [high, low] = code.to_be_bytes();
    match mask {
        None => vec![0x80 | CLOSE, 2, high, low],
        Some(key @ [a, b, c, d]) => vec![0x80 | CLOSE, 0x80 | 2, a, b, c, d, high ^ key[0], low ^ key[1]],
    }
}

/// The close code "going away", for example of a server that shuts down (RFC 6455 §7.4.1).
pub(crate) const GOING_AWAY: u16 = 1001;

/// The close code "service restart", after which the client may reconnect (IANA registry, RFC 6455 §11.7).
pub(crate) const SERVICE_RESTART: u16 = 1012;

const CLOSE: u8 = 0x8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

    use super::*;

    fn frame(opcode: OpCode, fin: bool, mask: bool, length: usize) -> Vec<u8> {
        let header =
            FrameHeader { is_final: fin, opcode, mask: mask.then_some([1, 2, 3, 4]), ..FrameHeader::default() };
        let mut bytes = Vec::new();
        header.format(length as u64, &mut bytes).unwrap();
        // The payload looks like a Close, which the tracker must not parse.
        bytes.resize(bytes.len() + length, 0x88);
        bytes
    }

    const TEXT: OpCode = OpCode::Data(Data::Text);
    const MORE: OpCode = OpCode::Data(Data::Continue);

    #[test]
    fn stream_is_at_boundary_after_a_complete_message() {
        for mask in [false, true] {
            for length in [0, 1, 125, 126, 65_535, 65_536] {
                let mut frames = FrameTracker::new();
                let bytes = frame(TEXT, true, mask, length);
                frames.advance(&bytes[..bytes.len() - 1]);
                assert!(!frames.is_at_boundary(), "{length} {mask}");
                frames.advance(&bytes[bytes.len() - 1..]);
                assert!(frames.is_at_boundary() && frames.messages() == 1, "{length} {mask}");
            }
        }
    }

    #[test]
    fn stream_is_not_at_boundary_between_fragments_of_a_message() {
        let mut frames = FrameTracker::new();
        let ping = frame(OpCode::Control(Control::Ping), true, false, 4);
        frames.advance(&frame(TEXT, false, false, 9));
        assert!(!frames.is_at_boundary());
        frames.advance(&ping);
        assert!(!frames.is_at_boundary());
        let rest = [frame(MORE, false, false, 300), frame(MORE, true, false, 0), frame(TEXT, true, false, 5)];
        let before = rest[0].len() + rest[1].len();
        assert_eq!(frames.advance_to_boundary(&rest.concat()), before);
        assert!(frames.is_at_boundary() && frames.messages() == 1 && !frames.has_close());
        assert_eq!(frames.advance_to_boundary(&rest[2]), 0);
    }

    #[test]
    fn formats_close_frames_that_tungstenite_parses() {
        for mask in [None, Some([9, 8, 7, 6])] {
            let bytes = close_frame(1012, mask);
            let (header, length) = FrameHeader::parse(&mut std::io::Cursor::new(&bytes)).unwrap().unwrap();
            assert_eq!((header.opcode, length, header.mask), (OpCode::Control(Control::Close), 2, mask));
            let mut frames = FrameTracker::new();
            frames.advance(&bytes);
            assert!(frames.has_close() && frames.is_at_boundary());
            assert_eq!(frames.close_code(), Some(1012));
        }
    }

    #[test]
    fn parses_the_code_of_the_first_close_frame() {
        let with_reason = [0x88, 5, 0x0f, 0xa1, b'b', b'y', b'e'];
        for (bytes, code) in [
            (vec![0x88, 0], None),
            (vec![0x88, 1, 3], None),
            (vec![0x88, 2, 3], None),
            (with_reason.to_vec(), Some(4001)),
            ([&with_reason[..], &close_frame(1000, None)].concat(), Some(4001)),
            ([&frame(TEXT, true, true, 2), &close_frame(1000, Some([7, 8, 9, 1]))[..]].concat(), Some(1000)),
        ] {
            let (mut whole, mut pieces) = (FrameTracker::new(), FrameTracker::new());
            whole.advance(&bytes);
            bytes.iter().for_each(|byte| pieces.advance(&[*byte]));
            assert_eq!((whole.close_code(), pieces.close_code()), (code, code), "{bytes:?}");
        }
    }

    #[test]
    fn opaque_tracker_finds_no_boundary_message_or_close_frame() {
        let mut frames = FrameTracker::opaque();
        let bytes = [frame(TEXT, true, false, 5), close_frame(1000, None)].concat();
        frames.advance(&bytes);
        assert_eq!(frames.advance_to_boundary(&bytes), bytes.len());
        assert!(!frames.is_at_boundary() && !frames.has_close() && frames.messages() == 0);
    }

    proptest! {
        #[test]
        fn parses_the_same_frames_for_any_read_boundaries(
            shapes in prop::collection::vec((0_u8..4, any::<bool>(), 0_usize..400), 1..12),
            cut in 1_usize..64,
        ) {
            let bytes: Vec<u8> = shapes.iter().flat_map(|&(kind, mask, length)| match kind {
                0 => frame(TEXT, true, mask, length),
                1 => frame(TEXT, false, mask, length),
                2 => frame(MORE, true, mask, length),
                _ => frame(OpCode::Control(Control::Ping), true, mask, length.min(125)),
            }).collect();
            let (mut whole, mut pieces) = (FrameTracker::new(), FrameTracker::new());
            whole.advance(&bytes);
            bytes.chunks(cut).for_each(|piece| pieces.advance(piece));
            prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
            prop_assert_eq!(pieces.position, Position::First);
        }

        #[test]
        fn parsing_any_bytes_as_frames_never_panics(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut frames = FrameTracker::new();
            for piece in &pieces {
                let parsed = frames.advance_to_boundary(piece);
                frames.advance(&piece[parsed..]);
            }
        }
    }
}
