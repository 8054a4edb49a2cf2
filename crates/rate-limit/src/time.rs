//! The system clock, or a clock that the program supplies.

use std::fmt;
use std::sync::Arc;

use governor::clock::{Clock, DefaultClock, Reference};
use governor::nanos::Nanos;

/// A clock whose time is relative to its creation.
#[derive(Clone)]
pub(crate) enum Time {
    System { clock: DefaultClock, start: <DefaultClock as Clock>::Instant },
    Custom(Arc<dyn Fn() -> Nanos + Send + Sync>),
}

impl Time {
    pub(crate) fn system() -> Self {
        let clock = DefaultClock::default();
        Self::System { start: clock.now(), clock }
    }

    pub(crate) fn custom<C>(clock: C) -> Self
    where
        C: Clock + Send + Sync + 'static,
    {
        let start = clock.now();
        Self::Custom(Arc::new(move || clock.now().duration_since(start)))
    }
}

impl Clock for Time {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        match self {
            Self::System { clock, start } => clock.now().duration_since(*start),
            Self::Custom(now) => now(),
        }
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System { .. } => "System",
            Self::Custom(_) => "Custom",
        })
    }
}
