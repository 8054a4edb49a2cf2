//! The shared state of an in-flight fetch, and the transfer of its response body.
//!
//! No client owns the body: each client that needs more of it polls it for all. So a client that reads slowly does not delay the
//! others, and a client that disconnects does not end the fetch. No lock is held across an await: the lock of the transfer is
//! held while the body is polled, and the lock of the state while the state is read or updated.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::runtime::Handle;

use crate::store::stored_response::StoredResponse;

/// An in-flight fetch that is shared by several requests.
#[derive(Default)]
pub(crate) struct SharedFetch {
    state: Mutex<State>,
    transfer: Mutex<Option<Box<dyn BodyTransfer>>>,
}

/// A transfer of a response body into the [`State`] of its fetch.
pub(crate) trait BodyTransfer: Send {
    /// Polls the response body and updates the fetch's state. Ready after an update of the state, or at the end of the
    /// body.
    fn poll_transfer(&mut self, fetch: &SharedFetch, cx: &mut Context<'_>) -> Poll<()>;

    /// Whether all bytes of the declared length have arrived, but not the end of the body.
    fn awaits_end(&self) -> bool;
}

/// The state of a shared fetch.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) stage: Stage,
    pub(crate) chunks: Vec<Bytes>,
    /// The outcome of the body, which the leader receives even if the response cannot be shared.
    pub(crate) end: Option<End>,
    pub(crate) trailers: Option<HeaderMap>,
    followers: usize,
    /// The wakers of the followers, indexed by follower slot.
    wakers: Vec<Option<Waker>>,
    free_slots: Vec<usize>,
}

/// The stage of a shared fetch, as visible to its followers.
#[derive(Clone, Default)]
pub(crate) enum Stage {
    /// The response head has not arrived, so it is unknown whether the response can be shared.
    #[default]
    Pending,
    /// The response is shared while its body arrives. The stored head includes the body length. The chunks follow.
    Streaming(Arc<StoredResponse>),
    /// The complete response is available to the followers.
    Complete(Arc<StoredResponse>),
    /// The followers can read the response from the store.
    Stored,
    /// The response cannot be shared with the followers.
    Released,
}

/// The outcome of a response body: complete or failed.
pub(crate) enum End {
    Clean,
    /// The body failed; only the leader receives the original error.
    Failed(Option<Box<dyn Any + Send>>),
}

impl SharedFetch {
    /// Updates the state of the fetch, and wakes all followers.
    pub(crate) fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        change(&mut state);
        let woken: Vec<Waker> = state.wakers.iter_mut().filter_map(Option::take).collect();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Sets the transfer of the body, so that the followers can poll it.
    pub(crate) fn start_transfer(&self, transfer: Box<dyn BodyTransfer>) {
        *lock(&self.transfer) = Some(transfer);
        self.update(|_| {});
    }

    /// Returns the number of clients that wait for the fetch. The leader counts as one once it reads the body.
    pub(crate) fn followers(&self) -> usize {
        lock(&self.state).followers
    }

    /// Returns the chunks of the body that have arrived.
    pub(crate) fn chunks(&self) -> Vec<Bytes> {
        lock(&self.state).chunks.clone()
    }

    /// Polls the transfer of the body, unless another client is already polling it.
    fn poll_transfer(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut transfer = match self.transfer.try_lock() {
            Ok(transfer) => transfer,
            // A panic leaves no transfer in there, see below.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Poll::Pending,
        };
        let Some(body) = transfer.as_mut() else { return Poll::Pending };
        match catch_unwind(AssertUnwindSafe(|| body.poll_transfer(self, cx))) {
            Ok(polled) => polled,
            Err(panic) => {
                // The body cannot be polled again. All clients must fail, not only the one that polled it, and no request
                // may join.
                let broken = transfer.take();
                drop(transfer);
                self.update(|state| {
                    state.end.get_or_insert(End::Failed(None));
                });
                drop(broken);
                resume_unwind(panic)
            }
        }
    }
}

/// Locks a mutex and ignores poisoning, because the data stays valid if a thread panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request that waits for a shared fetch or reads its body.
pub(crate) struct Follower {
    fetch: Arc<SharedFetch>,
    slot: usize,
}

/// The next part of a shared response body.
pub(crate) enum Next {
    Chunk(Bytes),
    /// The complete response. The bytes that were not read yet are the rest.
    Complete(Arc<StoredResponse>),
    End(End),
}

impl Follower {
    pub(crate) fn new(fetch: &Arc<SharedFetch>) -> Self {
        let mut state = lock(&fetch.state);
        state.followers += 1;
        let slot = state.free_slots.pop().unwrap_or_else(|| {
            state.wakers.push(None);
            state.wakers.len() - 1
        });
        drop(state);
        Self { fetch: Arc::clone(fetch), slot }
    }

    /// Polls the fetch until its stage is no longer [`Stage::Pending`].
    pub(crate) fn poll_stage(&self, cx: &mut Context<'_>) -> Poll<Stage> {
        self.poll_until(cx, |state| match &state.stage {
            Stage::Pending => None,
            stage => Some(stage.clone()),
        })
    }

    /// Polls for the part of the body that follows the first `received` chunks. The leader also gets a body that cannot
    /// be shared.
    pub(crate) fn poll_next(&self, received: usize, is_leader: bool, cx: &mut Context<'_>) -> Poll<Next> {
        self.poll_until(cx, |state| {
            match &state.stage {
                Stage::Complete(response) => return Some(Next::Complete(Arc::clone(response))),
                Stage::Stored | Stage::Released if !is_leader => return Some(Next::End(End::Failed(None))),
                _ => {}
            }
            if let Some(chunk) = state.chunks.get_mut(received) {
                // After the release, no other client needs the chunk.
                let is_shared = matches!(state.stage, Stage::Pending | Stage::Streaming(_));
                return Some(Next::Chunk(if is_shared { chunk.clone() } else { std::mem::take(chunk) }));
            }
            state.end.as_mut().map(|end| {
                Next::End(match end {
                    End::Clean => End::Clean,
                    End::Failed(error) => End::Failed(if is_leader { error.take() } else { None }),
                })
            })
        })
    }

    /// Whether the fetch no longer shares its response.
    pub(crate) fn is_released(&self) -> bool {
        matches!(lock(&self.fetch.state).stage, Stage::Released)
    }

    /// Takes the trailer section out of the fetch's state.
    pub(crate) fn take_trailers(&self) -> Option<HeaderMap> {
        lock(&self.fetch.state).trailers.take()
    }

    fn poll_until<T>(&self, cx: &mut Context<'_>, mut look: impl FnMut(&mut State) -> Option<T>) -> Poll<T> {
        loop {
            if let Some(value) = self.look(&mut look, None) {
                return Poll::Ready(value);
            }
            if self.fetch.poll_transfer(cx).is_pending() {
                // Another client may have polled the body in between.
                return self.look(&mut look, Some(cx.waker())).map_or(Poll::Pending, Poll::Ready);
            }
        }
    }

    fn look<T>(&self, look: &mut impl FnMut(&mut State) -> Option<T>, waker: Option<&Waker>) -> Option<T> {
        let mut state = lock(&self.fetch.state);
        let value = look(&mut state);
        state.wakers[self.slot] = if value.is_none() { waker.cloned() } else { None };
        value
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut is_last = false;
        // The body may have this follower's waker. The update wakes the others, which poll it again.
        self.fetch.update(|state| {
            state.followers -= 1;
            state.wakers[self.slot] = None;
            state.free_slots.push(self.slot);
            is_last = state.followers == 0;
        });
        if is_last {
            // Taken out of the lock, because dropping it updates the state.
            let abandoned = lock(&self.fetch.transfer).take();
            if let Some(transfer) = abandoned.filter(|transfer| transfer.awaits_end())
                && let Ok(runtime) = Handle::try_current()
                && !std::thread::panicking()
            {
                runtime.spawn(read_end(Arc::clone(&self.fetch), transfer));
            }
        }
    }
}

/// Waits for the end of a body after all clients have received its data and disconnected.
async fn read_end(fetch: Arc<SharedFetch>, mut transfer: Box<dyn BodyTransfer>) {
    let end = std::future::poll_fn(|cx| {
        while transfer.awaits_end() {
            ready!(transfer.poll_transfer(&fetch, cx));
        }
        Poll::Ready(())
    });
    let _ = tokio::time::timeout(END_TIMEOUT, end).await;
}

/// The maximum time to wait for the end of a body after the last byte of its declared length.
pub(crate) const END_TIMEOUT: Duration = Duration::from_secs(5);
