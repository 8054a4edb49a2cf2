//! The access log: workers append lines to buffers, which a separate thread writes.
//!
//! A worker never waits for standard output. Lines that do not fit because the reader is too slow are dropped and counted.

mod entry;
mod json;
mod text;

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

pub(super) use self::entry::{LoggedRequest, LoggedResponse};
use self::text::Colors;
use crate::line_writer::{LineBuffer, LineWriter};

/// The writer of the access log, which runs on a separate thread. Clones share the output, which is closed with the
/// last of them.
#[derive(Clone, Debug)]
pub struct Writer {
    lines: LineWriter,
}

/// The format of access log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A line in the combined log format, with additional fields.
    Text,
    /// The same text, with colours for a terminal.
    ColoredText,
    /// One JSON object per line.
    Json,
}

impl Writer {
    /// Starts the thread that writes the access log to `out`.
    ///
    /// # Errors
    ///
    /// Returns an error if the thread cannot be started.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        Ok(Self { lines: LineWriter::start("rproxy-log", out, None)? })
    }

    /// Returns the number of access log lines that were dropped.
    pub fn dropped(&self) -> u64 {
        self.lines.dropped()
    }

    /// Waits until all previous access log lines are written, for at most two seconds. Returns whether they were.
    ///
    /// This blocks, and is meant for the end of a program. The limit covers readers that have stopped reading.
    pub fn flush(&self) -> bool {
        self.flush_within(Duration::from_secs(2))
    }

    fn flush_within(&self, timeout: Duration) -> bool {
        self.lines.flush_within(timeout)
    }

    /// Creates an access log buffer for one worker.
    pub(super) fn buffer(&self, format: Format) -> Buffer {
        Buffer { format, lines: self.lines.buffer() }
    }
}

/// A buffer of access log lines of one worker that the writer thread has not written yet.
#[derive(Debug)]
pub(super) struct Buffer {
    format: Format,
    lines: LineBuffer,
}

impl Buffer {
    pub(super) fn write(&self, start: SystemTime, request: &LoggedRequest, response: &LoggedResponse) {
        self.lines.append(|out| match self.format {
            Format::Text => text::write(out, start, request, response, Colors::Off),
            Format::ColoredText => text::write(out, start, request, response, Colors::On),
            Format::Json => json::write(out, start, request, response),
        });
    }
}

#[cfg(test)]
mod tests;
