//! A writer that copies a response body into the store.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::coalesce::in_flight::Leader;
use crate::coalesce::shared_fetch::SharedFetch;
use crate::config::Config;
use crate::key::CacheKey;
use crate::memory_size;
use crate::store::CacheStore;
use crate::store::generations::FetchTicket;
use crate::store::stored_response::StoredResponse;
use crate::store::write_budget::Reservation;

/// A writer that collects the bytes of a response body, and stores the response when the body ends.
///
/// If it is dropped earlier, it stores the bytes that have arrived as an incomplete response, provided that the rest can be
/// requested later (RFC 9111 §3.3).
///
/// The bytes are copied. A frame is a slice of a read buffer that can be a hundred times as large, and storing the frame would keep
/// that buffer alive.
pub(crate) struct StoreWriter {
    store: CacheStore,
    reservation: Reservation,
    key: Box<str>,
    ticket: FetchTicket,
    response: Arc<StoredResponse>,
    expected_length: Option<u64>,
    max_object: u64,
    length: u64,
    copy: BytesMut,
    trailers: Option<Box<HeaderMap>>,
    /// The leader of the fetch, if the copied bytes are shared with followers.
    leader: Option<Leader>,
    /// Whether the received bytes can be stored as an incomplete response if the body is aborted.
    stores_part: bool,
    awaits_end: bool,
}

impl StoreWriter {
    /// Creates a writer, or returns `None` if it is already certain that the response cannot be stored.
    ///
    /// It cannot be stored if the resource was invalidated after the request, if the body is too large, or if the memory for
    /// concurrent writes is used up.
    pub(crate) fn new(
        config: &Config,
        key: CacheKey,
        ticket: FetchTicket,
        mut response: StoredResponse,
        expected_length: Option<u64>,
    ) -> Option<Self> {
        let (store, max_object) = (&config.store, config.max_object);
        if expected_length.is_some_and(|length| length > max_object || !store.has_room_for(length)) {
            return None;
        }
        if !store.generations().is_valid(ticket) {
            return None;
        }
        if let Some(part) = &mut response.part {
            part.is_whole_storable = part.complete_length() <= max_object;
        }
        // RFC 9110 §14.4: a body that exceeds Content-Range is not the part.
        let max_object = response.part.as_ref().map_or(max_object, |part| part.length().min(max_object));
        let reservation = store.reserve(0)?;
        if let Some(length) = expected_length {
            response.set_content_length(length);
        }
        let stores_part = config.can_repeat_requests() && expected_length.is_some() && response.is_completable();
        Some(Self {
            store: store.clone(),
            reservation,
            key: key.into_string(),
            ticket,
            response: Arc::new(response),
            expected_length,
            max_object,
            length: 0,
            copy: BytesMut::new(),
            trailers: None,
            leader: None,
            stores_part,
            awaits_end: false,
        })
    }

    /// Shares the copied bytes with the followers of `leader`.
    pub(crate) fn with_leader(mut self, leader: Leader) -> Self {
        match self.expected_length {
            // Followers get the body as it arrives, so the copy must not fail halfway for lack of memory.
            Some(length) if self.reservation.grow(length) => leader.start_streaming(Arc::clone(&self.response)),
            Some(_) => return self,
            // The body may turn out too large, so followers get it when it is complete.
            None => {}
        }
        self.leader = Some(leader);
        self
    }

    /// Returns the fetch whose followers receive the copied bytes.
    pub(crate) fn shared_fetch(&self) -> Option<&Arc<SharedFetch>> {
        self.leader.as_ref().map(Leader::shared_fetch)
    }

    pub(crate) fn expected_length(&self) -> Option<u64> {
        self.expected_length
    }

    /// Copies a chunk of the response body for the store. Returns `false` if the body is too large, and then the writer
    /// must be dropped.
    pub(crate) fn push(&mut self, data: &Bytes) -> bool {
        let length = self.length + data.len() as u64;
        let fits = length <= self.expected_length.unwrap_or(u64::MAX).min(self.max_object);
        if !fits || !data.is_empty() && !self.copy(data) {
            self.stores_part = false;
            return false;
        }
        self.length = length;
        true
    }

    fn copy(&mut self, data: &Bytes) -> bool {
        if let Some(leader) = &self.leader {
            // The overhead of a chunk. Without it, many small chunks would exceed the budget unnoticed.
            const CHUNK_OVERHEAD: u64 = 64;
            let bytes = if self.expected_length.is_some() { 0 } else { data.len() as u64 };
            let has_room = self.reservation.grow_by(CHUNK_OVERHEAD + bytes);
            if has_room {
                leader.push(Bytes::copy_from_slice(data));
            }
            return has_room;
        }
        let length = self.copy.len() + data.len();
        if length > self.copy.capacity() {
            // The buffer grows with the bytes that arrive. An announced length alone allocates nothing.
            let doubled = (self.copy.capacity() * 2).max(1024);
            let capacity = match self.expected_length {
                Some(expected) => usize::try_from(expected).unwrap_or(usize::MAX).min(doubled.max(length)),
                None => doubled.max(length),
            };
            if !self.reservation.grow(capacity as u64) {
                return false;
            }
            self.copy.reserve(capacity - self.copy.len());
        }
        self.copy.extend_from_slice(data);
        true
    }

    /// Copies the trailer section of the response for the store. Returns `false` if it is too large, and then the
    /// writer must be dropped.
    pub(crate) fn push_trailers(&mut self, trailers: &HeaderMap) -> bool {
        let is_storable = match self.response.storable_trailers(trailers) {
            Some(trailers) if trailers.is_empty() => true,
            Some(trailers) => {
                let has_room = self.reservation.grow_by(memory_size::section(&trailers) as u64);
                self.trailers = Some(Box::new(trailers));
                has_room
            }
            None => false,
        };
        self.stores_part &= is_storable;
        is_storable
    }

    /// Sets whether the origin has sent all bytes of the declared length but has not ended the body yet.
    ///
    /// Until it ends, the bytes are not stored at all: neither as a complete response nor as a part.
    pub(crate) fn set_awaits_end(&mut self, awaits_end: bool) {
        self.awaits_end = awaits_end;
    }

    /// Whether all bytes of the body's declared length have arrived. The body may not have ended.
    pub(crate) fn is_complete(&self) -> bool {
        self.expected_length == Some(self.length)
    }

    /// Stores the response after its body has ended without an error.
    pub(crate) fn finish(mut self) {
        // RFC 9111 §3.3: an incomplete response is not stored as a complete one.
        if self.expected_length.is_some_and(|expected| expected != self.length) {
            return;
        }
        self.stores_part = false;
        let (body, trailers) = (self.body(), self.trailers.take());
        if let Some(response) = Arc::get_mut(&mut self.response) {
            response.set_content_length(self.length);
        }
        self.response.set_content(body, trailers);
        self.store.put(std::mem::take(&mut self.key), self.ticket, Arc::clone(&self.response));
        // After `put`, because requests that come after the fetch look into the store.
        if let Some(leader) = self.leader.take() {
            leader.finish_complete(Arc::clone(&self.response));
        }
    }

    fn body(&mut self) -> Bytes {
        if let Some(fetch) = self.shared_fetch() {
            let mut chunks = fetch.chunks();
            return if chunks.len() == 1 { chunks.remove(0) } else { chunks.concat().into() };
        }
        let length = self.copy.len();
        let slack = self.copy.capacity() - length;
        let copy = std::mem::take(&mut self.copy);
        if slack > length / 16 { Bytes::copy_from_slice(&copy) } else { copy.freeze() }
    }
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        if !self.stores_part || self.awaits_end || self.length == 0 || std::thread::panicking() {
            return;
        }
        let body = self.body();
        if let Some(part) = self.expected_length.and_then(|length| self.response.truncated(length, body)) {
            self.store.put_part(std::mem::take(&mut self.key), self.ticket, part);
        }
    }
}
