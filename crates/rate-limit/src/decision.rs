//! The rate limiter's decision about a request, for logs and metrics.

use std::cmp::Reverse;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::key::MissingKeyError;

/// The rate limiter's decision about a request, as a response extension.
///
/// The response to a request that is not limited has no such extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimitDecision {
    /// The request was within its quota and was forwarded.
    Allowed {
        /// The number of additional requests that the quota of the key allows immediately.
        remaining: u32,
    },
    /// The request exceeded its quota and was rejected with 429.
    Rejected {
        /// The time until the quota allows the request. `Retry-After` is this value, rounded up.
        retry_after: Duration,
    },
    /// The request exceeded its quota, but shadow mode forwarded it.
    ///
    /// See [`RateLimitLayerBuilder::shadow`](crate::RateLimitLayerBuilder::shadow).
    WouldReject {
        /// The time until the quota would allow the request.
        retry_after: Duration,
    },
    /// The key reached its in-flight limit, so the request was rejected with 429.
    ///
    /// See [`RateLimitLayerBuilder::max_in_flight`](crate::RateLimitLayerBuilder::max_in_flight).
    TooManyInFlight,
    /// The store failed, and the request was forwarded without being counted.
    ///
    /// This happens with [`StoreFallback::Open`](crate::StoreFallback::Open), and in shadow mode.
    FailedOpen,
    /// The store failed, and [`StoreFallback::Closed`](crate::StoreFallback::Closed) rejected the request with 503.
    FailedClosed,
    /// The request lacked the data for its key, so it was rejected with 500, or forwarded in shadow mode.
    MissingKey(MissingKeyError),
}

impl RateLimitDecision {
    pub(crate) fn is_rejection(&self) -> bool {
        matches!(self, Self::Rejected { .. } | Self::TooManyInFlight | Self::FailedClosed | Self::MissingKey(_))
    }

    /// Returns the decision after a refund of `cost` to a key with this burst.
    pub(crate) fn refunded(self, cost: NonZeroU32, burst: u32) -> Self {
        match self {
            Self::Allowed { remaining } => Self::Allowed { remaining: remaining.saturating_add(cost.get()).min(burst) },
            other => other,
        }
    }

    /// Returns the severity of the decision as a sort key; the greatest key is the most severe.
    ///
    /// It is the decision with the longest wait, and among these the one with the fewest remaining requests.
    pub(crate) fn severity(&self) -> (Duration, Reverse<u32>) {
        match *self {
            Self::Allowed { remaining } => (Duration::ZERO, Reverse(remaining)),
            Self::FailedOpen => (Duration::ZERO, Reverse(u32::MAX)),
            Self::Rejected { retry_after } | Self::WouldReject { retry_after } => {
                (retry_after.max(Duration::from_nanos(1)), Reverse(0))
            }
            Self::TooManyInFlight | Self::FailedClosed | Self::MissingKey(_) => (Duration::MAX, Reverse(0)),
        }
    }

    /// Converts the decision to reject into the decision that shadow mode reports.
    pub(crate) fn into_shadow(self) -> Self {
        match self {
            Self::Rejected { retry_after } => Self::WouldReject { retry_after },
            Self::TooManyInFlight => Self::WouldReject { retry_after: DEFAULT_RETRY_AFTER },
            Self::FailedClosed => Self::FailedOpen,
            other => other,
        }
    }
}

/// The `Retry-After` of rejections with an unknown waiting time, such as those by the in-flight limit.
pub(crate) const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);
