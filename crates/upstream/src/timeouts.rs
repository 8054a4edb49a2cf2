//! Timeouts of an exchange, with timers that are rarely reset.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// The timeouts of an exchange, after the connection has been established.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// The timeout from the last byte of the request to the end of the response head.
    pub(crate) response_head: Duration,
    /// The maximum time between two parts of the response body.
    pub(crate) read: Duration,
    /// The time at which the entire exchange times out.
    pub(crate) deadline: Option<Instant>,
}

/// A deadline that changes often, with a timer that is reset only when it fires.
#[derive(Debug)]
pub(crate) struct Deadline {
    at: Instant,
    /// The timer, which is set to `at` or to an earlier time.
    timer: Pin<Box<Sleep>>,
    is_waiting: bool,
}

impl Deadline {
    pub(crate) fn new() -> Self {
        Self { at: Instant::now(), timer: Box::pin(sleep(Duration::ZERO)), is_waiting: false }
    }

    pub(crate) fn set(&mut self, at: Instant) {
        self.at = at;
        // The timer may still have the later deadline of another wait.
        if self.timer.deadline() > at {
            self.timer.as_mut().reset(at);
        }
    }

    /// Polls the timer of the deadline. It is ready after the deadline.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.timer.deadline() >= self.at {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.at);
        }
    }

    /// Records that data was received, so that the read timeout starts again.
    pub(crate) fn record_progress(&mut self) {
        self.is_waiting = false;
    }

    /// Polls the read timeout while no data is received. It is ready after the read timeout.
    pub(crate) fn poll_read_timeout(&mut self, cx: &mut Context<'_>, timeouts: &Timeouts) -> Poll<()> {
        if !self.is_waiting {
            self.is_waiting = true;
            let at = Instant::now() + timeouts.read;
            self.set(timeouts.deadline.map_or(at, |deadline| deadline.min(at)));
        }
        self.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadline_can_move_in_both_directions() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut deadline = Deadline::new();
        // Arms the timer.
        deadline.set(after(60));
        assert!(deadline.poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
        deadline.set(after(1));
        poll_fn(|cx| deadline.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 1);
        deadline.set(after(9));
        poll_fn(|cx| deadline.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 9);
        let timeouts = |read| Timeouts { response_head: read, read, deadline: None };
        deadline.set(after(60));
        assert!(deadline.poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
        poll_fn(|cx| deadline.poll_read_timeout(cx, &timeouts(Duration::from_secs(2)))).await;
        assert_eq!(start.elapsed().as_secs(), 11);
    }
}
