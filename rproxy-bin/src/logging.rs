//! The log of the process, which is written to standard error.
//!
//! A proxy writes it on a separate thread: a reader that stops, a full disk or a closed terminal must not stop the workers.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::config::LogFilter;
use crate::line_writer::{LineBuffer, LineWriter};

type ChangeFilter = Box<dyn Fn(EnvFilter) + Send + Sync>;

static CHANGE_FILTER: OnceLock<ChangeFilter> = OnceLock::new();

static BACKGROUND: OnceLock<Background> = OnceLock::new();

/// The thread that writes the log, and the buffer that all threads share.
struct Background {
    writer: LineWriter,
    lines: LineBuffer,
}

/// Starts logging to standard error, with a filter that a reload can change.
pub fn init(filter: &LogFilter) {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter.to_env_filter())
        .with_writer(|| Output)
        // Writes it to standard error with a macro that panics if that fails.
        .log_internal_errors(false)
        .with_ansi(has_colors(&io::stderr()))
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    if subscriber.try_init().is_ok() {
        let _ = CHANGE_FILTER.set(Box::new(move |filter| drop(handle.reload(filter))));
    }
}

/// Writes the log on a separate thread from now on. Has no effect if the program has its own subscriber.
pub(crate) fn write_in_background() {
    if CHANGE_FILTER.get().is_none() || BACKGROUND.get().is_some() {
        return;
    }
    let notice = |lines| format!("{lines} lines of this log were dropped, because they could not be written in time\n");
    match LineWriter::start("rproxy-messages", io::stderr(), Some(notice)) {
        Ok(writer) => {
            let lines = writer.buffer();
            let _ = BACKGROUND.set(Background { writer, lines });
        }
        Err(error) => tracing::warn!("cannot start the thread that writes this log, workers can wait for it: {error}"),
    }
}

/// Waits until the log is written, for at most two seconds. A program calls it before it exits.
pub fn flush() {
    if let Some(background) = BACKGROUND.get() {
        background.writer.flush_within(Duration::from_secs(2));
    }
}

/// The output of the log. Each call of `write` gets a whole line.
struct Output;

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match BACKGROUND.get() {
            Some(background) => background.lines.append(|out| out.extend_from_slice(line)),
            // There is no other output for the failure.
            None => drop(io::stderr().write_all(line)),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
