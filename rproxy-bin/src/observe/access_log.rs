//! The access log: lines made by workers, written out by a thread of its own.
//!
//! Each worker appends to a buffer that only the writer shares with it, and the writer holds it only
//! to record it for an empty one. So a worker never waits for standard output. What does not fit
//! (`BUFFER_LIMIT`) because nobody reads it is dropped and counted.

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

/// Where lines go. Clones write to the same place, which is closed with the last of them.
#[derive(Clone)]
pub struct Writer {
    handle: Arc<Handle>,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// For people: the combined log format, and more after it.
    Text,
    /// For machines: a JSON object.
    Json,
}

impl Writer {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
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

    /// How many lines could not be written: nobody took them in time, or at all.
    pub fn dropped(&self) -> u64 {
        self.handle.inner.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all lines up to now are written, or two seconds: whoever reads them may have
    /// stopped. False if that was not enough. It blocks; it is for the end of a program.
    pub fn flush(&self) -> bool {
        self.flush_within(Duration::from_secs(2))
    }

    fn flush_within(&self, patience: Duration) -> bool {
        let Handle { inner, thread } = &*self.handle;
        let mut flushes = lock(&inner.flushes);
        flushes.wanted += 1;
        let wanted = flushes.wanted;
        thread.unpark();
        let waited = inner.flushed.wait_timeout_while(flushes, patience, |flushes| flushes.done < wanted);
        waited.unwrap_or_else(PoisonError::into_inner).0.done >= wanted
    }

    /// A buffer for one worker.
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

/// Closes the log when nobody can write to it any more.
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

/// Where one worker's lines wait for the writer.
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
                Format::Text => text::write(&mut pending.bytes, start, request, response),
                Format::Json => json::write(&mut pending.bytes, start, request, response),
            }
            pending.lines += 1;
        }
        // A writer that is awake looks again before it sleeps.
        if !inner.awake.load(Ordering::Relaxed) && !inner.awake.swap(true, Ordering::Relaxed) {
            thread.unpark();
        }
    }
}

/// What a worker may be ahead of the writer, in bytes, give or take a line: some thousand lines.
const BUFFER_LIMIT: usize = 512 << 10;

struct Inner {
    dropped: AtomicU64,
    buffers: Mutex<Vec<Arc<Mutex<Pending>>>>,
    /// Whether the writer was woken since it last start to look into the buffers.
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
    /// The writer's thread.
    fn write_to(&self, mut out: impl Write) {
        let mut batch = Pending::default();
        loop {
            let closing = self.closing.load(Ordering::Acquire);
            let wanted = lock(&self.flushes).wanted;
            // Before the buffers are looked into: what is appended later wakes the writer again.
            self.awake.store(false, Ordering::Relaxed);
            let wrote = self.write_pending(&mut out, &mut batch);
            lock(&self.flushes).done = wanted;
            self.flushed.notify_all();
            if closing {
                return;
            }
            if wrote {
                // Under load, lines gather meanwhile, and many are written at once.
                thread::sleep(PAUSE);
            } else {
                thread::park();
            }
        }
    }

    fn write_pending(&self, out: &mut impl Write, batch: &mut Pending) -> bool {
        let mut wrote = false;
        // The list is locked while a worker starts, not while one serves.
        let buffers = {
            let mut buffers = lock(&self.buffers);
            // A worker that is gone and has nothing left needs none.
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

/// A line is appended whole or not at all, so that a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
