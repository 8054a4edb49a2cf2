//! The copy of a body that is made while its client is served.

use bytes::{Bytes, BytesMut};

use crate::generations::Ticket;
use crate::reservation::Reservation;
use crate::store::CacheStore;
use crate::stored::StoredResponse;

/// Collects a body and stores the response once it is complete. Dropped before that, it leaves nothing.
///
/// The bytes are copied: a frame is a slice of a read buffer that may be a hundred times its size, and
/// what is kept for hours must not keep that alive. It is the one copy in the life of a stored response.
pub(crate) struct Tee {
    store: CacheStore,
    reservation: Reservation,
    key: Box<str>,
    ticket: Ticket,
    response: StoredResponse,
    expected_length: Option<u64>,
    max_object: u64,
    copy: BytesMut,
}

impl Tee {
    /// `None` if the body is known not to fit, or too many others are under way.
    pub(crate) fn new(
        store: &CacheStore,
        key: Box<str>,
        ticket: Ticket,
        response: StoredResponse,
        expected_length: Option<u64>,
        max_object: u64,
    ) -> Option<Self> {
        if expected_length.is_some_and(|length| length > max_object) {
            return None;
        }
        // RFC 9110 §14.4: more bytes than the part has can't be the part.
        let max_object = response.part.as_ref().map_or(max_object, |part| part.length().min(max_object));
        let reservation = store.reserve(0)?;
        Some(Self {
            store: store.clone(),
            reservation,
            key,
            ticket,
            response,
            expected_length,
            max_object,
            copy: BytesMut::new(),
        })
    }

    /// `false`: the body outgrew what may be kept, and the tee is of no more use.
    pub(crate) fn push(&mut self, frame: &Bytes) -> bool {
        let length = self.copy.len() + frame.len();
        if length as u64 > self.expected_length.unwrap_or(u64::MAX).min(self.max_object) {
            return false;
        }
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

    /// Whether all the announced bytes are here. Servers stop reading a body at that point, so its
    /// end may never be seen.
    pub(crate) fn is_complete(&self) -> bool {
        self.expected_length == Some(self.copy.len() as u64)
    }

    /// At the clean end of the body.
    pub(crate) fn finish(self) {
        let length = self.copy.len();
        // RFC 9111 §3.3: an incomplete response is not stored as a complete one.
        if self.expected_length.is_some_and(|expected| expected != length as u64) {
            return;
        }
        let slack = self.copy.capacity() - length;
        let body = if slack > length / 16 { Bytes::copy_from_slice(&self.copy) } else { self.copy.freeze() };
        self.store.put(self.key, self.ticket, self.response.with_body(body));
    }
}
