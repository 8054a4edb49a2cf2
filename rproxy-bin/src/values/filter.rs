//! The response to requests for paths that the path filter blocks.

use std::fmt;
use std::str::FromStr;

use http::StatusCode;

use super::value::ParseError;

/// The response to a request for a blocked path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockedPathResponse {
    /// Responds with a client error status (4xx).
    Status(StatusCode),
    /// Closes the connection without a response, or resets the stream over HTTP/2.
    Close,
}

impl BlockedPathResponse {
    /// Returns the status that metrics and the access log record for the blocked request.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Status(status) => status,
            Self::Close => StatusCode::NOT_FOUND,
        }
    }
}

impl Default for BlockedPathResponse {
    fn default() -> Self {
        Self::Status(StatusCode::NOT_FOUND)
    }
}

impl FromStr for BlockedPathResponse {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.eq_ignore_ascii_case("close") {
            return Ok(Self::Close);
        }
        let status = text.parse().ok().filter(StatusCode::is_client_error);
        status
            .map(Self::Status)
            .ok_or_else(|| ParseError::new("status", text, "neither a status from 400 to 499 nor close"))
    }
}

impl fmt::Display for BlockedPathResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => f.write_str(status.as_str()),
            Self::Close => f.write_str("close"),
        }
    }
}
