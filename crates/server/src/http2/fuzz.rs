//! What the fuzzers call.

use super::frames::frames_in_pieces;

/// However the bytes of a connection come in, the same frames are seen in them.
pub fn frames(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    assert_eq!(frames_in_pieces(bytes, bytes.len()), frames_in_pieces(bytes, usize::from(*piece)));
}
