//! A stored response with what the origin has said of it since: RFC 9111 §3.2, §4.3.4.

use http::HeaderMap;
use http::header;

use crate::cache_status::CACHE_STATUS;
use crate::clock::Timestamp;
use crate::fields::is_hop_by_hop;
use crate::stored::StoredResponse;
use crate::storing::{Request, Terms, Unstorable};
use crate::tags::Tags;
use crate::validation::is_weak;

impl StoredResponse {
    /// This response with the header section of `update`, a 304 or the answer to a HEAD, merged in.
    /// An error means that it may be kept no longer; the merged response can be served all the same.
    // RFC 9111 §3.2, §4.3.4
    pub(crate) fn freshened(
        &self,
        request: Request<'_>,
        update: &HeaderMap,
        response_time: Timestamp,
    ) -> (Self, Result<(), Unstorable>) {
        let mut merged = self.headers().clone();
        merged.remove(header::AGE);
        merged.remove(CACHE_STATUS);
        for name in update.keys() {
            // What says how the stored body is framed and coded belongs to the stored body. A cookie is
            // for the client that asked. A weak tag stays weak: what weakened it saw the content, and can't have seen that of a 304.
            let kept = matches!(*name, header::CONTENT_LENGTH | header::CONTENT_ENCODING | header::CONTENT_RANGE)
                || *name == header::SET_COOKIE
                || (*name == header::ETAG
                    && self.validators.etag.as_ref().is_some_and(|etag| is_weak(etag.as_bytes())));
            if kept || is_hop_by_hop(name) {
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
        let (terms, kept) = match Terms::for_response(request, self.status, &merged, response_time) {
            Ok(terms) => (terms, Ok(())),
            Err(reason) => {
                let (freshness, selecting) = (self.freshness.clone(), self.selecting.clone());
                let terms = Terms {
                    freshness,
                    selecting,
                    unstored: vec![],
                    part: None,
                    tags: Tags::default(),
                    is_personal: true,
                };
                (terms, Err(reason))
            }
        };
        (Self::new(self.status, &merged, terms).with_content_of(self), kept)
    }

    /// As [`freshened`](Self::freshened), for a request that this response was not selected for. `None`: it is as it was.
    pub(crate) fn freshened_beside(
        &self,
        request: Request<'_>,
        update: &HeaderMap,
        response_time: Timestamp,
    ) -> Option<Self> {
        // A part is made of the same bytes, but is no answer to compare terms with.
        if self.part.is_some() {
            return None;
        }
        let (mut fresh, kept) = self.freshened(request, update, response_time);
        fresh.selecting = self.selecting.clone();
        fresh.is_personal = self.is_personal;
        kept.is_ok().then_some(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache_status::Member;
    use crate::stored::tests::{NOW, at, map, request, stored};

    #[test]
    fn a_304_updates_all_but_what_the_body_depends_on() {
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
        let nothing = HeaderMap::new();
        let (fresh, kept) = stored.freshened(request(&nothing), &update, at(NOW + 10));
        assert_eq!(kept, Ok(()));
        // Five seconds before it was sent on, ten for the exchange.
        assert_eq!((fresh.freshness.freshness_lifetime, fresh.freshness.initial_age), (99, 15));
        let head = fresh.head(0, Member::hit());
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
        assert_eq!(fresh.body(), "hello");
    }

    #[test]
    fn a_304_that_forbids_storing_is_obeyed() {
        let stored = stored(&[("cache-control", "max-age=1"), ("etag", "\"a\"")]);
        let nothing = HeaderMap::new();
        let (fresh, kept) = stored.freshened(request(&nothing), &map(&[("cache-control", "no-store")]), at(NOW));
        assert_eq!(kept, Err(Unstorable::NoStore));
        assert_eq!(fresh.head(0, Member::hit())["cache-control"], "no-store");
    }
}
