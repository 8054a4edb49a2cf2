//! The table of in-flight fetches.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::clock::Timestamp;
use crate::coalesce::shared_fetch::{Follower, SharedFetch, Stage, lock};
use crate::store::generations::FetchTicket;
use crate::store::stored_response::StoredResponse;

/// The in-flight fetches by coalescing key. A coalescing key is a cache key with the accepted content codings.
pub(crate) struct InFlightFetches {
    open: Mutex<HashMap<Box<str>, OpenFetch>>,
    /// Hashes of the coalescing keys whose recent responses could not be shared.
    ///
    /// Two names can have the same slot, and the later one replaces the earlier one. So no client can disable coalescing for
    /// another resource.
    unshareable: Box<[AtomicU64]>,
    hasher: RandomState,
}

struct OpenFetch {
    fetch: Arc<SharedFetch>,
    ticket: FetchTicket,
}

/// The role of a request in request coalescing.
pub(crate) enum Role {
    /// The request is forwarded, and its response also serves the followers.
    Leader(Leader),
    /// The request waits for the leader's response.
    Follower(Follower),
    /// The request is forwarded without coalescing.
    Independent,
}

impl InFlightFetches {
    pub(crate) fn new() -> Arc<Self> {
        const SLOTS: usize = 4096;
        let unshareable = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { open: Mutex::default(), unshareable, hasher: RandomState::new() })
    }

    /// Registers a request as the leader of a new fetch, or as a follower of an in-flight fetch.
    pub(crate) fn join(self: &Arc<Self>, name: Box<str>, ticket: FetchTicket, now: Timestamp) -> Role {
        // A fetch can outlive the client of its leader, which takes a task.
        let Ok(runtime) = Handle::try_current() else {
            return Role::Independent;
        };
        if self.is_unshareable(&name, now) {
            return Role::Independent;
        }
        let fetch = Arc::<SharedFetch>::default();
        let open = OpenFetch { fetch: Arc::clone(&fetch), ticket };
        let name = match lock(&self.open).entry(name) {
            Entry::Occupied(present) if present.get().ticket.is_equivalent_to(&ticket) => {
                return Role::Follower(Follower::new(&present.get().fetch));
            }
            // RFC 9111 §4.4: a fetch that began before an invalidation does not serve later requests.
            Entry::Occupied(mut present) => {
                present.insert(open);
                present.key().clone()
            }
            Entry::Vacant(vacant) => {
                let name = vacant.key().clone();
                vacant.insert(open);
                name
            }
        };
        Role::Leader(Leader { in_flight: Arc::clone(self), name, fetch, runtime })
    }

    fn is_unshareable(&self, name: &str, now: Timestamp) -> bool {
        let (slot, fingerprint) = self.slot(name);
        let recorded = slot.load(Ordering::Relaxed);
        recorded >> 32 == u64::from(fingerprint) && now.seconds() < recorded & u64::from(u32::MAX)
    }

    fn record_unshareable(&self, name: &str, now: Timestamp) {
        const MINUTE: u64 = 60;
        let (slot, fingerprint) = self.slot(name);
        let until = (now.seconds() + MINUTE) as u32;
        slot.store(u64::from(fingerprint) << 32 | u64::from(until), Ordering::Relaxed);
    }

    /// Returns the table slot of a coalescing key, and a fingerprint to distinguish keys in the same slot.
    fn slot(&self, name: &str) -> (&AtomicU64, u32) {
        let hash = self.hasher.hash_one(name);
        (&self.unshareable[(hash % self.unshareable.len() as u64) as usize], (hash >> 32) as u32)
    }
}

/// The leader of an in-flight fetch. Dropped without a shared response, it releases its followers.
pub(crate) struct Leader {
    in_flight: Arc<InFlightFetches>,
    name: Box<str>,
    fetch: Arc<SharedFetch>,
    runtime: Handle,
}

impl Leader {
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn shared_fetch(&self) -> &Arc<SharedFetch> {
        &self.fetch
    }

    /// Whether the fetch still has followers after the leader's client has disconnected. If not, the fetch accepts no
    /// followers any longer.
    pub(crate) fn has_followers(&self) -> bool {
        let mut open = lock(&self.in_flight.open);
        let has_followers = self.fetch.followers() > 0;
        if !has_followers {
            self.close(&mut open);
        }
        has_followers
    }

    /// Shares the response head, and then the chunks of the body as they arrive.
    pub(crate) fn start_streaming(&self, head: Arc<StoredResponse>) {
        self.fetch.update(|state| state.stage = Stage::Streaming(head));
    }

    /// Shares a chunk of the body with the followers.
    pub(crate) fn push(&self, chunk: Bytes) {
        self.fetch.update(|state| state.chunks.push(chunk));
    }

    /// Ends the fetch with a complete response.
    pub(crate) fn finish_complete(self, response: Arc<StoredResponse>) {
        self.fetch.update(|state| {
            state.stage = Stage::Complete(response);
            state.chunks = Vec::new();
        });
    }

    /// Ends the fetch with a response that the followers can read from the store.
    pub(crate) fn finish_stored(self) {
        self.fetch.update(|state| state.stage = Stage::Stored);
    }

    /// Ends the fetch with a response that followers cannot use. Requests for it are not coalesced for a minute.
    pub(crate) fn finish_unshareable(self, now: Timestamp) {
        self.in_flight.record_unshareable(&self.name, now);
    }

    fn close(&self, open: &mut HashMap<Box<str>, OpenFetch>) {
        if open.get(&self.name).is_some_and(|open| Arc::ptr_eq(&open.fetch, &self.fetch)) {
            open.remove(&self.name);
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.close(&mut lock(&self.in_flight.open));
        self.fetch.update(|state| {
            if matches!(state.stage, Stage::Pending | Stage::Streaming(_)) {
                state.stage = Stage::Released;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::store::generations::Generations;

    fn at(milliseconds: u64) -> Timestamp {
        (std::time::UNIX_EPOCH + std::time::Duration::from_millis(milliseconds)).into()
    }

    fn join(fetches: &Arc<InFlightFetches>, now: Timestamp) -> Role {
        fetches.join("k".into(), ticket(), now)
    }

    /// Returns a fetch ticket for a test without invalidations.
    fn ticket() -> FetchTicket {
        static GENERATIONS: std::sync::OnceLock<Generations> = std::sync::OnceLock::new();
        GENERATIONS.get_or_init(Generations::default).ticket("k")
    }

    fn leader(fetches: &Arc<InFlightFetches>) -> Leader {
        match join(fetches, at(0)) {
            Role::Leader(leader) => leader,
            _ => panic!("no other fetch is open"),
        }
    }

    fn follower(fetches: &Arc<InFlightFetches>) -> Follower {
        match join(fetches, at(0)) {
            Role::Follower(follower) => follower,
            _ => panic!("a fetch is open"),
        }
    }

    fn stage(follower: &Follower) -> Poll<Stage> {
        follower.poll_stage(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn dropping_the_leader_releases_its_followers() {
        let fetches = InFlightFetches::new();
        let leader = leader(&fetches);
        let follower = follower(&fetches);
        assert!(stage(&follower).is_pending() && leader.has_followers());
        drop(leader);
        assert!(matches!(stage(&follower), Poll::Ready(Stage::Released)));
        assert!(lock(&fetches.open).is_empty());
    }

    #[tokio::test]
    async fn fetch_without_clients_accepts_no_new_followers() {
        let fetches = InFlightFetches::new();
        let first = leader(&fetches);
        drop(follower(&fetches));
        assert!(!first.has_followers());
        let second = leader(&fetches);
        drop(first);
        assert!(matches!(join(&fetches, at(0)), Role::Follower(_)), "the second one is still the leader");
        drop(second);
    }

    #[tokio::test]
    async fn unshareable_response_disables_coalescing_of_its_key_for_a_minute() {
        let fetches = InFlightFetches::new();
        leader(&fetches).finish_unshareable(at(1000));
        assert!(matches!(join(&fetches, at(60_999)), Role::Independent));
        assert!(matches!(join(&fetches, at(61_000)), Role::Leader(_)));
    }

    #[tokio::test]
    async fn unshareable_response_does_not_disable_coalescing_of_other_keys() {
        let fetches = InFlightFetches::new();
        // More names than slots, so that some have the slot of `k`.
        for number in 0..20_000 {
            match fetches.join(format!("other {number}").into(), ticket(), at(0)) {
                Role::Leader(leader) => leader.finish_unshareable(at(0)),
                _ => panic!("no other fetch is open"),
            }
        }
        let leader = leader(&fetches);
        assert!(matches!(join(&fetches, at(0)), Role::Follower(_)));
        drop(leader);
    }

    #[tokio::test]
    async fn fetch_started_before_an_invalidation_accepts_no_new_followers() {
        // RFC 9111 §4.4
        let (fetches, generations) = (InFlightFetches::new(), Generations::default());
        let Role::Leader(before) = fetches.join("k".into(), generations.ticket("k"), at(0)) else {
            panic!("no other fetch is open");
        };
        generations.advance("k");
        let Role::Leader(_after) = fetches.join("k".into(), generations.ticket("k"), at(0)) else {
            panic!("the first fetch is outdated");
        };
        drop(before);
        let third = fetches.join("k".into(), generations.ticket("k"), at(0));
        assert!(matches!(third, Role::Follower(_)), "the second one is still the leader");
    }

    #[test]
    fn requests_outside_a_tokio_runtime_are_not_coalesced() {
        assert!(matches!(join(&InFlightFetches::new(), at(0)), Role::Independent));
    }
}
