//! What the fuzzers call.

use super::frames::seen_in_pieces;

/// However the bytes of a connection come in, the same frames are seen in them.
pub fn frames(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    assert_eq!(seen_in_pieces(bytes, bytes.len()), seen_in_pieces(bytes, usize::from(*piece)));
}
