//! A parsed setting value together with its source text.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

/// A parsed value together with its source text, for types that cannot be formatted.
#[derive(Clone, PartialEq, Eq)]
pub struct Parsed<T> {
    text: String,
    value: T,
}

impl<T> Parsed<T> {
    /// Creates a value that was parsed from `text`.
    pub fn new(text: impl Into<String>, value: T) -> Self {
        Self { text: text.into(), value }
    }

    /// Returns the source text of the value.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the parsed value without the source text.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Returns the parsed value, discarding its source text.
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T> Deref for Parsed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> fmt::Debug for Parsed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl<T> FromStr for Parsed<T>
where
    T: FromStr,
{
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        Ok(Self::new(text, text.parse()?))
    }
}

impl<T> Default for Parsed<T>
where
    T: Default,
{
    /// Returns the default value of `T`, with an empty source text.
    fn default() -> Self {
        Self::new("", T::default())
    }
}
