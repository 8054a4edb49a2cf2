//! Cooperative scheduling of response bodies that are being compressed.
//!
//! Compression is CPU work that never waits: its task would run until the body has no more input, which for a fast
//! backend or a cached response is the whole body. Therefore, a body compresses a limited number of bytes, its budget, and
//! then waits in the queue of its worker. The queue wakes one body at a time; after each one, the runtime polls its sockets and
//! runs all other ready tasks. Regardless of the number of bodies, another task waits for at most one budget.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::task::yield_now;

/// The number of bytes that a response body may compress before it yields to other tasks. Brotli, the slowest coding,
/// needs about a millisecond for them.
pub(crate) const BUDGET: usize = 32 << 10;

pin_project! {
    /// A response body that yields its data in chunks, and waits when its compression budget is exhausted.
    pub(crate) struct BudgetedBody<B> {
        #[pin]
        body: B,
        // The remainder of a frame that exceeded the budget.
        rest: Bytes,
        left: usize,
        waiter: Option<Arc<Waiter>>,
    }
}

impl<B> BudgetedBody<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body, rest: Bytes::new(), left: BUDGET, waiter: None }
    }
}

impl<B: Body> Body for BudgetedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if *this.left == 0 {
            ready!(this.waiter.get_or_insert_with(|| Queue::join(cx.waker())).poll(cx));
            (*this.left, *this.waiter) = (BUDGET, None);
        }
        if this.rest.is_empty() {
            let Some(frame) = ready!(this.body.poll_frame(cx)?) else { return Poll::Ready(None) };
            match frame.into_data() {
                Ok(mut data) => *this.rest = data.copy_to_bytes(data.remaining()),
                Err(frame) => return Poll::Ready(Some(Ok(frame.map_data(|_| Bytes::new())))),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(*this.left));
        *this.left -= piece.len();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// The entry of one response body in the compression queue of its worker. If it is dropped, the queue continues with
/// the next one.
#[derive(Debug)]
struct Waiter {
    is_woken: AtomicBool,
    waker: Mutex<Waker>,
}

impl Waiter {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        // The waker is registered before the check, so that a wake-up in between is not missed.
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone_from(cx.waker());
        if self.is_woken.load(SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn wake(&self) {
        self.is_woken.store(true, SeqCst);
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }
}

thread_local! {
    static QUEUE: Arc<Queue> = Arc::default();
}

/// The compression queue of one worker: the response bodies that wait for their next budget. There are at most as many
/// as encoders.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiters: VecDeque<Arc<Waiter>>,
    is_running: bool,
}

impl Queue {
    /// Adds a response body to the end of this worker's compression queue.
    fn join(waker: &Waker) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter { is_woken: AtomicBool::new(false), waker: Mutex::new(waker.clone()) });
        let Ok(runtime) = Handle::try_current() else {
            waiter.wake();
            return waiter;
        };
        let queue = QUEUE.with(Arc::clone);
        let mut state = queue.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiters.push_back(Arc::clone(&waiter));
        if !std::mem::replace(&mut state.is_running, true) {
            runtime.spawn(Scheduler { queue: Arc::clone(&queue), is_over: false }.run());
        }
        drop(state);
        waiter
    }
}

/// A task that wakes the response bodies in the compression queue one by one. It ends when the queue is empty.
struct Scheduler {
    queue: Arc<Queue>,
    is_over: bool,
}

impl Scheduler {
    async fn run(mut self) {
        loop {
            // The runtime resumes this task after it has polled its sockets and timers.
            yield_now().await;
            let Some(waiter) = self.next() else { return };
            waiter.wake();
        }
    }

    fn next(&mut self) -> Option<Arc<Waiter>> {
        let mut state = self.queue.state.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(waiter) = state.waiters.pop_front() {
            // If the count is 1, the body was dropped.
            if Arc::strong_count(&waiter) > 1 {
                return Some(waiter);
            }
        }
        (state.is_running, self.is_over) = (false, true);
        None
    }
}

impl Drop for Scheduler {
    /// Marks the queue as not running if the runtime ends early, because another runtime may use this thread.
    fn drop(&mut self) {
        if !self.is_over {
            let mut state = self.queue.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.is_running = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};
    use std::cell::RefCell;
    use std::sync::atomic::AtomicUsize;

    const LARGE: usize = 10 * BUDGET + 1;

    fn large() -> BudgetedBody<Full<Bytes>> {
        BudgetedBody::new(Full::new(Bytes::from(vec![7; LARGE])))
    }

    /// Reads a body to its end, and calls `note` with the length of each chunk.
    async fn read(mut body: BudgetedBody<Full<Bytes>>, note: impl Fn(usize)) -> usize {
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap().len();
            note(piece);
            length += piece;
        }
        length
    }

    #[tokio::test]
    async fn splits_large_frame_into_chunks_of_the_budget_size() {
        let body = large();
        assert_eq!(body.size_hint().exact(), Some(LARGE as u64));
        let pieces = RefCell::new(Vec::new());
        assert_eq!(read(body, |piece| pieces.borrow_mut().push(piece)).await, LARGE);
        assert_eq!(pieces.borrow().len(), 11);
        assert!(pieces.borrow().iter().all(|piece| *piece <= BUDGET));
    }

    #[tokio::test]
    async fn body_within_the_budget_does_not_wait() {
        let mut body = BudgetedBody::new(Full::new(Bytes::from(vec![7; BUDGET])));
        let frame = once(body.frame());
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap().len(), BUDGET);
        assert!(body.is_end_stream());
    }

    /// Polls a future once, and returns its output.
    fn once<F: Future>(future: F) -> F::Output {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the future is pending"),
        }
    }

    /// Other tasks run after each compressed chunk, regardless of the number of bodies.
    #[tokio::test]
    async fn wakes_at_most_one_body_per_poll_of_the_sockets() {
        let pieces = Arc::new(AtomicUsize::new(0));
        for _ in 0..16 {
            let pieces = Arc::clone(&pieces);
            tokio::spawn(read(large(), move |_| {
                pieces.fetch_add(1, SeqCst);
            }));
        }
        // The first budget needs no waiting.
        yield_now().await;
        yield_now().await;
        let (mut before, mut rounds) = (pieces.load(SeqCst), 0);
        while before < 16 * 11 {
            yield_now().await;
            let now = pieces.load(SeqCst);
            assert!(now - before <= 2, "{} pieces in one round", now - before);
            (before, rounds) = (now, rounds + 1);
        }
        assert!(rounds >= 80, "{rounds}");
    }

    #[tokio::test]
    async fn dropped_or_idle_body_does_not_block_other_bodies() {
        let (mut dropped, mut idle) = (large(), large());
        for body in [&mut dropped, &mut idle] {
            once(body.frame()).unwrap().unwrap();
            // The body is in the queue now.
            let waits = std::pin::pin!(body.frame()).poll(&mut Context::from_waker(Waker::noop())).is_pending();
            assert!(waits);
        }
        drop(dropped);
        assert_eq!(read(large(), |_| ()).await, LARGE);
        assert_eq!(read(idle, |_| ()).await, LARGE - BUDGET);
    }
}
