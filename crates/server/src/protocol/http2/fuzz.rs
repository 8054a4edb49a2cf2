//! The fuzz target of the HTTP/2 frame scanner.

use super::frames::frames_in_pieces;

/// Checks that read boundaries do not change the scanned HTTP/2 frames.
pub fn frames(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    assert_eq!(frames_in_pieces(bytes, bytes.len()), frames_in_pieces(bytes, usize::from(*piece)));
}
