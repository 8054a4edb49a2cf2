//! The wait of an idle connection for its next request.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use pin_project_lite::pin_project;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use super::client_io::ClientIo;
use crate::limits::Limits;
use crate::transport::client_socket::ClientSocket;

pin_project! {
    /// The timers of an idle connection: it closes after the idle timeout, or when the server drains.
    ///
    /// They stay registered while requests are served, so that a request needs no timer reset. `D` waits until the server
    /// drains.
    pub(super) struct Idle<D> {
        #[pin]
        drained: D,
        #[pin]
        timer: Sleep,
        // Tells without a poll whether `drained` has fired.
        draining: watch::Receiver<bool>,
        ticks: u32,
        is_lingering: bool,
        is_registered: bool,
        is_first_poll: bool,
    }
}

impl<D: Future> Idle<D> {
    pub(super) fn new(draining: watch::Receiver<bool>, drained: D, limits: &Limits) -> Self {
        Self {
            drained,
            timer: sleep(limits.idle_timeout / TICKS),
            draining,
            ticks: 0,
            is_lingering: false,
            is_registered: false,
            is_first_poll: true,
        }
    }

    /// Returns whether the server drains.
    pub(super) fn draining(self: Pin<&Self>) -> &watch::Receiver<bool> {
        &self.get_ref().draining
    }

    /// Restarts the idle timeout.
    pub(super) fn reset(self: Pin<&mut Self>) {
        *self.project().ticks = 0;
    }

    /// Waits for the first bytes of the next request. Returns `None` if the connection must close.
    ///
    /// After a quarter of the idle timeout, it drops `spare`, memory that the next request could use again.
    pub(super) fn first_bytes<'a, T: ClientSocket, M>(
        mut self: Pin<&'a mut Self>,
        io: &'a mut ClientIo<T>,
        limits: &'a Limits,
        spare: &'a mut Option<M>,
    ) -> impl Future<Output = Option<Bytes>> + use<'a, D, T, M> {
        *self.as_mut().project().is_first_poll = true;
        poll_fn(move |cx| match io.poll_first(cx) {
            Poll::Pending => self.as_mut().poll_end(cx, limits, spare).map(|()| None),
            first => first,
        })
    }

    /// Waits for the end of the idle connection.
    fn poll_end<M>(self: Pin<&mut Self>, cx: &mut Context<'_>, limits: &Limits, spare: &mut Option<M>) -> Poll<()> {
        let mut this = self.project();
        // Both are registered to wake this task, unless they have already fired.
        let has_fired = this.draining.has_changed().unwrap_or(true) || this.timer.is_elapsed();
        if std::mem::take(this.is_first_poll) && *this.is_registered && !has_fired {
            return Poll::Pending;
        }
        *this.is_registered = true;
        if !*this.is_lingering && this.drained.poll(cx).is_ready() {
            *this.is_lingering = true;
            this.timer.as_mut().reset(Instant::now() + IDLE_LINGER);
        }
        while this.timer.as_mut().poll(cx).is_ready() {
            *this.ticks += 1;
            *spare = None;
            if *this.is_lingering || *this.ticks > TICKS {
                return Poll::Ready(());
            }
            this.timer.as_mut().reset(Instant::now() + limits.idle_timeout / TICKS);
        }
        Poll::Pending
    }
}

/// The number of clock ticks in the idle timeout. The timer is set again only after a tick.
const TICKS: u32 = 4;

/// The time that a draining idle connection stays open for a request that may already have been sent.
const IDLE_LINGER: Duration = Duration::from_millis(100);
