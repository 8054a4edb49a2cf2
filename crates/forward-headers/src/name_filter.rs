//! A fast filter that excludes most header field names in a few instructions.
//!
//! A request has about fifteen fields, and usually none of them is on the lists of fields to remove.

/// An approximate set of field names and prefixes, like a Bloom filter.
///
/// It contains all names that were added, and possibly others.
pub(crate) struct NameFilter {
    /// A bitmap of hashes of each name's length, first letter and last letter.
    names: [u64; WORDS],
    /// A bitmap of the third letters of all prefixes, indexed by first letter.
    prefixes: [u32; 32],
    /// The length of the shortest prefix, indexed by first letter.
    shortest_prefix: [usize; 32],
}

/// The number of 64-bit words in the bitmap of names. A few hundred names set a few percent of its bits.
const WORDS: usize = 64;

impl NameFilter {
    /// Creates a filter for names and prefixes, in which any symbol may replace a hyphen.
    ///
    /// All names and prefixes have at least four bytes. The first and last byte of a name, and the first and third byte of a
    /// prefix, must be letters or digits, which are the same in all spellings.
    pub(crate) const fn new(names: &[&[&str]], prefixes: &[&str]) -> Self {
        let mut filter = Self { names: [0; WORDS], prefixes: [0; 32], shortest_prefix: [usize::MAX; 32] };
        let mut group = 0;
        while group < names.len() {
            let mut index = 0;
            while index < names[group].len() {
                let name = names[group][index].as_bytes();
                assert!(name.len() >= 4);
                assert!(name[0].is_ascii_alphanumeric() && name[name.len() - 1].is_ascii_alphanumeric());
                let (word, bit) = hash(name.len(), name[0], name[name.len() - 1]);
                filter.names[word] |= bit;
                index += 1;
            }
            group += 1;
        }
        let mut index = 0;
        while index < prefixes.len() {
            let prefix = prefixes[index].as_bytes();
            assert!(prefix.len() >= 4);
            assert!(prefix[0].is_ascii_alphanumeric() && prefix[2].is_ascii_alphanumeric());
            let first = letter(prefix[0]);
            filter.prefixes[first] |= 1 << letter(prefix[2]);
            if prefix.len() < filter.shortest_prefix[first] {
                filter.shortest_prefix[first] = prefix.len();
            }
            index += 1;
        }
        filter
    }

    /// Returns `false` if `name` matches no name and no prefix of the filter.
    #[inline]
    pub(crate) fn may_contain(&self, name: &str) -> bool {
        let [first, _, third, .., last] = name.as_bytes() else { return false };
        let (word, bit) = hash(name.len(), *first, *last);
        let first = letter(*first);
        self.names[word] & bit != 0
            || self.prefixes[first] & 1 << letter(*third) != 0 && name.len() >= self.shortest_prefix[first]
    }
}

const fn hash(length: usize, first: u8, last: u8) -> (usize, u64) {
    // Fibonacci hashing: the upper bits are the best.
    let hash = (length as u32 | (first as u32) << 8 | (last as u32) << 16).wrapping_mul(0x9e37_79b1) >> 20;
    (hash as usize / 64 % WORDS, 1 << (hash % 64))
}

/// Returns the index of a letter: its five lowest bits.
const fn letter(byte: u8) -> usize {
    (byte & 31) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_filter_contains_added_names_and_prefixes_but_few_others() {
        let filter = NameFilter::new(&[&["proxy", "x-real-ip"], &["expect"]], &["x-forwarded-", "fly-"]);
        for name in ["proxy", "x-real-ip", "x_real.ip", "expect", "x-forwarded-for", "x_forwarded_", "fly-client-ip"] {
            assert!(filter.may_contain(name), "{name}");
        }
        let long = "a".repeat(100);
        for name in ["", "x", "x-", "accept", "host", "user-agent", "cookie", "expects", "priority", &long] {
            assert!(!filter.may_contain(name), "{name}");
        }
    }
}
