//! Where frames and messages end in a stream of bytes, without a look at what they say, but for the code of a Close.

/// Follows the frame headers of one direction (RFC 6455 §5.2).
#[derive(Debug)]
pub(crate) struct FrameTracker {
    at: At,
    fin: bool,
    opcode: u8,
    masked: bool,
    /// A fragmented message has begun and not ended (RFC 6455 §5.4).
    in_message: bool,
    messages: u64,
    key: [u8; 4],
    close: Close,
}

/// A Close frame, as far as it went by.
#[derive(Clone, Copy, Debug, Default)]
struct Close {
    is_whole: bool,
    code: u16,
    /// How many bytes of the code were seen.
    seen: usize,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    /// FIN, reserved bits, opcode.
    First,
    /// Mask bit and short length.
    Second,
    /// `left` more bytes of an extended length.
    Length {
        left: u8,
        length: u64,
    },
    /// `left` bytes of masking key, then `length` bytes of payload.
    Mask {
        left: u8,
        length: u64,
    },
    Payload {
        left: u64,
    },
    /// Nobody knows: these are not frames.
    Unknown,
}

impl FrameTracker {
    pub(crate) fn new() -> Self {
        Self {
            at: At::First,
            fin: true,
            opcode: 0,
            masked: false,
            in_message: false,
            messages: 0,
            key: [0; 4],
            close: Close::default(),
        }
    }

    /// For bytes that are not frames: there is no boundary, no message and no Close among them.
    pub(crate) fn blind() -> Self {
        Self { at: At::Unknown, ..Self::new() }
    }

    /// Whether a frame may be put in here: no frame is unfinished, nor a message of several.
    ///
    /// RFC 6455 §5.5: a control frame may stand between the fragments of a message; but a Close
    /// there would cut the message off.
    pub(crate) fn at_boundary(&self) -> bool {
        self.at == At::First && (!self.in_message || self.close.is_whole)
    }

    /// Whether a Close frame went by.
    pub(crate) fn closed(&self) -> bool {
        self.close.is_whole
    }

    /// The code of the Close frame that went by, if it had one (RFC 6455 §5.5.1).
    pub(crate) fn close_code(&self) -> Option<u16> {
        (self.close.is_whole && self.close.seen == 2).then_some(self.close.code)
    }

    /// How many messages went by in whole.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Goes past all of `bytes`.
    pub(crate) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.frame(bytes);
            bytes = &bytes[taken..];
        }
    }

    /// Goes on to the next boundary, and says how many of `bytes` come before it: all of them, if
    /// it is not among them.
    pub(crate) fn advance_to_boundary(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while !self.at_boundary() && taken < bytes.len() {
            taken += self.frame(&bytes[taken..]);
        }
        taken
    }

    /// Goes on to the end of a frame, or of `bytes`, and says how many of them that took.
    fn frame(&mut self, bytes: &[u8]) -> usize {
        if self.at == At::Unknown {
            return bytes.len();
        }
        let mut taken = 0;
        while let Some(&byte) = bytes.get(taken) {
            if let At::Payload { left } = self.at {
                let here = (bytes.len() - taken) as u64;
                if self.opcode == CLOSE {
                    self.see_close(&bytes[taken..taken + here.min(left) as usize]);
                }
                if here < left {
                    self.at = At::Payload { left: left - here };
                    return bytes.len();
                }
                // No more than `here`, which came from a `usize`.
                taken += left as usize;
                self.end();
                return taken;
            }
            taken += 1;
            self.at = match self.at {
                At::First => {
                    self.fin = byte & 0x80 != 0;
                    self.opcode = byte & 0x0f;
                    At::Second
                }
                At::Second => {
                    self.masked = byte & 0x80 != 0;
                    self.key = [0; 4];
                    match byte & 0x7f {
                        126 => At::Length { left: 2, length: 0 },
                        127 => At::Length { left: 8, length: 0 },
                        length => self.after_length(u64::from(length)),
                    }
                }
                At::Length { left, length } => {
                    let length = length << 8 | u64::from(byte);
                    match left - 1 {
                        0 => self.after_length(length),
                        left => At::Length { left, length },
                    }
                }
                At::Mask { left, length } => {
                    self.key[usize::from(4 - left)] = byte;
                    match left - 1 {
                        0 => At::Payload { left: length },
                        left => At::Mask { left, length },
                    }
                }
                at @ (At::Payload { .. } | At::Unknown) => at,
            };
            if self.at == (At::Payload { left: 0 }) {
                self.end();
                return taken;
            }
        }
        taken
    }

    /// The code is in the first two bytes of the first Close; what comes after that is nobody's.
    fn see_close(&mut self, payload: &[u8]) {
        if self.close.is_whole {
            return;
        }
        for byte in payload.iter().take(2 - self.close.seen) {
            self.close.code = self.close.code << 8 | u16::from(byte ^ self.key[self.close.seen]);
            self.close.seen += 1;
        }
    }

    fn after_length(&self, length: u64) -> At {
        match self.masked {
            true => At::Mask { left: 4, length },
            false => At::Payload { left: length },
        }
    }

    fn end(&mut self) {
        self.at = At::First;
        match self.opcode {
            CLOSE => self.close.is_whole = true,
            // RFC 6455 §5.5: the other control frames are not part of a message.
            opcode if opcode & 0x8 != 0 => {}
            _ => {
                self.in_message = !self.fin;
                self.messages += u64::from(self.fin);
            }
        }
    }
}

/// A Close of ours. One toward a server is masked (RFC 6455 §5.1).
pub(crate) fn close(code: u16, mask: Option<[u8; 4]>) -> Vec<u8> {
    let [high, low] = code.to_be_bytes();
    match mask {
        None => vec![0x80 | CLOSE, 2, high, low],
        Some(key @ [a, b, c, d]) => vec![0x80 | CLOSE, 0x80 | 2, a, b, c, d, high ^ key[0], low ^ key[1]],
    }
}

/// RFC 6455 §7.4.1: one end goes away, as a server that ends does.
pub(crate) const GOING_AWAY: u16 = 1001;

/// From the registry of RFC 6455 §11.7: come back, a little later.
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
        // Whatever it is, it must not be taken for frames.
        bytes.resize(bytes.len() + length, 0x88);
        bytes
    }

    const TEXT: OpCode = OpCode::Data(Data::Text);
    const MORE: OpCode = OpCode::Data(Data::Continue);

    #[test]
    fn a_boundary_is_where_a_message_ends_in_whole() {
        for mask in [false, true] {
            for length in [0, 1, 125, 126, 65_535, 65_536] {
                let mut frames = FrameTracker::new();
                let bytes = frame(TEXT, true, mask, length);
                frames.advance(&bytes[..bytes.len() - 1]);
                assert!(!frames.at_boundary(), "{length} {mask}");
                frames.advance(&bytes[bytes.len() - 1..]);
                assert!(frames.at_boundary() && frames.messages() == 1, "{length} {mask}");
            }
        }
    }

    #[test]
    fn between_the_fragments_of_a_message_there_is_none() {
        let mut frames = FrameTracker::new();
        let ping = frame(OpCode::Control(Control::Ping), true, false, 4);
        frames.advance(&frame(TEXT, false, false, 9));
        assert!(!frames.at_boundary());
        frames.advance(&ping);
        assert!(!frames.at_boundary());
        let rest = [frame(MORE, false, false, 300), frame(MORE, true, false, 0), frame(TEXT, true, false, 5)];
        let before = rest[0].len() + rest[1].len();
        assert_eq!(frames.advance_to_boundary(&rest.concat()), before);
        assert!(frames.at_boundary() && frames.messages() == 1 && !frames.closed());
        assert_eq!(frames.advance_to_boundary(&rest[2]), 0);
    }

    #[test]
    fn our_close_is_one_that_others_can_read() {
        for mask in [None, Some([9, 8, 7, 6])] {
            let bytes = close(1012, mask);
            let (header, length) = FrameHeader::parse(&mut std::io::Cursor::new(&bytes)).unwrap().unwrap();
            assert_eq!((header.opcode, length, header.mask), (OpCode::Control(Control::Close), 2, mask));
            let mut frames = FrameTracker::new();
            frames.advance(&bytes);
            assert!(frames.closed() && frames.at_boundary());
            assert_eq!(frames.close_code(), Some(1012));
        }
    }

    #[test]
    fn the_code_of_a_close_is_that_of_the_first_and_may_be_missing() {
        let with_reason = [0x88, 5, 0x0f, 0xa1, b'b', b'y', b'e'];
        for (bytes, code) in [
            (vec![0x88, 0], None),
            (vec![0x88, 1, 3], None),
            (vec![0x88, 2, 3], None),
            (with_reason.to_vec(), Some(4001)),
            ([&with_reason[..], &close(1000, None)].concat(), Some(4001)),
            ([&frame(TEXT, true, true, 2), &close(1000, Some([7, 8, 9, 1]))[..]].concat(), Some(1000)),
        ] {
            let (mut whole, mut pieces) = (FrameTracker::new(), FrameTracker::new());
            whole.advance(&bytes);
            bytes.iter().for_each(|byte| pieces.advance(&[*byte]));
            assert_eq!((whole.close_code(), pieces.close_code()), (code, code), "{bytes:?}");
        }
    }

    #[test]
    fn among_bytes_that_are_not_frames_there_is_nothing_to_be_found() {
        let mut frames = FrameTracker::blind();
        let bytes = [frame(TEXT, true, false, 5), close(1000, None)].concat();
        frames.advance(&bytes);
        assert_eq!(frames.advance_to_boundary(&bytes), bytes.len());
        assert!(!frames.at_boundary() && !frames.closed() && frames.messages() == 0);
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_the_frames_are_the_same(
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
            prop_assert_eq!(pieces.at, At::First);
        }

        #[test]
        fn no_bytes_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut frames = FrameTracker::new();
            for piece in &pieces {
                let taken = frames.advance_to_boundary(piece);
                frames.advance(&piece[taken..]);
            }
        }
    }
}
