//! Time limits of an exchange that cost nothing while they hold.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// How long a backend may take, after it has been reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// From the last byte of the request to the end of the response head.
    pub(crate) head: Duration,
    /// From one part of the response body to the next.
    pub(crate) silence: Duration,
    /// The end of it all.
    pub(crate) until: Option<Instant>,
}

/// A point in time that moves on as long as something happens.
#[derive(Debug)]
pub(crate) struct Deadline {
    at: Instant,
    /// Set for an earlier point as often as not: it is moved when it fires, not each time that the deadline is.
    timer: Pin<Box<Sleep>>,
    is_silent: bool,
}

impl Deadline {
    pub(crate) fn new() -> Self {
        Self { at: Instant::now(), timer: Box::pin(sleep(Duration::ZERO)), is_silent: false }
    }

    pub(crate) fn set(&mut self, at: Instant) {
        self.at = at;
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.timer.deadline() >= self.at {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.at);
        }
    }

    /// Something has come.
    pub(crate) fn is_answered(&mut self) {
        self.is_silent = false;
    }

    /// Nothing has come: ready when that has been so for too long.
    pub(crate) fn poll_silence(&mut self, cx: &mut Context<'_>, patience: &Patience) -> Poll<()> {
        if !self.is_silent {
            self.is_silent = true;
            let at = Instant::now() + patience.silence;
            self.at = patience.until.map_or(at, |until| until.min(at));
        }
        self.poll(cx)
    }
}
