//! A set of header names that most names are not in.

use http::HeaderName;

/// Says no to most names by their length and their first letter.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// For each length; all from the last on share a place.
    by_length: [Vec<HeaderName>; LENGTHS],
    /// For each length, a bit for each first letter.
    letters: [u32; LENGTHS],
}

const LENGTHS: usize = 48;

impl Names {
    pub(crate) fn of(names: &[&'static str]) -> Self {
        let mut set = Self { by_length: [const { Vec::new() }; LENGTHS], letters: [0; LENGTHS] };
        for name in names {
            set.insert(HeaderName::from_static(name));
        }
        set
    }

    pub(crate) fn insert(&mut self, name: HeaderName) {
        let (length, letter) = place(&name);
        self.letters[length] |= letter;
        if self.find(&name).is_none() {
            self.by_length[length].push(name);
        }
    }

    pub(crate) fn remove(&mut self, name: &HeaderName) {
        let (length, _) = place(name);
        self.by_length[length].retain(|present| present != name);
    }

    /// The set's own copy of `name`.
    pub(crate) fn find(&self, name: &HeaderName) -> Option<&HeaderName> {
        let (length, letter) = place(name);
        if self.letters[length] & letter == 0 {
            return None;
        }
        self.by_length[length].iter().find(|present| *present == name)
    }
}

/// The length's place, and the first letter's bit: its five lowest bits tell letters apart.
fn place(name: &HeaderName) -> (usize, u32) {
    let name = name.as_str().as_bytes();
    let letter = name.first().map_or(0, |byte| 1 << (byte & 31));
    (name.len().min(LENGTHS - 1), letter)
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
