//! An answer that several requests wait for, and its body as it arrives.
//!
//! Nobody is in charge of the body: whoever wants more of it moves it on, for all. So a client that reads slowly holds
//! up nobody else, and one that goes away takes nothing with it. No lock is held across an await: the transfer's is held
//! while the body is polled, the state's while it is looked at.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::runtime::Handle;

use crate::stored::StoredResponse;

#[derive(Default)]
pub(crate) struct Flight {
    state: Mutex<State>,
    transfer: Mutex<Option<Box<dyn Transfer>>>,
}

/// The body on its way. Ready when it has moved on, or has ended.
pub(crate) trait Transfer: Send {
    fn poll_on(&mut self, flight: &Flight, cx: &mut Context<'_>) -> Poll<()>;

    /// Whether all bytes have come, and the body has not reported its end yet.
    fn awaits_end(&self) -> bool;
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) stage: Stage,
    pub(crate) chunks: Vec<Bytes>,
    /// For the leader, should there be nothing to share.
    pub(crate) end: Option<End>,
    pub(crate) trailers: Option<HeaderMap>,
    followers: usize,
    /// One place for each follower.
    waiting: Vec<Option<Waker>>,
    vacated: Vec<usize>,
}

/// What there is to share.
#[derive(Clone, Default)]
pub(crate) enum Stage {
    /// That is not known yet.
    #[default]
    Unknown,
    /// The head, which says how long the body will be, and the chunks.
    Streaming(Arc<StoredResponse>),
    Complete(Arc<StoredResponse>),
    /// What the store has by now.
    Stored,
    /// Nothing, or no more.
    Over,
}

pub(crate) enum End {
    Clean,
    /// With the error of the body, for the leader.
    Failed(Option<Box<dyn Any + Send>>),
}

impl Flight {
    /// Changes the state and wakes all who wait for that.
    pub(crate) fn advance(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        change(&mut state);
        let woken: Vec<Waker> = state.waiting.iter_mut().filter_map(Option::take).collect();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn carry(&self, transfer: Box<dyn Transfer>) {
        *lock(&self.transfer) = Some(transfer);
        // Those who wait have something to move on now.
        self.advance(|_| {});
    }

    /// Those who wait, the leader included once it does.
    pub(crate) fn followers(&self) -> usize {
        lock(&self.state).followers
    }

    pub(crate) fn chunks(&self) -> Vec<Bytes> {
        lock(&self.state).chunks.clone()
    }

    /// Moves the body on, unless someone else is doing that just now, and will wake the others.
    fn poll_on(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut transfer = match self.transfer.try_lock() {
            Ok(transfer) => transfer,
            // A panic leaves nothing in there, see below.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Poll::Pending,
        };
        let Some(body) = transfer.as_mut() else { return Poll::Pending };
        match catch_unwind(AssertUnwindSafe(|| body.poll_on(self, cx))) {
            Ok(moved) => moved,
            Err(panic) => {
                // The body can't be polled again. All who wait for it must hear so, and not only the one that polled it; and
                // nobody may join any more.
                let broken = transfer.take();
                drop(transfer);
                self.advance(|state| {
                    state.end.get_or_insert(End::Failed(None));
                });
                drop(broken);
                resume_unwind(panic)
            }
        }
    }
}

// A panic elsewhere leaves nothing half done here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place among those who wait.
pub(crate) struct Follower {
    flight: Arc<Flight>,
    place: usize,
}

/// What comes next for a follower.
pub(crate) enum Next {
    Chunk(Bytes),
    /// All is there: the rest is what comes behind the bytes had so far.
    Complete(Arc<StoredResponse>),
    End(End),
}

impl Follower {
    pub(crate) fn new(flight: &Arc<Flight>) -> Self {
        let mut state = lock(&flight.state);
        state.followers += 1;
        let place = state.vacated.pop().unwrap_or_else(|| {
            state.waiting.push(None);
            state.waiting.len() - 1
        });
        drop(state);
        Self { flight: Arc::clone(flight), place }
    }

    /// Ready when it is known what there is to share.
    pub(crate) fn poll_stage(&self, cx: &mut Context<'_>) -> Poll<Stage> {
        self.poll_until(cx, |state| match &state.stage {
            Stage::Unknown => None,
            known => Some(known.clone()),
        })
    }

    /// The next chunk for a follower that has had `taken`. The leader gets it even where it can't be shared.
    pub(crate) fn poll_next(&self, taken: usize, leads: bool, cx: &mut Context<'_>) -> Poll<Next> {
        self.poll_until(cx, |state| {
            let shared = matches!(state.stage, Stage::Streaming(_));
            match &state.stage {
                Stage::Complete(response) => return Some(Next::Complete(Arc::clone(response))),
                Stage::Stored | Stage::Over if !leads => return Some(Next::End(End::Failed(None))),
                _ => {}
            }
            if let Some(chunk) = state.chunks.get_mut(taken) {
                // Without a copy to make, nobody needs it any more.
                let kept = shared || matches!(state.stage, Stage::Unknown);
                return Some(Next::Chunk(if kept { chunk.clone() } else { std::mem::take(chunk) }));
            }
            state.end.as_mut().map(|end| {
                Next::End(match end {
                    End::Clean => End::Clean,
                    End::Failed(error) => End::Failed(if leads { error.take() } else { None }),
                })
            })
        })
    }

    /// Whether nothing will be shared any more.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(lock(&self.flight.state).stage, Stage::Over)
    }

    pub(crate) fn take_trailers(&self) -> Option<HeaderMap> {
        lock(&self.flight.state).trailers.take()
    }

    fn poll_until<T>(&self, cx: &mut Context<'_>, mut look: impl FnMut(&mut State) -> Option<T>) -> Poll<T> {
        loop {
            if let Some(found) = self.look(&mut look, None) {
                return Poll::Ready(found);
            }
            if self.flight.poll_on(cx).is_pending() {
                // Someone else may have moved it on in between.
                return self.look(&mut look, Some(cx.waker())).map_or(Poll::Pending, Poll::Ready);
            }
        }
    }

    fn look<T>(&self, look: &mut impl FnMut(&mut State) -> Option<T>, waker: Option<&Waker>) -> Option<T> {
        let mut state = lock(&self.flight.state);
        let found = look(&mut state);
        state.waiting[self.place] = if found.is_none() { waker.cloned() } else { None };
        found
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut last = false;
        // The body may have been told to wake this one; the others are to look after it now.
        self.flight.advance(|state| {
            state.followers -= 1;
            state.waiting[self.place] = None;
            state.vacated.push(self.place);
            last = state.followers == 0;
        });
        if last {
            // Out of the lock before it is dropped: it has something to say to the flight.
            let abandoned = lock(&self.flight.transfer).take();
            if let Some(transfer) = abandoned.filter(|transfer| transfer.awaits_end())
                && let Ok(runtime) = Handle::try_current()
                && !std::thread::panicking()
            {
                runtime.spawn(read_end(Arc::clone(&self.flight), transfer));
            }
        }
    }
}

/// Reads the end of a body whose clients have all of its bytes and have left.
async fn read_end(flight: Arc<Flight>, mut transfer: Box<dyn Transfer>) {
    let end = std::future::poll_fn(|cx| {
        while transfer.awaits_end() {
            ready!(transfer.poll_on(&flight, cx));
        }
        Poll::Ready(())
    });
    let _ = tokio::time::timeout(END_WITHIN, end).await;
}

/// How long the end of a body is waited for after its bytes have come.
pub(crate) const END_WITHIN: Duration = Duration::from_secs(5);
