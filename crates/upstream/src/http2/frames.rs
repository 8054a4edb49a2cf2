//! The boundaries of HTTP/2 frames in the bytes of a connection (RFC 9113 §4.1).

/// A scanner that finds HTTP/2 frames in one direction of a connection, regardless of how its bytes are split.
#[derive(Debug, Default)]
pub(super) struct FrameScanner {
    header: [u8; HEADER],
    /// The number of bytes of `header` that were scanned.
    filled: usize,
    /// The number of payload bytes that were scanned.
    offset: usize,
    /// The number of unscanned bytes of the connection preface, before the first frame.
    preface: usize,
}

/// An HTTP/2 frame with the available part of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FramePart<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    /// The length of the frame's complete payload in bytes.
    pub(super) length: usize,
    pub(super) payload: &'a [u8],
    /// The position of `payload` within the frame's complete payload.
    pub(super) offset: usize,
}

impl FramePart<'_> {
    pub(super) fn is_first(&self) -> bool {
        self.offset == 0
    }

    pub(super) fn is_last(&self) -> bool {
        self.offset + self.payload.len() == self.length
    }
}

impl FrameScanner {
    /// Creates a scanner for the bytes that a client sends, which begin with the preface (RFC 9113 §3.4).
    pub(super) fn of_client() -> Self {
        Self { preface: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len(), ..Self::default() }
    }

    /// Takes the next part of a frame from the front of `bytes`. A frame without payload has one empty part.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<FramePart<'a>> {
        self.preface -= take(bytes, self.preface).len();
        if self.filled < HEADER {
            let header = take(bytes, HEADER - self.filled);
            self.header[self.filled..self.filled + header.len()].copy_from_slice(header);
            self.filled += header.len();
            self.offset = 0;
        }
        let [high, middle, low, kind, flags, stream @ ..] = self.header;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if self.filled < HEADER || bytes.is_empty() && length > 0 {
            return None;
        }
        let payload = take(bytes, length - self.offset);
        // The first bit is reserved.
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        let part = FramePart { kind, flags, stream, length, payload, offset: self.offset };
        self.offset += payload.len();
        if part.is_last() {
            self.filled = 0;
        }
        Some(part)
    }
}

/// Takes at most `length` bytes from the front of `bytes`.
fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length.min(bytes.len()));
    *bytes = rest;
    taken
}

const HEADER: usize = 9;

// RFC 9113 §6.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const SETTINGS: u8 = 4;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// Returns the bytes of an HTTP/2 frame.
#[cfg(test)]
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = payload.len().to_be_bytes();
    [&[high, middle, low, kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn scanner_finds_every_frame_however_the_input_is_split(
            frames in prop::collection::vec((0_u8..12, any::<u8>(), 0_u32..9, 0_usize..300), 0..20),
            pieces in prop::collection::vec(1_usize..40, 1..20),
        ) {
            let bytes: Vec<u8> =
                frames.iter().flat_map(|(kind, flags, stream, length)| frame(*kind, *flags, *stream, &vec![*kind; *length])).collect();
            let (mut scanner, mut found, mut payload) = (FrameScanner::default(), Vec::new(), Vec::new());
            let (mut rest, mut sizes) = (&bytes[..], pieces.iter().cycle());
            while !rest.is_empty() {
                let mut piece = take(&mut rest, *sizes.next().unwrap());
                while let Some(part) = scanner.next(&mut piece) {
                    prop_assert_eq!(part.offset, payload.len());
                    prop_assert_eq!(part.is_first(), payload.is_empty());
                    payload.extend_from_slice(part.payload);
                    if part.is_last() {
                        prop_assert_eq!(&payload, &vec![part.kind; part.length]);
                        found.push((part.kind, part.flags, part.stream, part.length));
                        payload.clear();
                    }
                }
            }
            prop_assert_eq!(found, frames);
        }
    }
}
