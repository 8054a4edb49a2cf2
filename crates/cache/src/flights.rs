//! Requests for what is already on its way: one asks the origin, the others wait for its answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::clock::Timestamp;
use crate::flight::{Flight, Follower, Stage, lock};
use crate::generations::Ticket;
use crate::stored::StoredResponse;

/// The requests under way, by what they ask for.
pub(crate) struct Flights {
    open: Mutex<HashMap<Box<str>, Open>>,
    /// The resources for which there is no use in waiting. Of two that share a slot the later one is remembered: so
    /// nobody can switch off the waiting for another resource.
    unshareable: Box<[AtomicU64]>,
    hasher: RandomState,
}

struct Open {
    flight: Arc<Flight>,
    ticket: Ticket,
}

/// What a request is to do that the store did not answer.
pub(crate) enum Joined {
    Leader(Lead),
    Follower(Follower),
    Alone,
}

impl Flights {
    pub(crate) fn new() -> Arc<Self> {
        const SLOTS: usize = 4096;
        let unshareable = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { open: Mutex::default(), unshareable, hasher: RandomState::new() })
    }

    pub(crate) fn join(self: &Arc<Self>, name: Box<str>, ticket: Ticket, now: Timestamp) -> Joined {
        // A question must be able to outlive the client that asked it first, which takes a task.
        let Ok(runtime) = Handle::try_current() else {
            return Joined::Alone;
        };
        if self.is_unshareable(&name, now) {
            return Joined::Alone;
        }
        let flight = Arc::<Flight>::default();
        let open = Open { flight: Arc::clone(&flight), ticket };
        let name = match lock(&self.open).entry(name) {
            Entry::Occupied(present) if present.get().ticket.is_as_good_as(&ticket) => {
                return Joined::Follower(Follower::new(&present.get().flight));
            }
            // RFC 9111 §4.4: what was asked for before the resource changed is of no use to who comes after.
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
        Joined::Leader(Lead { flights: Arc::clone(self), name, flight, runtime })
    }

    fn is_unshareable(&self, name: &str, now: Timestamp) -> bool {
        let (slot, fingerprint) = self.slot(name);
        let remembered = slot.load(Ordering::Relaxed);
        remembered >> 32 == u64::from(fingerprint) && now.seconds() < remembered & u64::from(u32::MAX)
    }

    fn remember_unshareable(&self, name: &str, now: Timestamp) {
        const MINUTE: u64 = 60;
        let (slot, fingerprint) = self.slot(name);
        let until = (now.seconds() + MINUTE) as u32;
        slot.store(u64::from(fingerprint) << 32 | u64::from(until), Ordering::Relaxed);
    }

    /// A place for a name, and what tells it from others of the same place.
    fn slot(&self, name: &str) -> (&AtomicU64, u32) {
        let hash = self.hasher.hash_one(name);
        (&self.unshareable[(hash % self.unshareable.len() as u64) as usize], (hash >> 32) as u32)
    }
}

/// The duty to bring the answer. Dropped early, it sets the followers free.
pub(crate) struct Lead {
    flights: Arc<Flights>,
    name: Box<str>,
    flight: Arc<Flight>,
    runtime: Handle,
}

impl Lead {
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Whether someone else waits, now that the leader's client is gone. If not, nobody can join any more.
    pub(crate) fn is_awaited(&self) -> bool {
        let mut open = lock(&self.flights.open);
        let awaited = self.flight.followers() > 0;
        if !awaited {
            self.close(&mut open);
        }
        awaited
    }

    /// `head` may be shared, and the chunks will be.
    pub(crate) fn stream(&self, head: Arc<StoredResponse>) {
        self.flight.advance(|state| state.stage = Stage::Streaming(head));
    }

    pub(crate) fn push(&self, chunk: Bytes) {
        self.flight.advance(|state| state.chunks.push(chunk));
    }

    pub(crate) fn complete(self, response: Arc<StoredResponse>) {
        self.flight.advance(|state| {
            state.stage = Stage::Complete(response);
            state.chunks = Vec::new();
        });
    }

    pub(crate) fn stored(self) {
        self.flight.advance(|state| state.stage = Stage::Stored);
    }

    /// The answer is for one client only, and so will be those of the next minute.
    pub(crate) fn unshareable(self, now: Timestamp) {
        self.flights.remember_unshareable(&self.name, now);
    }

    fn close(&self, open: &mut HashMap<Box<str>, Open>) {
        if open.get(&self.name).is_some_and(|open| Arc::ptr_eq(&open.flight, &self.flight)) {
            open.remove(&self.name);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.close(&mut lock(&self.flights.open));
        self.flight.advance(|state| {
            if matches!(state.stage, Stage::Unknown | Stage::Streaming(_)) {
                state.stage = Stage::Over;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::generations::Generations;

    fn at(milliseconds: u64) -> Timestamp {
        (std::time::UNIX_EPOCH + std::time::Duration::from_millis(milliseconds)).into()
    }

    fn join(flights: &Arc<Flights>, now: Timestamp) -> Joined {
        flights.join("k".into(), ticket(), now)
    }

    /// The same whenever it is taken, as long as nothing is invalidated.
    fn ticket() -> Ticket {
        static GENERATIONS: std::sync::OnceLock<Generations> = std::sync::OnceLock::new();
        GENERATIONS.get_or_init(Generations::default).ticket("k")
    }

    fn leader(flights: &Arc<Flights>) -> Lead {
        match join(flights, at(0)) {
            Joined::Leader(lead) => lead,
            _ => panic!("nobody else is under way"),
        }
    }

    fn follower(flights: &Arc<Flights>) -> Follower {
        match join(flights, at(0)) {
            Joined::Follower(follower) => follower,
            _ => panic!("somebody is under way"),
        }
    }

    fn stage(follower: &Follower) -> Poll<Stage> {
        follower.poll_stage(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn a_leader_that_is_gone_sets_its_followers_free() {
        let flights = Flights::new();
        let lead = leader(&flights);
        let follower = follower(&flights);
        assert!(stage(&follower).is_pending() && lead.is_awaited());
        drop(lead);
        assert!(matches!(stage(&follower), Poll::Ready(Stage::Over)));
        assert!(lock(&flights.open).is_empty());
    }

    #[tokio::test]
    async fn nobody_follows_a_leader_that_nobody_awaited() {
        let flights = Flights::new();
        let lead = leader(&flights);
        drop(follower(&flights));
        assert!(!lead.is_awaited());
        let second = leader(&flights);
        drop(lead);
        assert!(matches!(join(&flights, at(0)), Joined::Follower(_)), "the second one still leads");
        drop(second);
    }

    #[tokio::test]
    async fn what_can_not_be_shared_is_not_waited_for_again() {
        let flights = Flights::new();
        leader(&flights).unshareable(at(1000));
        assert!(matches!(join(&flights, at(60_999)), Joined::Alone));
        assert!(matches!(join(&flights, at(61_000)), Joined::Leader(_)));
    }

    #[tokio::test]
    async fn unshareable_resources_do_not_switch_off_the_waiting_for_others() {
        let flights = Flights::new();
        // Far more than there are slots, so that some share the one of `k`.
        for number in 0..20_000 {
            match flights.join(format!("other {number}").into(), ticket(), at(0)) {
                Joined::Leader(lead) => lead.unshareable(at(0)),
                _ => panic!("nobody else is under way"),
            }
        }
        let lead = leader(&flights);
        assert!(matches!(join(&flights, at(0)), Joined::Follower(_)));
        drop(lead);
    }

    #[tokio::test]
    async fn nobody_follows_a_leader_that_asked_before_the_resource_changed() {
        // RFC 9111 §4.4
        let (flights, generations) = (Flights::new(), Generations::default());
        let Joined::Leader(before) = flights.join("k".into(), generations.ticket("k"), at(0)) else {
            panic!("nobody else is under way");
        };
        generations.advance("k");
        let Joined::Leader(_after) = flights.join("k".into(), generations.ticket("k"), at(0)) else {
            panic!("that one is out of date");
        };
        drop(before);
        let third = flights.join("k".into(), generations.ticket("k"), at(0));
        assert!(matches!(third, Joined::Follower(_)), "the second one still leads");
    }

    #[test]
    fn without_a_runtime_everyone_asks() {
        assert!(matches!(join(&Flights::new(), at(0)), Joined::Alone));
    }
}
