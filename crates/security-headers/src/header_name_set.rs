//! A set of header names.

use http::HeaderName;

/// A set of header names with a fast path for names that it does not contain.
///
/// It rejects most of them by their length and first letter.
#[derive(Clone, Debug)]
pub(crate) struct HeaderNameSet {
    /// The header names in the set, grouped by length. Those of `LENGTHS - 1` and more share the last entry.
    by_length: [Vec<HeaderName>; LENGTHS],
    shapes: ShapeSet,
}

const LENGTHS: usize = 48;

impl HeaderNameSet {
    pub(crate) fn from_static(names: &[&'static str]) -> Self {
        let mut set = Self { by_length: [const { Vec::new() }; LENGTHS], shapes: ShapeSet::default() };
        for name in names {
            set.insert(HeaderName::from_static(name));
        }
        set
    }

    pub(crate) fn insert(&mut self, name: HeaderName) {
        self.shapes.insert(&name);
        if self.get(&name).is_none() {
            self.by_length[Shape::of(&name).length].push(name);
        }
    }

    pub(crate) fn remove(&mut self, name: &HeaderName) {
        self.by_length[Shape::of(name).length].retain(|present| present != name);
    }

    /// Returns the shapes of the names. It may contain those of removed names.
    pub(crate) fn shapes(&self) -> &ShapeSet {
        &self.shapes
    }

    /// Returns the stored copy of `name`, or `None` if the set does not contain `name`.
    pub(crate) fn get(&self, name: &HeaderName) -> Option<&HeaderName> {
        self.get_by_shape(name, Shape::of(name))
    }

    /// Returns the stored copy of `name`, whose shape is `shape`.
    pub(crate) fn get_by_shape(&self, name: &HeaderName, shape: Shape) -> Option<&HeaderName> {
        if !self.shapes.contains(shape) {
            return None;
        }
        self.by_length[shape.length].iter().find(|present| *present == name)
    }
}

/// The length and the first letter of a header name, by which most names are excluded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// The length, or `LENGTHS - 1` for longer names.
    length: usize,
    /// The bit of the first letter in a bitmap.
    letter: u32,
}

impl Shape {
    pub(crate) fn of(name: &HeaderName) -> Self {
        let name = name.as_str().as_bytes();
        let letter = name.first().map_or(0, |byte| 1 << (byte & 31));
        Self { length: name.len().min(LENGTHS - 1), letter }
    }
}

/// The shapes of a set of header names: bitmaps of the first letters, one per length.
#[derive(Clone, Debug)]
pub(crate) struct ShapeSet([u32; LENGTHS]);

impl ShapeSet {
    pub(crate) fn insert(&mut self, name: &HeaderName) {
        let Shape { length, letter } = Shape::of(name);
        self.0[length] |= letter;
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|length| self.0[length] | other.0[length]))
    }

    pub(crate) fn contains(&self, shape: Shape) -> bool {
        self.0[shape.length] & shape.letter != 0
    }
}

impl Default for ShapeSet {
    fn default() -> Self {
        Self([0; LENGTHS])
    }
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
