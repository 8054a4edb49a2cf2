//! Errors of response bodies.

use std::fmt;

use bytes::Bytes;
use http_body::{Body, Frame};

/// The reason that a response body ended before it was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError<E> {
    /// The body of the inner service failed.
    Inner(E),
    /// The body is incomplete, because a coalesced fetch or the missing part of a stored response failed.
    ///
    /// It is the body of a coalesced fetch, or the missing part of an incomplete stored response.
    Incomplete,
}

/// The next result of polling a response body that wraps a body of type `B`.
pub(crate) type NextFrame<B> = Option<Result<Frame<Bytes>, BodyError<<B as Body>::Error>>>;

const INCOMPLETE: &str = "the response body ended before it was complete";

impl<E: fmt::Display> fmt::Display for BodyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inner(error) => error.fmt(f),
            Self::Incomplete => f.write_str(INCOMPLETE),
        }
    }
}

/// Wraps an error of the inner body without changing its type.
impl<E> From<BodyError<E>> for Box<dyn std::error::Error + Send + Sync>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn from(error: BodyError<E>) -> Self {
        match error {
            BodyError::Inner(error) => error.into(),
            BodyError::Incomplete => INCOMPLETE.into(),
        }
    }
}
