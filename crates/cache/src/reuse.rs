//! Whether a stored response may be used for a request: RFC 9111 §4, §5.2.1, RFC 5861.

use crate::cache_control::RequestDirectives;
use crate::cache_status::Forwarded;
use crate::freshness::{Freshness, Moment, Stale};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    Fresh,
    /// Stale, but the client takes it: `max-stale`.
    Stale,
    /// Stale, but the origin lets it be used while it is validated in the background.
    WhileRevalidating,
    /// Not before the origin was asked.
    Not(Forwarded),
}

impl Reuse {
    pub(crate) fn of(stored: &Freshness, Moment { age, ttl }: Moment, asked: &RequestDirectives) -> Self {
        if ttl > 0 && !stored.no_cache {
            // RFC 9111 §5.2.1.1: age 0 would satisfy `max-age=0`, but a reload means it.
            // RFC 8246 §2: of what does not change there is no newer one; a client that wants to be sure says no-cache.
            let too_old = !stored.immutable && asked.max_age.is_some_and(|most| age > most || most == 0);
            let too_stale_soon = asked.min_fresh.is_some_and(|least| ttl.unsigned_abs() < least);
            if asked.no_cache || too_old || too_stale_soon {
                return Self::Not(Forwarded::Request);
            }
            return Self::Fresh;
        }
        // RFC 9111 §5.2.1.1: beside `max-stale`, `max-age` still bounds the age.
        let too_old = asked.max_age.is_some_and(|most| asked.max_stale.is_none() || age > most || most == 0);
        if stored.no_cache || asked.no_cache || too_old || asked.min_fresh.is_some() {
            return Self::Not(Forwarded::Stale);
        }
        let staleness = ttl.unsigned_abs();
        if stored.stale != Stale::Forbidden && asked.max_age.is_none() && staleness < stored.stale_while_revalidate {
            return Self::WhileRevalidating;
        }
        // RFC 9111 §4.2.4
        if stored.stale == Stale::Allowed && asked.max_stale.is_some_and(|most| staleness <= most) {
            return Self::Stale;
        }
        Self::Not(Forwarded::Stale)
    }
}

/// How asking the origin failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It was not reached, or did not answer.
    Unreachable,
    /// It answered 500, 502, 503 or 504.
    ServerError,
}

/// Whether the stored response may stand in for an answer that did not come.
// RFC 9111 §4.2.4, RFC 5861 §4
pub(crate) fn stands_in(
    stored: &Freshness,
    moment: Moment,
    asked: &RequestDirectives,
    failure: Failure,
    most_when_unreachable: u64,
) -> bool {
    // The client wants no answer that the origin has not seen.
    if asked.no_cache || asked.max_age == Some(0) {
        return false;
    }
    let staleness = u64::try_from(moment.ttl.saturating_neg()).unwrap_or(0);
    let window = stored.stale_if_error.max(asked.stale_if_error.unwrap_or(0));
    match (stored.stale, failure) {
        (Stale::Forbidden, _) => false,
        (_, _) if staleness < window => true,
        (Stale::Allowed, Failure::Unreachable) => staleness <= most_when_unreachable,
        (Stale::Allowed, Failure::ServerError) | (Stale::OnlyInWindow, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::header::CACHE_CONTROL;
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;
    use crate::cache_control::ResponseDirectives;
    use crate::clock::Timestamp;

    const NOW: u64 = 1_700_000_000;

    fn at(seconds: u64) -> Timestamp {
        (UNIX_EPOCH + Duration::from_secs(seconds)).into()
    }

    fn headers(cache_control: &str) -> HeaderMap {
        HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_str(cache_control).unwrap())])
    }

    fn stored(cache_control: &str) -> Freshness {
        let headers = headers(cache_control);
        Freshness::new(StatusCode::OK, &headers, &ResponseDirectives::of(&headers), false, at(NOW), at(NOW))
    }

    fn asked(cache_control: &str) -> RequestDirectives {
        RequestDirectives::of(&headers(cache_control))
    }

    #[test]
    fn the_client_the_origin_and_the_age_decide() {
        let stale = Reuse::Not(Forwarded::Stale);
        let request = Reuse::Not(Forwarded::Request);
        for (response, age, asked_for, expected) in [
            // RFC 9111 §4.2: fresh while the lifetime exceeds the age
            ("max-age=60", 0, "", Reuse::Fresh),
            ("max-age=60", 59, "", Reuse::Fresh),
            ("max-age=60", 60, "", stale),
            // RFC 9111 §5.2.2.4
            ("max-age=60, no-cache", 0, "", stale),
            ("max-age=60, no-cache", 0, "max-stale", stale),
            // RFC 9111 §5.2.1.4
            ("max-age=60", 0, "no-cache", request),
            // RFC 9111 §5.2.1.1
            ("max-age=60", 0, "max-age=0", request),
            ("max-age=60", 10, "max-age=10", Reuse::Fresh),
            ("max-age=60", 11, "max-age=10", request),
            // RFC 8246 §2
            ("max-age=60, immutable", 30, "max-age=0", Reuse::Fresh),
            ("max-age=60, immutable", 30, "no-cache", request),
            ("max-age=60, immutable", 60, "", stale),
            // RFC 9111 §5.2.1.3
            ("max-age=60", 10, "min-fresh=50", Reuse::Fresh),
            ("max-age=60", 10, "min-fresh=51", request),
            // RFC 9111 §5.2.1.2, §4.2.4
            ("max-age=60", 70, "max-stale", Reuse::Stale),
            ("max-age=60", 70, "max-stale=10", Reuse::Stale),
            ("max-age=60", 71, "max-stale=10", stale),
            // RFC 9111 §5.2.1.1
            ("max-age=60", 70, "max-stale=10, max-age=70", Reuse::Stale),
            ("max-age=60", 70, "max-stale=10, max-age=69", stale),
            ("max-age=60", 70, "max-stale=9, max-age=70", stale),
            ("max-age=60", 70, "max-stale, max-age=0", stale),
            ("max-age=60, stale-while-revalidate=99", 70, "max-stale=9, max-age=70", stale),
            ("max-age=60, must-revalidate", 61, "max-stale", stale),
            ("max-age=60, proxy-revalidate", 61, "max-stale", stale),
            ("s-maxage=60", 61, "max-stale", stale),
            // RFC 5861 §3
            ("max-age=60, stale-while-revalidate=10", 69, "", Reuse::WhileRevalidating),
            ("max-age=60, stale-while-revalidate=10", 70, "", stale),
            ("s-maxage=60, stale-while-revalidate=10", 69, "", Reuse::WhileRevalidating),
            ("max-age=60, stale-while-revalidate=10, must-revalidate", 69, "", stale),
            ("max-age=60, stale-while-revalidate=10", 69, "no-cache", stale),
            ("max-age=60, stale-while-revalidate=10", 69, "max-age=600", stale),
        ] {
            let stored = stored(response);
            let found = Reuse::of(&stored, stored.moment(at(NOW + age)), &asked(asked_for));
            assert_eq!(found, expected, "{response} at {age}, asked {asked_for:?}");
        }
    }

    #[test]
    fn a_stale_response_stands_in_where_nothing_forbids_it() {
        // RFC 9111 §4.2.4, RFC 5861 §4
        for (response, age, asked_for, unreachable, server_error) in [
            ("max-age=60", 90, "", true, false),
            ("max-age=60", 60 + 1001, "", false, false),
            ("max-age=60, stale-if-error=40", 99, "", true, true),
            ("max-age=60, stale-if-error=40", 100, "", true, false),
            ("max-age=60", 90, "stale-if-error=40", true, true),
            ("s-maxage=60", 61, "", false, false),
            ("s-maxage=60, stale-if-error=40", 61, "", true, true),
            ("max-age=60, must-revalidate", 61, "stale-if-error=40", false, false),
            ("max-age=60, proxy-revalidate", 61, "", false, false),
            ("max-age=60, no-cache", 61, "", false, false),
            ("max-age=60", 10, "no-cache", false, false),
            ("max-age=60", 10, "max-age=5", true, false),
        ] {
            let (stored, asked) = (stored(response), asked(asked_for));
            for (failure, expected) in [(Failure::Unreachable, unreachable), (Failure::ServerError, server_error)] {
                let found = stands_in(&stored, stored.moment(at(NOW + age)), &asked, failure, 1000);
                assert_eq!(found, expected, "{response} at {age}, asked {asked_for:?}, {failure:?}");
            }
        }
    }
}
