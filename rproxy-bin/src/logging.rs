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
        .with_ansi(has_colors(&io::stderr()))
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    if subscriber.try_init().is_ok() {
        let _ = CHANGE_FILTER.set(Box::new(move |filter| drop(handle.reload(filter))));
    }
}

/// Returns whether text for `out` has colours: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
pub(crate) fn has_colors(out: &impl IsTerminal) -> bool {
    out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Changes the log filter that [`init`] installed. Has no effect if the program has its own subscriber.
pub(crate) fn set_filter(filter: &LogFilter) {
    if let Some(change) = CHANGE_FILTER.get() {
        change(filter.to_env_filter());
    }
}
