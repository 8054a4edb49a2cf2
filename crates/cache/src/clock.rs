//! The clock of the cache, which tests can replace.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A time in milliseconds since the Unix epoch.
///
/// HTTP counts in seconds, but a difference of two rounded times is wrong by up to a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(u64);

impl Timestamp {
    pub(crate) fn seconds(self) -> u64 {
        self.0 / 1000
    }

    pub(crate) fn milliseconds(self) -> u64 {
        self.0
    }

    pub(crate) fn from_milliseconds(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// Returns the whole seconds since `earlier`, or zero if `earlier` is later than this time.
    pub(crate) fn seconds_since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The system clock, or its replacement in tests.
#[derive(Clone, Default)]
pub(crate) struct Clock(Option<Arc<dyn Fn() -> SystemTime + Send + Sync>>);

impl Clock {
    pub(crate) fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(now)))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.as_ref().map_or_else(SystemTime::now, |now| now()).into()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Clock(custom)" } else { "Clock(system)" })
    }
}
