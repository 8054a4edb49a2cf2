//! The update of a stored response with a later response's header section (RFC 9111 §3.2 and §4.3.4).

use http::HeaderMap;
use http::header;

use crate::cache_status::CACHE_STATUS;
use crate::clock::Timestamp;
use crate::policy::storability::{NotStorable, StorageRequest, StorageTerms};
use crate::policy::stored_fields::{is_connection_option, is_hop_by_hop};
use crate::policy::tags::Tags;
use crate::policy::validators::is_weak;
use crate::store::stored_response::StoredResponse;

impl StoredResponse {
    /// Returns this response, updated with the header section of a 304 response or of a response to HEAD.
    ///
    /// With an error, the merged response can be served, but not stored.
    pub(crate) fn updated(
        &self,
        request: StorageRequest<'_>,
        update: &HeaderMap,
        response_time: Timestamp,
    ) -> (Self, Result<(), NotStorable>) {
        let mut merged = self.headers().clone();
        merged.remove(header::AGE);
        merged.remove(CACHE_STATUS);
        for name in update.keys() {
            // The length, coding and range describe the stored body. A cookie is for the client of this exchange. A weak tag
            // stays weak: an intermediary that weakens tags because it changes the content cannot do so for a 304.
            let is_kept = matches!(*name, header::CONTENT_LENGTH | header::CONTENT_ENCODING | header::CONTENT_RANGE)
                || *name == header::SET_COOKIE
                || (*name == header::ETAG
                    && self.validators.etag.as_ref().is_some_and(|etag| is_weak(etag.as_bytes())));
            if is_kept || is_hop_by_hop(name) || is_connection_option(name, update) {
                continue;
            }
            merged.remove(name);
            for value in update.get_all(name) {
                merged.append(name, value.clone());
            }
        }
        if !update.contains_key(header::DATE) {
            merged.remove(header::DATE);
        }
        let (terms, outcome) = match StorageTerms::for_response(request, self.status, &merged, response_time) {
            Ok(terms) => (terms, Ok(())),
            Err(reason) => {
                let terms = StorageTerms {
                    freshness: self.freshness.clone(),
                    selecting_fields: self.selecting_fields.clone(),
                    excluded_fields: vec![],
                    part: None,
                    tags: Tags::default(),
                    has_request_credentials: true,
                };
                (terms, Err(reason))
            }
        };
        (Self::new(self.status, &merged, terms).with_content_of(self), outcome)
    }

    /// Returns this response, updated with the header section of a response to a request that selects another variant.
    ///
    /// The selecting fields stay the same. `None` means that the stored response is not updated.
    pub(crate) fn updated_for_other_request(
        &self,
        request: StorageRequest<'_>,
        update: &HeaderMap,
        response_time: Timestamp,
    ) -> Option<Self> {
        // The terms of a part depend on the `Range` of its own request.
        if self.part.is_some() {
            return None;
        }
        let (mut updated, outcome) = self.updated(request, update, response_time);
        updated.selecting_fields = self.selecting_fields.clone();
        updated.has_request_credentials = self.has_request_credentials;
        outcome.is_ok().then_some(updated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache_status::Member;
    use crate::store::stored_response::tests::{NOW, at, map, request, stored};

    #[test]
    fn a_304_response_does_not_replace_fields_that_describe_the_body() {
        // RFC 9111 §3.2
        let stored = stored(&[
            ("cache-control", "max-age=1"),
            ("etag", "W/\"a\""),
            ("content-encoding", "gzip"),
            ("content-type", "text/plain"),
            ("x", "1"),
            ("x", "2"),
            ("y", "1"),
        ]);
        let update = map(&[
            ("cache-control", "max-age=99"),
            ("etag", "\"a\""),
            ("content-encoding", "br"),
            ("content-length", "0"),
            ("content-type", "text/html"),
            ("connection", "close"),
            ("age", "5"),
            ("x", "3"),
        ]);
        let no_fields = HeaderMap::new();
        let (updated, outcome) = stored.updated(request(&no_fields), &update, at(NOW + 10));
        assert_eq!(outcome, Ok(()));
        // Five seconds in other caches, ten for the exchange.
        assert_eq!((updated.freshness.freshness_lifetime, updated.freshness.initial_age), (99, 15));
        let head = updated.response_headers(0, Member::hit());
        for (name, value) in [
            ("etag", "W/\"a\""),
            ("content-encoding", "gzip"),
            ("content-length", "5"),
            ("content-type", "text/html"),
            ("cache-control", "max-age=99"),
            ("date", "Sun, 06 Nov 1994 08:49:47 GMT"),
            ("x", "3"),
            ("y", "1"),
        ] {
            assert_eq!(head.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}");
        }
        assert!(!head.contains_key("connection"));
        assert_eq!(updated.body(), "hello");
    }

    #[test]
    fn fields_that_connection_lists_are_not_merged() {
        // RFC 9110 §7.6.1: such a field is only for the recipient of this message.
        let stored = stored(&[("cache-control", "max-age=1"), ("etag", "\"a\""), ("x-a", "stored")]);
        let update =
            map(&[("connection", "X-A, close"), ("connection", "x-b"), ("x-a", "1"), ("x-b", "2"), ("x-c", "3")]);
        let no_fields = HeaderMap::new();
        let (updated, _) = stored.updated(request(&no_fields), &update, at(NOW));
        let head = updated.response_headers(0, Member::hit());
        assert_eq!((&head["x-a"], &head["x-c"]), (&"stored".parse().unwrap(), &"3".parse().unwrap()));
        assert!(!head.contains_key("x-b") && !head.contains_key("connection"));
    }

    #[test]
    fn a_304_response_with_no_store_prohibits_storing() {
        let stored = stored(&[("cache-control", "max-age=1"), ("etag", "\"a\"")]);
        let no_fields = HeaderMap::new();
        let (updated, outcome) = stored.updated(request(&no_fields), &map(&[("cache-control", "no-store")]), at(NOW));
        assert_eq!(outcome, Err(NotStorable::NoStore));
        assert_eq!(updated.response_headers(0, Member::hit())["cache-control"], "no-store");
    }
}
