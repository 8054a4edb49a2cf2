//! A set of header names that most names are not in.

use http::HeaderName;

/// Says no to most names by their first letter and their length.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// In the order of their lengths, and then of their text, to be searched by halves: lengths are quick to compare.
    sorted: Vec<HeaderName>,
    /// For each first letter, by its five lowest bits, a bit for each length.
    lengths: [u64; 32],
}

impl Names {
    pub(crate) fn of(names: &[&'static str]) -> Self {
        let mut set = Self { sorted: Vec::with_capacity(names.len()), lengths: [0; 32] };
        for name in names {
            set.insert(HeaderName::from_static(name));
        }
        set
    }

    pub(crate) fn insert(&mut self, name: HeaderName) {
        let (letter, length) = place(&name);
        self.lengths[letter] |= length;
        if let Err(at) = self.search(&name) {
            self.sorted.insert(at, name);
        }
    }

    pub(crate) fn remove(&mut self, name: &HeaderName) {
        self.sorted.retain(|present| present != name);
    }

    /// The set's own copy of `name`.
    pub(crate) fn find(&self, name: &HeaderName) -> Option<&HeaderName> {
        let (letter, length) = place(name);
        if self.lengths[letter] & length == 0 {
            return None;
        }
        self.search(name).ok().and_then(|at| self.sorted.get(at))
    }

    fn search(&self, name: &HeaderName) -> Result<usize, usize> {
        let name = name.as_str();
        self.sorted.binary_search_by(|present| {
            let present = present.as_str();
            present.len().cmp(&name.len()).then_with(|| present.cmp(name))
        })
    }
}

/// The letter's index, and the length's bit; all lengths from 63 share one.
fn place(name: &HeaderName) -> (usize, u64) {
    let name = name.as_str().as_bytes();
    let letter = name.first().map_or(0, |byte| usize::from(byte & 31));
    (letter, 1 << name.len().min(63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_found_and_nothing_else() {
        let long = "x".repeat(100);
        let mut set = Names::of(&["server", "x-powered-by", "$wsep"]);
        set.insert(long.parse().unwrap());
        set.insert("via".parse().unwrap());
        set.remove(&"via".parse().unwrap());
        for (name, found) in [
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
            assert_eq!(set.find(&name), found.then_some(&name));
        }
    }
}
