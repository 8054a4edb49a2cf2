//! A set of header names.

use http::HeaderName;

/// A set of header names with a fast path for names that it does not contain.
///
/// It rejects most of them by their length and first letter.
#[derive(Clone, Debug)]
pub(crate) struct HeaderNameSet {
    /// The header names in the set, grouped by length. Those of `LENGTHS - 1` and more share the last entry.
    by_length: [Vec<HeaderName>; LENGTHS],
    /// Bitmaps of the first letters of the header names, one per length.
    letters: [u32; LENGTHS],
}

const LENGTHS: usize = 48;

impl HeaderNameSet {
    pub(crate) fn from_static(names: &[&'static str]) -> Self {
        let mut set = Self { by_length: [const { Vec::new() }; LENGTHS], letters: [0; LENGTHS] };
        for name in names {
            set.insert(HeaderName::from_static(name));
        }
        set
    }

    pub(crate) fn insert(&mut self, name: HeaderName) {
        let (length, letter) = length_and_letter(&name);
        self.letters[length] |= letter;
        if self.get(&name).is_none() {
            self.by_length[length].push(name);
        }
    }

    pub(crate) fn remove(&mut self, name: &HeaderName) {
        let (length, _) = length_and_letter(name);
        self.by_length[length].retain(|present| present != name);
    }

    /// Returns the stored copy of `name`, or `None` if the set does not contain `name`.
    pub(crate) fn get(&self, name: &HeaderName) -> Option<&HeaderName> {
        let (length, letter) = length_and_letter(name);
        if self.letters[length] & letter == 0 {
            return None;
        }
        self.by_length[length].iter().find(|present| *present == name)
    }
}

/// Returns the length index of a name and the bitmap bit of its first letter.
fn length_and_letter(name: &HeaderName) -> (usize, u32) {
    let name = name.as_str().as_bytes();
    let letter = name.first().map_or(0, |byte| 1 << (byte & 31));
    (name.len().min(LENGTHS - 1), letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_name_set_contains_exactly_the_inserted_names() {
        let long = "x".repeat(100);
        let mut set = HeaderNameSet::from_static(&["server", "x-powered-by", "$wsep"]);
        set.insert(long.parse().unwrap());
        set.insert("via".parse().unwrap());
        set.remove(&"via".parse().unwrap());
        for (name, is_contained) in [
            ("server", true),
            ("Server", true),
            ("x-powered-by", true),
            ("$wsep", true),
            (long.as_str(), true),
            ("via", false),
            ("sirvir", false),
            ("date", false),
            ("x-powered", false),
        ] {
            let name: HeaderName = name.parse().unwrap();
            assert_eq!(set.get(&name), is_contained.then_some(&name));
        }
    }
}
