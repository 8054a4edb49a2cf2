//! A value that remembers how it was written.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

/// A value beside the text it was read from, for types that can't be written back.
#[derive(Clone, PartialEq, Eq)]
pub struct Parsed<T> {
    text: String,
    value: T,
}

impl<T> Parsed<T> {
    /// A value that was read from `text`.
    pub fn new(text: impl Into<String>, value: T) -> Self {
        Self { text: text.into(), value }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The value, without its text.
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
    /// The value's own default, which no text stands for.
    fn default() -> Self {
        Self::new("", T::default())
    }
}
