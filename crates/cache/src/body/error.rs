//! Errors of response bodies.

use std::fmt;

use bytes::Bytes;
use http_body::{Body, Frame};

/// The reason why a response body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError<E> {
    /// The body of the inner service failed.
    Inner(E),
    /// The body broke off, and there is no error of the inner service for this request.
    ///
    /// It is the body of a coalesced fetch, or the missing part of an incomplete stored response.
    Incomplete,
}

/// The result of polling a body of type `B` through this crate.
pub(crate) type NextFrame<B> = Option<Result<Frame<Bytes>, BodyError<<B as Body>::Error>>>;

const INCOMPLETE: &str = "the response body broke off before its end";

impl<E: fmt::Display> fmt::Display for BodyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inner(error) => error.fmt(f),
            Self::Incomplete => f.write_str(INCOMPLETE),
        }
    }
}

/// Converts an error of the inner body unchanged.
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
