//! Tells most names from those that are looked for, in a few instructions: each request has some fifteen, of which
//! mostly none is.

/// A set of names and beginnings of names, of which it knows lengths and letters only.
pub(crate) struct Sieve {
    /// A bit for each length, first and last letter of a name, hashed.
    names: [u64; WORDS],
    /// For each first letter, the third letters of the beginnings with it.
    beginnings: [u32; 32],
    /// And the length of the shortest.
    shortest: [usize; 32],
}

/// Some hundred names take a few of a hundred bits.
const WORDS: usize = 64;

impl Sieve {
    /// Of `names` whose first and last bytes, and of `beginnings` whose first and third, are letters or digits: in no
    /// spelling does anything else stand there.
    pub(crate) const fn new(names: &[&[&str]], beginnings: &[&str]) -> Self {
        let mut sieve = Self { names: [0; WORDS], beginnings: [0; 32], shortest: [usize::MAX; 32] };
        let mut group = 0;
        while group < names.len() {
            let mut index = 0;
            while index < names[group].len() {
                let name = names[group][index].as_bytes();
                assert!(name[0].is_ascii_alphanumeric() && name[name.len() - 1].is_ascii_alphanumeric());
                let (word, bit) = hash(name.len(), name[0], name[name.len() - 1]);
                sieve.names[word] |= bit;
                index += 1;
            }
            group += 1;
        }
        let mut index = 0;
        while index < beginnings.len() {
            let beginning = beginnings[index].as_bytes();
            assert!(beginning[0].is_ascii_alphanumeric() && beginning[2].is_ascii_alphanumeric());
            let first = letter(beginning[0]);
            sieve.beginnings[first] |= 1 << letter(beginning[2]);
            if beginning.len() < sieve.shortest[first] {
                sieve.shortest[first] = beginning.len();
            }
            index += 1;
        }
        sieve
    }

    /// Whether `name` may be one of them, or begin as one does; if not, it neither is nor does.
    pub(crate) fn may_hold(&self, name: &str) -> bool {
        let ([first, ..], [.., last]) = (name.as_bytes(), name.as_bytes()) else { return false };
        let (word, bit) = hash(name.len(), *first, *last);
        let third = name.as_bytes().get(2).map_or(0, |third| 1 << letter(*third));
        let first = letter(*first);
        self.names[word] & bit != 0 || self.beginnings[first] & third != 0 && name.len() >= self.shortest[first]
    }
}

const fn hash(length: usize, first: u8, last: u8) -> (usize, u64) {
    // Fibonacci hashing: the best bits are the topmost.
    let hash = (length as u32 | (first as u32) << 8 | (last as u32) << 16).wrapping_mul(0x9e37_79b1) >> 20;
    (hash as usize / 64 % WORDS, 1 << (hash % 64))
}

/// Letters have five bits of their own.
const fn letter(byte: u8) -> usize {
    (byte & 31) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_is_let_through_and_most_of_the_rest_is_not() {
        let sieve = Sieve::new(&[&["proxy", "x-real-ip"], &["expect"]], &["x-forwarded-", "fly-"]);
        for name in ["proxy", "x-real-ip", "x_real.ip", "expect", "x-forwarded-for", "x_forwarded_", "fly-client-ip"] {
            assert!(sieve.may_hold(name), "{name}");
        }
        let long = "a".repeat(100);
        for name in ["", "x", "x-", "accept", "host", "user-agent", "cookie", "expects", "priority", &long] {
            assert!(!sieve.may_hold(name), "{name}");
        }
    }
}
