//! Catches panics, counts them, and logs them.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// The error after a panic; the state of the code must be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panicked;

/// Runs `code` and catches panics; after a panic, the state that `code` used must be dropped.
pub(super) fn catch_panic<T>(code: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        // The panic hook has printed the location; this adds the panic to the log.
        tracing::error!(panic = message(&*payload), "panic while serving a request");
        Panicked
    })
}

/// Returns the number of panics caught by this process.
pub(crate) fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

// One counter for the process, for the panics of all services.
static PANICS: AtomicU64 = AtomicU64::new(0);

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the service panicked")
    }
}

impl std::error::Error for Panicked {}
