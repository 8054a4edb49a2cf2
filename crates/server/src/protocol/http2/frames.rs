//! A scanner for frame boundaries in the raw bytes of an HTTP/2 connection (RFC 9113 §4.1).

/// A scanner for the HTTP/2 frames in one direction of a connection.
#[derive(Debug)]
pub(super) struct FrameScanner {
    /// The number of bytes of the client's preface that are not scanned yet (RFC 9113 §3.4).
    preface: usize,
    head: [u8; HEAD],
    /// The number of scanned bytes of the frame header `head`.
    have: usize,
    /// The number of payload bytes of the current frame that are not scanned yet.
    left: usize,
    /// The last four bytes of the payload of an RST_STREAM frame.
    code: u32,
}

/// The header of a completely scanned frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) length: usize,
    /// The error code, if the frame is RST_STREAM.
    pub(super) code: u32,
}

impl FrameScanner {
    /// Creates a scanner for bytes from a client: the preface, then frames.
    pub(super) fn for_client() -> Self {
        Self { preface: PREFACE.len(), ..Self::for_server() }
    }

    /// Creates a scanner for bytes from a server: only frames.
    pub(super) fn for_server() -> Self {
        Self { preface: 0, head: [0; HEAD], have: 0, left: 0, code: 0 }
    }

    /// Returns the next frame that ends in `bytes[*at..]`, and moves `at` to its end, or to the end of `bytes`.
    pub(super) fn next(&mut self, bytes: &[u8], at: &mut usize) -> Option<Frame> {
        let skipped = self.preface.min(bytes.len() - *at);
        self.preface -= skipped;
        *at += skipped;
        if self.have < HEAD {
            let taken = (HEAD - self.have).min(bytes.len() - *at);
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[*at..*at + taken]);
            self.have += taken;
            *at += taken;
            if self.have < HEAD {
                return None;
            }
            (self.left, self.code) = (self.length(), 0);
        }
        let payload = &bytes[*at..*at + self.left.min(bytes.len() - *at)];
        if self.head[3] == RST_STREAM {
            self.code = payload.iter().fold(self.code, |code, byte| code << 8 | u32::from(*byte));
        }
        *at += payload.len();
        self.left -= payload.len();
        if self.left > 0 {
            return None;
        }
        self.have = 0;
        let [_, _, _, kind, flags, stream @ ..] = self.head;
        // RFC 9113 §4.1: the first bit is reserved.
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        Some(Frame { kind, flags, stream, length: self.length(), code: self.code })
    }

    /// Returns whether the scanned bytes end at a frame boundary.
    pub(super) fn is_between_frames(&self) -> bool {
        self.preface == 0 && self.have == 0
    }

    fn length(&self) -> usize {
        let [high, middle, low, ..] = self.head;
        usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
    }
}

/// Returns the frames in `bytes`, scanned in chunks of a fixed size, for tests and fuzzing.
#[cfg(any(test, fuzzing))]
pub(super) fn frames_in_pieces(bytes: &[u8], piece: usize) -> Vec<Frame> {
    let (mut scanner, mut frames) = (FrameScanner::for_client(), Vec::new());
    for part in bytes.chunks(piece.max(1)) {
        let mut at = 0;
        while let Some(frame) = scanner.next(part, &mut at) {
            frames.push(frame);
        }
    }
    frames
}

/// The HTTP/2 connection preface of a client (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEAD: usize = 9;

// Frame types and flags (RFC 9113 §6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let [.., high, middle, low] = (payload.len() as u32).to_be_bytes();
        [&[high, middle, low, kind, flags], &stream.to_be_bytes()[..], payload].concat()
    }

    #[test]
    fn scanner_returns_each_frame_at_its_last_byte() {
        let bytes = [
            PREFACE.to_vec(),
            frame(4, 0, 0, &[]),
            frame(HEADERS, END_HEADERS, 1, b"abc"),
            frame(RST_STREAM, 0, 0x8000_0003, &[0, 0, 1, 8]),
        ]
        .concat();
        let expected = [
            Frame { kind: 4, flags: 0, stream: 0, length: 0, code: 0 },
            Frame { kind: HEADERS, flags: END_HEADERS, stream: 1, length: 3, code: 0 },
            Frame { kind: RST_STREAM, flags: 0, stream: 3, length: 4, code: 0x108 },
        ];
        assert_eq!(frames_in_pieces(&bytes, bytes.len()), expected);
        assert_eq!(frames_in_pieces(&bytes[..bytes.len() - 1], bytes.len()), expected[..2]);
    }

    #[test]
    fn scanner_reports_no_frame_boundary_within_a_frame() {
        let mut scanner = FrameScanner::for_server();
        assert!(scanner.is_between_frames());
        let bytes = frame(DATA, 0, 1, b"ab");
        for end in 1..bytes.len() {
            let mut scanner = FrameScanner::for_server();
            assert_eq!(scanner.next(&bytes[..end], &mut 0), None);
            assert!(!scanner.is_between_frames());
        }
        assert!(scanner.next(&bytes, &mut 0).is_some());
        assert!(scanner.is_between_frames());
    }

    proptest! {
        #[test]
        fn scanned_frames_do_not_depend_on_read_boundaries(
            frames in proptest::collection::vec((0u8..12, proptest::collection::vec(any::<u8>(), 0..40)), 0..20),
            piece in 1usize..60,
        ) {
            let all = frames.iter().map(|(kind, payload)| frame(*kind, 0, 1, payload));
            let bytes = std::iter::once(PREFACE.to_vec()).chain(all).collect::<Vec<_>>().concat();
            let found = frames_in_pieces(&bytes, piece);
            prop_assert_eq!(&found, &frames_in_pieces(&bytes, bytes.len()));
            prop_assert_eq!(found.len(), frames.len());
        }
    }
}
