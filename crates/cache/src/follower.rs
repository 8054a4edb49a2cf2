//! A request that waits for the answer to another one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;

use crate::answer::{from_flight, from_store};
use crate::body::{BodyError, ResponseBody};
use crate::cache_status::{CacheStatus, Forwarded, Member};
use crate::fetch::Fetch;
use crate::flight::{End, Follower, Next, Stage};
use crate::flights::Joined;
use crate::reuse::Reuse;
use crate::stored::StoredResponse;
use crate::vary::{Compared, selecting_value};

/// Waits until it is known what the other request's answer is worth to this one.
pub(crate) struct Waiting<F> {
    follower: Option<Follower>,
    asks: Option<Asks<F>>,
    deadline: Pin<Box<Sleep>>,
}

/// What to do if it is worth nothing. The service that was ready, and the request, are inside; the box is what waiting
/// costs, and spares the futures of all other requests the room for them.
type Asks<F> = (Box<Fetch>, Box<dyn FnOnce(&Fetch) -> F + Send>);

pub(crate) enum Outcome<F, B> {
    Answered(Box<Response<ResponseBody<B>>>),
    Alone(F, Box<Fetch>),
}

impl<F> Waiting<F> {
    pub(crate) fn new(
        follower: Follower,
        fetch: Box<Fetch>,
        ask: impl FnOnce(&Fetch) -> F + Send + 'static,
    ) -> Box<Self> {
        let deadline = Box::pin(tokio::time::sleep(fetch.settings.collapse));
        Box::new(Self { follower: Some(follower), asks: Some((fetch, Box::new(ask))), deadline })
    }

    pub(crate) fn poll<B>(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<F, B>> {
        let (Some(follower), Some((fetch, _))) = (&self.follower, &self.asks) else {
            return Poll::Pending;
        };
        let stage = match follower.poll_stage(cx) {
            Poll::Ready(stage) => stage,
            Poll::Pending => {
                ready!(self.deadline.as_mut().poll(cx));
                Stage::Over
            }
        };
        let answer = match stage {
            Stage::Streaming(response) if fetch.may_share(&response) => {
                fetch.settings.store.count_collapsed();
                let age = response.freshness.current_age(fetch.settings.clock.now());
                let follower = self.follower.take();
                follower.map(|follower| from_flight(fetch.asked(), &response, age, fetch.member(), follower))
            }
            Stage::Complete(response) => fetch.may_share(&response).then(|| fetch.collapsed(&response)),
            Stage::Stored => fetch.found_meanwhile().map(|response| fetch.collapsed(&response)),
            Stage::Unknown | Stage::Streaming(_) | Stage::Over => None,
        };
        if let Some(answer) = answer {
            return Poll::Ready(Outcome::Answered(Box::new(answer)));
        }
        let Some((fetch, ask)) = self.asks.take() else {
            return Poll::Pending;
        };
        Poll::Ready(Outcome::Alone(ask(&fetch), fetch))
    }
}

impl Fetch {
    pub(crate) fn join(&self) -> Joined {
        let collapsible = !self.head
            && !self.settings.collapse.is_zero()
            && matches!(self.reason, Forwarded::UriMiss | Forwarded::VaryMiss | Forwarded::Partial | Forwarded::Stale)
            // Another part, or an answer for one client: there is no use in waiting for those.
            && !self.request.contains_key(header::RANGE)
            && !self.request.contains_key(header::AUTHORIZATION);
        if !collapsible {
            return Joined::Alone;
        }
        // Most answers that vary at all do so by their coding: who takes another one does not wait for this.
        let codings = selecting_value(&self.request, &header::ACCEPT_ENCODING).unwrap_or_default();
        let name = [self.key.as_str(), "\n", &String::from_utf8_lossy(&codings)].concat();
        self.settings.store.flights().join(name.into(), self.ticket, self.request_time)
    }

    /// The answer made of what another request brought.
    pub(crate) fn collapsed<B>(&self, response: &StoredResponse) -> Response<ResponseBody<B>> {
        self.settings.store.count_collapsed();
        let age = response.freshness.current_age(self.settings.clock.now());
        from_store(self.asked(), response, age, self.member(), CacheStatus::Collapsed)
    }

    /// RFC 9211 §2.6
    fn member(&self) -> Member {
        Member::forwarded(self.reason).collapsed()
    }

    /// RFC 9111 §4: whether a response that was made for another request may answer this one.
    fn may_share(&self, response: &StoredResponse) -> bool {
        let moment = response.moment(self.settings.clock.now());
        response.part.is_none()
            && response.may_answer(&self.request, self.is_for_one)
            && response.selecting.matches(&mut Compared::new(&self.request))
            && self.settings.reuse(&response.freshness, moment, &self.directives) == Reuse::Fresh
    }

    /// What the store has now, and had not when it was looked at first.
    pub(crate) fn found_meanwhile(&self) -> Option<Arc<StoredResponse>> {
        let stored = self.settings.store.lookup(self.key.as_str())?.select(&self.request)?;
        self.may_share(&stored).then_some(stored)
    }
}

/// A body that arrives for several clients.
pub(crate) struct Followed {
    follower: Follower,
    /// This is the one who asked: what can't be shared is for it.
    leads: bool,
    chunks: usize,
    bytes: usize,
    length: Option<u64>,
    /// What comes after the data, and ends the body.
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl Followed {
    pub(crate) fn new(follower: Follower, leads: bool, length: Option<u64>) -> Self {
        Self { follower, leads, chunks: 0, bytes: 0, length, trailers: None, ended: false }
    }

    pub(crate) fn poll_frame<E: 'static>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError<E>>>> {
        if self.ended {
            return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let next = ready!(self.follower.poll_next(self.chunks, self.leads, cx));
        Poll::Ready(match next {
            Next::Chunk(chunk) => {
                self.chunks += 1;
                self.bytes += chunk.len();
                Some(Ok(Frame::data(chunk)))
            }
            Next::Complete(response) => {
                self.ended = true;
                let rest = response.body().slice(self.bytes.min(response.body().len())..);
                self.bytes = response.body().len();
                // The leader gets those, too, that are not stored.
                self.trailers = if self.leads { self.follower.take_trailers() } else { response.trailers().cloned() };
                match rest.is_empty() {
                    false => Some(Ok(Frame::data(rest))),
                    true => self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
                }
            }
            Next::End(End::Clean) => {
                self.ended = true;
                self.follower.take_trailers().map(|trailers| Ok(Frame::trailers(trailers)))
            }
            Next::End(End::Failed(error)) => {
                self.ended = true;
                let error = error.and_then(|error| error.downcast().ok());
                Some(Err(error.map_or(BodyError::Incomplete, |error| *error)))
            }
        })
    }

    pub(crate) fn is_shared(&self) -> bool {
        !self.ended && !self.follower.is_alone()
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.ended && self.trailers.is_none()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length.saturating_sub(self.bytes as u64)),
            None => SizeHint::default(),
        }
    }
}
