//! The access log: workers append lines to buffers, which a separate thread writes.
//!
//! Each worker shares its buffer only with the writer thread, which locks it just to swap it for an empty one. A
//! worker therefore never waits for standard output. Lines that do not fit (`BUFFER_LIMIT`) because the reader is too
//! slow are dropped and counted.

mod entry;
mod json;
mod text;

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime};

pub(super) use self::entry::{LoggedRequest, LoggedResponse};
use self::text::Colors;

/// The writer of the access log, which runs on a separate thread. Clones share the output, which is closed with the
/// last of them.
#[derive(Clone)]
pub struct Writer {
    handle: Arc<Handle>,
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
        let inner = Arc::new(Inner {
            dropped: AtomicU64::new(0),
            buffers: Mutex::default(),
            awake: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            flushes: Mutex::default(),
            flushed: Condvar::new(),
        });
        let written = Arc::clone(&inner);
        let thread = thread::Builder::new().name("rproxy-log".to_owned()).spawn(move || written.write_to(out))?;
        Ok(Self { handle: Arc::new(Handle { inner, thread: thread.thread().clone() }) })
    }

    /// Returns the number of access log lines that were dropped.
    pub fn dropped(&self) -> u64 {
        self.handle.inner.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all previous access log lines are written, for at most two seconds. Returns whether they were.
    ///
    /// This blocks, and is meant for the end of a program. The limit covers readers that have stopped reading.
    pub fn flush(&self) -> bool {
        self.flush_within(Duration::from_secs(2))
    }

    fn flush_within(&self, timeout: Duration) -> bool {
        let Handle { inner, thread } = &*self.handle;
        let mut flushes = lock(&inner.flushes);
        flushes.wanted += 1;
        let wanted = flushes.wanted;
        thread.unpark();
        let waited = inner.flushed.wait_timeout_while(flushes, timeout, |flushes| flushes.done < wanted);
        waited.unwrap_or_else(PoisonError::into_inner).0.done >= wanted
    }

    /// Creates an access log buffer for one worker.
    pub(super) fn buffer(&self, format: Format) -> Buffer {
        let pending = Arc::default();
        lock(&self.handle.inner.buffers).push(Arc::clone(&pending));
        Buffer { format, writer: self.clone(), pending }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

/// The shared handle of all writers and buffers, which closes the access log when it is dropped.
struct Handle {
    inner: Arc<Inner>,
    thread: Thread,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.closing.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// A buffer of access log lines of one worker that the writer thread has not written yet.
#[derive(Debug)]
pub(super) struct Buffer {
    format: Format,
    writer: Writer,
    pending: Arc<Mutex<Pending>>,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    lines: u64,
}

impl Buffer {
    pub(super) fn write(&self, start: SystemTime, request: &LoggedRequest, response: &LoggedResponse) {
        let Handle { inner, thread } = &*self.writer.handle;
        {
            let mut pending = lock(&self.pending);
            if pending.bytes.len() >= BUFFER_LIMIT {
                inner.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            match self.format {
                Format::Text => text::write(&mut pending.bytes, start, request, response, Colors::Off),
                Format::ColoredText => text::write(&mut pending.bytes, start, request, response, Colors::On),
                Format::Json => json::write(&mut pending.bytes, start, request, response),
            }
            pending.lines += 1;
        }
        // A writer thread that is awake checks the buffers again before it sleeps.
        if !inner.awake.load(Ordering::Relaxed) && !inner.awake.swap(true, Ordering::Relaxed) {
            thread.unpark();
        }
    }
}

/// The maximum size of a worker's unwritten access log lines in bytes; one line may exceed it. It holds some thousand
/// lines.
const BUFFER_LIMIT: usize = 512 << 10;

struct Inner {
    dropped: AtomicU64,
    buffers: Mutex<Vec<Arc<Mutex<Pending>>>>,
    /// Whether a worker has woken the writer thread since the thread last checked the buffers.
    awake: AtomicBool,
    closing: AtomicBool,
    flushes: Mutex<Flushes>,
    flushed: Condvar,
}

#[derive(Default)]
struct Flushes {
    wanted: u64,
    done: u64,
}

impl Inner {
    /// Runs the access log thread, which writes to `out`.
    fn write_to(&self, mut out: impl Write) {
        let mut batch = Pending::default();
        loop {
            let closing = self.closing.load(Ordering::Acquire);
            let wanted = lock(&self.flushes).wanted;
            // Set before the buffers are checked, so that later lines wake the writer again.
            self.awake.store(false, Ordering::Relaxed);
            let wrote = self.write_pending(&mut out, &mut batch);
            lock(&self.flushes).done = wanted;
            self.flushed.notify_all();
            if closing {
                return;
            }
            if wrote {
                // Under load, lines accumulate during the pause and are written together.
                thread::sleep(PAUSE);
            } else {
                thread::park();
            }
        }
    }

    fn write_pending(&self, out: &mut impl Write, batch: &mut Pending) -> bool {
        let mut wrote = false;
        // The list is locked when a worker starts, not while it serves.
        let buffers = {
            let mut buffers = lock(&self.buffers);
            // Removes the empty buffers of workers that have ended.
            buffers.retain(|pending| Arc::strong_count(pending) > 1 || !lock(pending).bytes.is_empty());
            buffers.clone()
        };
        for pending in buffers {
            std::mem::swap(&mut *lock(&pending), batch);
            if batch.bytes.is_empty() {
                continue;
            }
            wrote = true;
            if out.write_all(&batch.bytes).and_then(|()| out.flush()).is_err() {
                self.dropped.fetch_add(batch.lines, Ordering::Relaxed);
            }
            batch.bytes.clear();
            batch.lines = 0;
        }
        wrote
    }
}

const PAUSE: Duration = Duration::from_millis(5);

/// Locks a mutex even if it is poisoned, because lines are appended completely or not at all.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
