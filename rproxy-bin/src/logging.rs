//! The log of the process, which is written to standard error.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

use crate::config::LogFilter;

type ChangeFilter = Box<dyn Fn(EnvFilter) + Send + Sync>;

static CHANGE_FILTER: OnceLock<ChangeFilter> = OnceLock::new();

/// Starts logging to standard error, with a filter that a reload can change.
pub fn init(filter: &LogFilter) {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter.to_env_filter())
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    if subscriber.try_init().is_ok() {
        let _ = CHANGE_FILTER.set(Box::new(move |filter| drop(handle.reload(filter))));
    }
}

/// Changes the log filter that [`init`] installed. Has no effect if the program has its own subscriber.
pub(crate) fn set_filter(filter: &LogFilter) {
    if let Some(change) = CHANGE_FILTER.get() {
        change(filter.to_env_filter());
    }
}
