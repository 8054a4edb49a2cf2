//! A filter that excludes most paths in a few instructions per byte, in front of the search for literal texts.

use std::collections::BTreeSet;

use memchr::memmem::Finder;

/// Four-byte parts of literal texts: a path that contains one of the texts contains its part.
pub(crate) struct GramFilter {
    /// The parts, sorted.
    grams: Box<[u32]>,
    /// A bitmap of the hashes of the parts, with 64 bits or more per part. A path that is made to collide costs a binary
    /// search per byte.
    bitmap: Box<[u64]>,
    /// The number of low bits of a hash that are not used.
    shift: u32,
    /// The texts of less than four bytes.
    short: Vec<Finder<'static>>,
}

/// The maximum number of parts, whose bitmap takes 8 KiB. The default list has about 230.
const MAX_GRAMS: usize = 1024;

/// The maximum number of texts of less than four bytes, each of which costs a search.
const MAX_SHORT: usize = 2;

impl GramFilter {
    /// Creates a filter for these texts, or returns `None` if it would exclude too few paths.
    pub(crate) fn new(literals: &[&[u8]]) -> Option<Self> {
        let (mut grams, mut short) = (BTreeSet::new(), Vec::new());
        for &literal in literals {
            let parts = literal.windows(4).filter_map(|part| Some(u32::from_be_bytes(*part.first_chunk()?)));
            if parts.clone().any(|part| grams.contains(&part)) {
                continue;
            }
            match parts.max_by_key(|part| rarity(*part)) {
                Some(part) => drop(grams.insert(part)),
                None => short.push(Finder::new(literal).into_owned()),
            }
        }
        if grams.len() > MAX_GRAMS || short.len() > MAX_SHORT {
            return None;
        }
        let words = grams.len().next_power_of_two();
        let shift = u32::BITS - u64::BITS.ilog2() - words.ilog2();
        let mut bitmap = vec![0; words];
        for &gram in &grams {
            let (word, bit) = hash(gram, shift);
            bitmap[word] |= bit;
        }
        Some(Self { grams: grams.into_iter().collect(), bitmap: bitmap.into(), shift, short })
    }

    /// Returns `false` if `path` contains none of the texts.
    pub(crate) fn may_match(&self, path: &[u8]) -> bool {
        let mut window = 0_u32;
        for &byte in path {
            window = window << 8 | u32::from(byte);
            let (word, bit) = hash(window, self.shift);
            if self.bitmap[word] & bit != 0 && self.grams.binary_search(&window).is_ok() {
                return true;
            }
        }
        self.short.iter().any(|text| text.find(path).is_some())
    }
}

/// Returns how rare a part is in ordinary paths, by its characters.
fn rarity(part: u32) -> u32 {
    let rarity = |byte: u8| match byte {
        b'/' => 0,
        b'0'..=b'9' => 2,
        b'-' | b'.' => 4,
        byte if byte.is_ascii_alphabetic() => 1,
        _ => 6,
    };
    part.to_be_bytes().into_iter().map(rarity).sum()
}

/// Returns the index of a word in the bitmap, and the bit in the word.
fn hash(part: u32, shift: u32) -> (usize, u64) {
    // Fibonacci hashing: the upper bits are the best.
    let hash = part.wrapping_mul(0x9e37_79b1) >> shift;
    (hash as usize / 64, 1 << (hash % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gram_filter_accepts_every_path_that_contains_a_literal(
            literals in proptest::collection::vec("[a-d/.]{1,7}", 1..4),
            path in "[a-d/.]{0,16}",
        ) {
            let literals: Vec<_> = literals.iter().map(String::as_bytes).collect();
            let contains = literals.iter().any(|literal| memchr::memmem::find(path.as_bytes(), literal).is_some());
            let may_match = GramFilter::new(&literals).is_none_or(|filter| filter.may_match(path.as_bytes()));
            prop_assert!(may_match || !contains);
        }
    }

    #[test]
    fn gram_filter_excludes_paths_without_a_rare_part_of_a_literal() {
        let filter = GramFilter::new(&[b"/.env", b".sqlite", b"id_rsa", b"/.."]).unwrap();
        for (path, may_match) in [
            (&b"/"[..], false),
            (b"/articles/2026/how-to-measure", false),
            (b"/environment", false),
            (b"/a/.env", true),
            (b"/a.sqlite3", true),
            (b"/id_rsa", true),
            (b"/a/../b", true),
            (b"", false),
        ] {
            assert_eq!(filter.may_match(path), may_match, "{}", path.escape_ascii());
        }
    }
}
