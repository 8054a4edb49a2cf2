//! What was decided, for logs and metrics.

use std::time::Duration;

use crate::key::MissingKey;

/// Response extension: what the limiter made of the request. Absent where the request is not limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimitDecision {
    /// Within its quota.
    Allowed {
        /// How many more could follow at once.
        remaining: u32,
    },
    /// Answered 429.
    Denied {
        /// When one would pass; `Retry-After` is this, rounded up.
        retry_after: Duration,
    },
    /// Beyond its quota or with too many in progress, and passed all the same: [`shadow`](crate::RateLimitLayer::shadow).
    Shadowed {
        /// When one would pass.
        retry_after: Duration,
    },
    /// Answered 429: the key has as many requests [in progress](crate::RateLimitLayer::max_in_flight) as it may have.
    TooManyInFlight,
    /// Passed uncounted: the [store](crate::RateLimitStore) did not answer, and what is to become of requests then is
    /// [`Fallback::Open`](crate::Fallback::Open).
    Uncounted,
    /// Answered 503: the [store](crate::RateLimitStore) did not answer, and what is to become of requests then is
    /// [`Fallback::Closed`](crate::Fallback::Closed).
    StoreUnavailable,
    /// Nobody to count the request for: answered 500, unless in shadow mode.
    Unkeyed(MissingKey),
}

impl RateLimitDecision {
    /// Whether the request goes no further.
    pub(crate) fn refuses(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::TooManyInFlight | Self::StoreUnavailable | Self::Unkeyed(_))
    }

    /// The higher, the less is left: what is denied for longest is tightest.
    pub(crate) fn tightness(&self) -> (Duration, std::cmp::Reverse<u32>) {
        match *self {
            Self::Allowed { remaining } => (Duration::ZERO, std::cmp::Reverse(remaining)),
            Self::Uncounted => (Duration::ZERO, std::cmp::Reverse(u32::MAX)),
            Self::Denied { retry_after } | Self::Shadowed { retry_after } => {
                (retry_after.max(Duration::from_nanos(1)), std::cmp::Reverse(0))
            }
            Self::TooManyInFlight | Self::StoreUnavailable | Self::Unkeyed(_) => (Duration::MAX, std::cmp::Reverse(0)),
        }
    }

    /// The decision of a layer that only reports.
    pub(crate) fn shadowed(self) -> Self {
        match self {
            Self::Denied { retry_after } => Self::Shadowed { retry_after },
            Self::TooManyInFlight => Self::Shadowed { retry_after: SOON },
            Self::StoreUnavailable => Self::Uncounted,
            other => other,
        }
    }
}

/// When to come again where nobody can know.
pub(crate) const SOON: Duration = Duration::from_secs(1);
