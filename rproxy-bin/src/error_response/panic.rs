//! A panic as a value: counted, logged, and over.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Some code panicked; what it left half done is to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panicked;

/// Runs `code`, which must not be used again after a panic.
pub(super) fn catch_panic<T>(code: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        // The panic hook has printed where; this puts it into the log.
        tracing::error!(panic = message(&*payload), "panic while serving a request");
        Panicked
    })
}

/// How many panics this process has survived.
pub(crate) fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

// One for the process, because a panic is the process's defect, whatever it was serving.
static PANICS: AtomicU64 = AtomicU64::new(0);

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the code that was to answer panicked")
    }
}

impl std::error::Error for Panicked {}
