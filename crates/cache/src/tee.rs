//! The copy of a body that is made while its client is served.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::flight::Flight;
use crate::flights::Lead;
use crate::generations::Ticket;
use crate::key::Key;
use crate::layer::Settings;
use crate::memory;
use crate::reservation::Reservation;
use crate::store::CacheStore;
use crate::stored::StoredResponse;

/// Collects a body and stores the response once it is complete.
///
/// Dropped before that, it stores what has come as an incomplete response, if the rest can be requested later, and nothing
/// otherwise (RFC 9111 §3.3).
///
/// The bytes are copied: a frame is a slice of a read buffer that may be a hundred times its size, and
/// what is kept for hours must not keep that alive.
pub(crate) struct Tee {
    store: CacheStore,
    reservation: Reservation,
    key: Box<str>,
    ticket: Ticket,
    response: Arc<StoredResponse>,
    expected_length: Option<u64>,
    max_object: u64,
    length: u64,
    copy: BytesMut,
    trailers: Option<Box<HeaderMap>>,
    /// For whom else the copy is made.
    lead: Option<Lead>,
    /// Whether the bytes that have come are worth storing if the body breaks off.
    keeps_part: bool,
    awaits_end: bool,
}

impl Tee {
    /// `None` if it is known that the response can't be stored: the resource was invalidated, the body is too large, or too
    /// many others are under way.
    pub(crate) fn new(
        settings: &Settings,
        key: Key,
        ticket: Ticket,
        mut response: StoredResponse,
        expected_length: Option<u64>,
    ) -> Option<Self> {
        let (store, max_object) = (&settings.store, settings.max_object);
        if expected_length.is_some_and(|length| length > max_object || !store.has_room_for(length)) {
            return None;
        }
        if !store.generations().still_holds(ticket) {
            return None;
        }
        if let Some(part) = &mut response.part {
            part.may_complete = part.complete_length() <= max_object;
        }
        // RFC 9110 §14.4: more bytes than the part has can't be the part.
        let max_object = response.part.as_ref().map_or(max_object, |part| part.length().min(max_object));
        let reservation = store.reserve(0)?;
        if let Some(length) = expected_length {
            response.announce(length);
        }
        let keeps_part = settings.repeats_requests() && expected_length.is_some() && response.is_completable();
        Some(Self {
            store: store.clone(),
            reservation,
            key: key.into_text(),
            ticket,
            response: Arc::new(response),
            expected_length,
            max_object,
            length: 0,
            copy: BytesMut::new(),
            trailers: None,
            lead: None,
            keeps_part,
            awaits_end: false,
        })
    }

    /// Makes the copy for others, too.
    pub(crate) fn lead(mut self, lead: Lead) -> Self {
        match self.expected_length {
            // They are served as the body arrives: so it must be sure that the copy will go on to its end.
            Some(length) if self.reservation.grow(length) => lead.stream(Arc::clone(&self.response)),
            Some(_) => return self,
            // Whether the copy goes on to its end can't be known: they are served once it has.
            None => {}
        }
        self.lead = Some(lead);
        self
    }

    /// The flight that the copy is made for.
    pub(crate) fn flight(&self) -> Option<&Arc<Flight>> {
        self.lead.as_ref().map(Lead::flight)
    }

    pub(crate) fn expected_length(&self) -> Option<u64> {
        self.expected_length
    }

    /// `false`: the body outgrew what may be kept, and the tee is of no more use.
    pub(crate) fn push(&mut self, frame: &Bytes) -> bool {
        let length = self.length + frame.len() as u64;
        let fits = length <= self.expected_length.unwrap_or(u64::MAX).min(self.max_object);
        if !fits || !frame.is_empty() && !self.copy(frame) {
            self.keeps_part = false;
            return false;
        }
        self.length = length;
        true
    }

    fn copy(&mut self, frame: &Bytes) -> bool {
        if let Some(lead) = &self.lead {
            // What a chunk takes beside its bytes; many small ones must not go uncounted.
            const CHUNK: u64 = 64;
            let bytes = if self.expected_length.is_some() { 0 } else { frame.len() as u64 };
            let room = self.reservation.grow_by(CHUNK + bytes);
            if room {
                lead.push(Bytes::copy_from_slice(frame));
            }
            return room;
        }
        let length = self.copy.len() + frame.len();
        if length > self.copy.capacity() {
            // What a peer announces is not set aside before it arrives.
            let doubled = (self.copy.capacity() * 2).max(1024);
            let wanted = match self.expected_length {
                Some(expected) => usize::try_from(expected).unwrap_or(usize::MAX).min(doubled.max(length)),
                None => doubled.max(length),
            };
            if !self.reservation.grow(wanted as u64) {
                return false;
            }
            self.copy.reserve(wanted - self.copy.len());
        }
        self.copy.extend_from_slice(frame);
        true
    }

    /// `false`: there are too many trailers to store them, and the response without them would be another one.
    pub(crate) fn push_trailers(&mut self, trailers: &HeaderMap) -> bool {
        let is_stored = match self.response.storable_trailers(trailers) {
            Some(trailers) if trailers.is_empty() => true,
            Some(trailers) => {
                let has_room = self.reservation.grow_by(memory::section(&trailers) as u64);
                self.trailers = Some(Box::new(trailers));
                has_room
            }
            None => false,
        };
        self.keeps_part &= is_stored;
        is_stored
    }

    /// Tells whether the origin has sent all bytes that it announced, and not yet the end of the body: until that comes, what
    /// it has sent is not stored, not even as a part.
    pub(crate) fn set_awaits_end(&mut self, awaits_end: bool) {
        self.awaits_end = awaits_end;
    }

    /// Whether all the announced bytes are here. The body may not have ended all the same.
    pub(crate) fn is_complete(&self) -> bool {
        self.expected_length == Some(self.length)
    }

    /// At the clean end of the body.
    pub(crate) fn finish(mut self) {
        // RFC 9111 §3.3: an incomplete response is not stored as a complete one.
        if self.expected_length.is_some_and(|expected| expected != self.length) {
            return;
        }
        self.keeps_part = false;
        let (body, trailers) = (self.body(), self.trailers.take());
        if let Some(response) = Arc::get_mut(&mut self.response) {
            response.announce(self.length);
        }
        self.response.complete(body, trailers);
        self.store.put(std::mem::take(&mut self.key), self.ticket, Arc::clone(&self.response));
        // Not before it is stored: who comes after the flight must find it there.
        if let Some(lead) = self.lead.take() {
            lead.complete(Arc::clone(&self.response));
        }
    }

    fn body(&mut self) -> Bytes {
        if let Some(flight) = self.flight() {
            let mut chunks = flight.chunks();
            return if chunks.len() == 1 { chunks.remove(0) } else { chunks.concat().into() };
        }
        let length = self.copy.len();
        let slack = self.copy.capacity() - length;
        let copy = std::mem::take(&mut self.copy);
        if slack > length / 16 { Bytes::copy_from_slice(&copy) } else { copy.freeze() }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        if !self.keeps_part || self.awaits_end || self.length == 0 || std::thread::panicking() {
            return;
        }
        let body = self.body();
        if let Some(part) = self.expected_length.and_then(|length| self.response.cut_off(length, body)) {
            self.store.put_part(std::mem::take(&mut self.key), self.ticket, part);
        }
    }
}
