//! A thread that writes the lines of a log, so that no other thread waits for the output.
//!
//! Each producer appends lines to a buffer, which it shares only with the writer thread. That thread locks the buffer just
//! to swap it for an empty one. Lines that do not fit ([`BUFFER_LIMIT`]) because the reader of the output is too slow are
//! dropped and counted, and so are lines that cannot be written.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

/// A writer thread. Clones share the output, which is closed with the last of them and of the buffers.
#[derive(Clone)]
pub(crate) struct LineWriter {
    handle: Arc<Handle>,
}

/// Returns a line that reports the number of dropped lines, for the output itself.
pub(crate) type DropNotice = fn(u64) -> String;

impl LineWriter {
    /// Starts a thread that writes to `out`. After lines were dropped, and the output accepts lines again, it writes the
    /// `notice`.
    pub(crate) fn start(name: &str, out: impl Write + Send + 'static, notice: Option<DropNotice>) -> io::Result<Self> {
        let inner = Arc::new(Inner {
            notice,
            dropped: AtomicU64::new(0),
            buffers: Mutex::default(),
            awake: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            flushes: Mutex::default(),
            flushed: Condvar::new(),
        });
        let written = Arc::clone(&inner);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || written.write_to(out))?;
        Ok(Self { handle: Arc::new(Handle { inner, thread: thread.thread().clone() }) })
    }

    /// Returns the number of lines that were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.handle.inner.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all previous lines are written, for at most `timeout`. Returns whether they were.
    ///
    /// This blocks, and is meant for the end of a program. The limit covers readers that have stopped reading.
    pub(crate) fn flush_within(&self, timeout: Duration) -> bool {
        let Handle { inner, thread } = &*self.handle;
        let mut flushes = lock(&inner.flushes);
        flushes.wanted += 1;
        let wanted = flushes.wanted;
        thread.unpark();
        let waited = inner.flushed.wait_timeout_while(flushes, timeout, |flushes| flushes.done < wanted);
        waited.unwrap_or_else(PoisonError::into_inner).0.done >= wanted
    }

    /// Creates a buffer for one producer of lines.
    pub(crate) fn buffer(&self) -> LineBuffer {
        let pending = Arc::default();
        lock(&self.handle.inner.buffers).push(Arc::clone(&pending));
        LineBuffer { writer: self.clone(), pending }
    }
}

impl fmt::Debug for LineWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineWriter").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

/// The shared handle of all writers and buffers, which ends the thread when it is dropped.
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

/// The lines of one producer that the thread has not written yet.
#[derive(Debug)]
pub(crate) struct LineBuffer {
    writer: LineWriter,
    pending: Arc<Mutex<Pending>>,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    lines: u64,
}

impl LineBuffer {
    /// Appends a line, which `write` adds to the end of a buffer. If the buffer is full, the line is dropped, and `write` is
    /// not called.
    pub(crate) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let Handle { inner, thread } = &*self.writer.handle;
        {
            let mut pending = lock(&self.pending);
            if pending.bytes.len() >= BUFFER_LIMIT {
                inner.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            write(&mut pending.bytes);
            pending.lines += 1;
        }
        // A thread that is awake checks the buffers again before it sleeps.
        if !inner.awake.load(Ordering::Relaxed) && !inner.awake.swap(true, Ordering::Relaxed) {
            thread.unpark();
        }
    }
}

/// The maximum size of the unwritten lines of one buffer in bytes; one line may exceed it. It holds some thousand lines.
pub(crate) const BUFFER_LIMIT: usize = 512 << 10;

struct Inner {
    notice: Option<DropNotice>,
    dropped: AtomicU64,
    buffers: Mutex<Vec<Arc<Mutex<Pending>>>>,
    /// Whether a producer has woken the thread since the thread last checked the buffers.
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
    /// Runs the thread, which writes to `out`.
    fn write_to(&self, mut out: impl Write) {
        let (mut batch, mut reported) = (Pending::default(), 0);
        loop {
            let closing = self.closing.load(Ordering::Acquire);
            let wanted = lock(&self.flushes).wanted;
            // Set before the buffers are checked, so that later lines wake the thread again.
            self.awake.store(false, Ordering::Relaxed);
            let wrote = self.write_pending(&mut out, &mut batch, &mut reported);
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

    fn write_pending(&self, out: &mut impl Write, batch: &mut Pending, reported: &mut u64) -> bool {
        let mut wrote = false;
        // The list is locked when a producer starts, not while it works.
        let buffers = {
            let mut buffers = lock(&self.buffers);
            // Removes the empty buffers of producers that have ended.
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
            } else {
                self.report_dropped(out, reported);
            }
            batch.bytes.clear();
            batch.lines = 0;
        }
        wrote
    }

    /// Writes the notice if lines were dropped since the last one.
    fn report_dropped(&self, out: &mut impl Write, reported: &mut u64) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if let Some(notice) = self.notice
            && dropped > *reported
            && out.write_all(notice(dropped - *reported).as_bytes()).and_then(|()| out.flush()).is_ok()
        {
            *reported = dropped;
        }
    }
}

const PAUSE: Duration = Duration::from_millis(5);

/// Locks a mutex even if it is poisoned, because lines are appended completely or not at all.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// An output that fails until the test lets it succeed.
    struct Broken {
        fails: Arc<AtomicBool>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.fails.load(Ordering::Relaxed) {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => {
                    let _ = self.written.send(bytes.to_vec());
                    Ok(bytes.len())
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn removes_the_buffers_of_producers_that_have_ended() {
        let (written, output) = mpsc::channel();
        let out = Broken { fails: Arc::default(), written };
        let writer = LineWriter::start("test", out, None).unwrap();
        for _ in 0..100 {
            writer.buffer().append(|out| out.push(b'\n'));
        }
        let timeout = Duration::from_secs(20);
        assert!(writer.flush_within(timeout) && writer.flush_within(timeout));
        assert!(lock(&writer.handle.inner.buffers).is_empty());
        assert_eq!(output.try_iter().flatten().filter(|byte| *byte == b'\n').count(), 100);
    }

    #[test]
    fn reports_dropped_lines_once_the_output_accepts_lines_again() {
        let fails = Arc::new(AtomicBool::new(true));
        let (written, output) = mpsc::channel();
        let out = Broken { fails: Arc::clone(&fails), written };
        let writer = LineWriter::start("test", out, Some(|lines| format!("{lines} dropped\n"))).unwrap();
        let buffer = writer.buffer();
        let line = |text: &str| {
            buffer.append(|out| out.extend_from_slice(text.as_bytes()));
            assert!(writer.flush_within(Duration::from_secs(20)));
        };
        line("a\n");
        line("b\n");
        assert_eq!(writer.dropped(), 2);
        fails.store(false, Ordering::Relaxed);
        line("c\n");
        line("d\n");
        let text: Vec<u8> = output.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(text).unwrap(), "c\n2 dropped\nd\n");
    }
}
