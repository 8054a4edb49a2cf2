//! The future of a follower in request coalescing.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Response, header};
use tokio::time::Sleep;

use crate::body::ResponseBody;
use crate::cache_status::{CacheStatus, ForwardReason, Member};
use crate::coalesce::in_flight::Role;
use crate::coalesce::shared_fetch::{Follower, Stage};
use crate::fetch::Fetch;
use crate::policy::reuse::Reuse;
use crate::policy::vary::{RequestFields, selecting_value};
use crate::response::{serve_shared, serve_stored};
use crate::store::stored_response::StoredResponse;

/// A future that waits for the leader's response, and forwards the request if that response cannot be used.
pub(crate) struct FollowerFuture<F> {
    follower: Option<Follower>,
    fallback: Option<Fallback<F>>,
    deadline: Pin<Box<Sleep>>,
}

/// A function that forwards the follower's request to the inner service. Holds the request and the inner service that
/// was ready.
type Fallback<F> = (Box<Fetch>, Box<dyn FnOnce(&Fetch) -> F + Send>);

/// The outcome of a follower's wait for the leader's response.
pub(crate) enum Outcome<F, B> {
    /// The follower received the leader's response.
    Served(Box<Response<ResponseBody<B>>>),
    /// The follower's request was forwarded to the inner service.
    Forwarded(F, Box<Fetch>),
}

impl<F> FollowerFuture<F> {
    pub(crate) fn new(
        follower: Follower,
        fetch: Box<Fetch>,
        forward: impl FnOnce(&Fetch) -> F + Send + 'static,
    ) -> Box<Self> {
        let deadline = Box::pin(tokio::time::sleep(fetch.config.coalesce_timeout));
        Box::new(Self { follower: Some(follower), fallback: Some((fetch, Box::new(forward))), deadline })
    }

    pub(crate) fn poll<B>(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<F, B>> {
        let (Some(follower), Some((fetch, _))) = (&self.follower, &self.fallback) else {
            return Poll::Pending;
        };
        let stage = match follower.poll_stage(cx) {
            Poll::Ready(stage) => stage,
            Poll::Pending => {
                ready!(self.deadline.as_mut().poll(cx));
                Stage::Released
            }
        };
        let response = match stage {
            Stage::Streaming(arriving) if fetch.can_be_served_by(&arriving) => {
                fetch.config.store.count_coalesced();
                let age = arriving.freshness.current_age(fetch.config.clock.now());
                let member = fetch.coalesced_member();
                let follower = self.follower.take();
                follower.map(|follower| serve_shared(fetch.client_request(), &arriving, age, member, follower))
            }
            Stage::Complete(stored) => fetch.can_be_served_by(&stored).then(|| fetch.serve_coalesced(&stored)),
            Stage::Stored => fetch.stored_meanwhile().map(|stored| fetch.serve_coalesced(&stored)),
            Stage::Pending | Stage::Streaming(_) | Stage::Released => None,
        };
        if let Some(response) = response {
            return Poll::Ready(Outcome::Served(Box::new(response)));
        }
        let Some((fetch, forward)) = self.fallback.take() else {
            return Poll::Pending;
        };
        Poll::Ready(Outcome::Forwarded(forward(&fetch), fetch))
    }
}

impl Fetch {
    /// Joins the in-flight fetch for the same response, or starts a new fetch.
    pub(crate) fn join(&self) -> Role {
        let has_shareable_reason = matches!(
            self.reason,
            ForwardReason::UriMiss | ForwardReason::VaryMiss | ForwardReason::Partial | ForwardReason::Stale
        );
        let is_coalescible = !self.is_head
            && !self.config.coalesce_timeout.is_zero()
            && has_shareable_reason
            // A part, or a response for one client, cannot be shared.
            && !self.request_headers.contains_key(header::RANGE)
            && !self.is_authenticated
            && !self.request_headers.contains_key(header::AUTHORIZATION);
        if !is_coalescible {
            return Role::Independent;
        }
        // Most responses that vary do so by their content coding.
        let codings = selecting_value(&self.request_headers, &header::ACCEPT_ENCODING).unwrap_or_default();
        let name = [self.key.as_str(), "\n", &String::from_utf8_lossy(&codings)].concat();
        self.config.store.in_flight().join(name.into(), self.ticket, self.request_time)
    }

    /// Builds a follower's response from the leader's response, or from a response stored in the meantime.
    pub(crate) fn serve_coalesced<B>(&self, stored: &StoredResponse) -> Response<ResponseBody<B>> {
        self.config.store.count_coalesced();
        let age = stored.freshness.current_age(self.config.clock.now());
        serve_stored(self.client_request(), stored, age, self.coalesced_member(), CacheStatus::Coalesced)
    }

    // RFC 9211 §2.6
    fn coalesced_member(&self) -> Member {
        Member::forwarded(self.reason).coalesced()
    }

    /// Whether the follower can be served with the response to another request.
    // RFC 9111 §4
    fn can_be_served_by(&self, stored: &StoredResponse) -> bool {
        let now = stored.freshness_now(self.config.clock.now());
        stored.part.is_none()
            && stored.may_serve(&self.request_headers, self.request_specific)
            && stored.selecting_fields.matches(&mut RequestFields::new(&self.request_headers))
            && self.config.reuse(&stored.freshness, now, &self.directives) == Reuse::Fresh
    }

    /// Returns a usable response that was stored after the follower's cache lookup.
    pub(crate) fn stored_meanwhile(&self) -> Option<Arc<StoredResponse>> {
        let stored = self.config.store.lookup(self.key.as_str())?.select(&self.request_headers)?;
        self.can_be_served_by(&stored).then_some(stored)
    }
}
