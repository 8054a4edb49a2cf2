//! The decision on the reuse of a stored response (RFC 9111 §4 and §5.2.1, RFC 5861).

use crate::cache_status::ForwardReason;
use crate::policy::freshness::{Freshness, FreshnessNow, StaleUse};
use crate::policy::request_directives::RequestDirectives;

/// The decision whether a stored response can be reused for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// The response is fresh and can be used.
    Fresh,
    /// The response is stale, but the client accepts it because of `max-stale`.
    Stale,
    /// The response is stale, but the origin allows its use while a background request revalidates it.
    WhileRevalidating,
    /// The stored response cannot be used, and the request must be forwarded.
    Forward(ForwardReason),
}

impl Reuse {
    pub(crate) fn decide(stored: &Freshness, now: FreshnessNow, request: &RequestDirectives) -> Self {
        let FreshnessNow { age, ttl } = now;
        if ttl > 0 && !stored.no_cache {
            // RFC 9111 §5.2.1.1: age 0 would satisfy `max-age=0`, but a client that reloads sends it. RFC 8246 §2: a
            // newer version of an immutable response does not exist. A client can still send `no-cache`.
            let is_too_old = !stored.immutable && request.max_age.is_some_and(|limit| age > limit || limit == 0);
            let is_stale_too_soon = request.min_fresh.is_some_and(|minimum| ttl.unsigned_abs() < minimum);
            if request.no_cache || is_too_old || is_stale_too_soon {
                return Self::Forward(ForwardReason::Request);
            }
            return Self::Fresh;
        }
        // RFC 9111 §5.2.1.1: `max-age` limits the age, even if `max-stale` is present.
        let is_too_old = request.max_age.is_some_and(|limit| request.max_stale.is_none() || age > limit || limit == 0);
        if stored.no_cache || request.no_cache || is_too_old || request.min_fresh.is_some() {
            return Self::Forward(ForwardReason::Stale);
        }
        let staleness = ttl.unsigned_abs();
        if stored.stale_use != StaleUse::Forbidden
            && request.max_age.is_none()
            && staleness < stored.stale_while_revalidate
        {
            return Self::WhileRevalidating;
        }
        // RFC 9111 §4.2.4
        if stored.stale_use == StaleUse::Allowed && request.max_stale.is_some_and(|limit| staleness <= limit) {
            return Self::Stale;
        }
        Self::Forward(ForwardReason::Stale)
    }
}

/// A kind of origin failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The origin was unreachable or did not respond.
    Unreachable,
    /// The origin responded with status 500, 502, 503 or 504.
    ServerError,
}

/// Whether a stale response may be served instead of a failure.
// RFC 9111 §4.2.4, RFC 5861 §4
pub(crate) fn may_replace_failure(
    stored: &Freshness,
    now: FreshnessNow,
    request: &RequestDirectives,
    failure: Failure,
    limit_when_unreachable: u64,
) -> bool {
    // The client requires that the origin confirms the response.
    if request.no_cache || request.max_age == Some(0) {
        return false;
    }
    let staleness = u64::try_from(now.ttl.saturating_neg()).unwrap_or(0);
    let window = stored.stale_if_error.max(request.stale_if_error.unwrap_or(0));
    match (stored.stale_use, failure) {
        (StaleUse::Forbidden, _) => false,
        (_, _) if staleness < window => true,
        (StaleUse::Allowed, Failure::Unreachable) => staleness <= limit_when_unreachable,
        (StaleUse::Allowed, Failure::ServerError) | (StaleUse::OnlyInWindow, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::header::CACHE_CONTROL;
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;
    use crate::clock::Timestamp;
    use crate::policy::response_directives::ResponseDirectives;

    const NOW: u64 = 1_700_000_000;

    fn at(seconds: u64) -> Timestamp {
        (UNIX_EPOCH + Duration::from_secs(seconds)).into()
    }

    fn headers(cache_control: &str) -> HeaderMap {
        HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_str(cache_control).unwrap())])
    }

    fn stored(cache_control: &str) -> Freshness {
        let headers = headers(cache_control);
        Freshness::new(StatusCode::OK, &headers, &ResponseDirectives::from_headers(&headers), false, at(NOW), at(NOW))
    }

    fn request(cache_control: &str) -> RequestDirectives {
        RequestDirectives::from_headers(&headers(cache_control))
    }

    #[test]
    fn reuse_honours_age_and_cache_control_directives() {
        let stale = Reuse::Forward(ForwardReason::Stale);
        let by_request = Reuse::Forward(ForwardReason::Request);
        for (response, age, directives, expected) in [
            // RFC 9111 §4.2: fresh while the lifetime exceeds the age
            ("max-age=60", 0, "", Reuse::Fresh),
            ("max-age=60", 59, "", Reuse::Fresh),
            ("max-age=60", 60, "", stale),
            // RFC 9111 §5.2.2.4
            ("max-age=60, no-cache", 0, "", stale),
            ("max-age=60, no-cache", 0, "max-stale", stale),
            // RFC 9111 §5.2.1.4
            ("max-age=60", 0, "no-cache", by_request),
            // RFC 9111 §5.2.1.1
            ("max-age=60", 0, "max-age=0", by_request),
            ("max-age=60", 10, "max-age=10", Reuse::Fresh),
            ("max-age=60", 11, "max-age=10", by_request),
            // RFC 8246 §2
            ("max-age=60, immutable", 30, "max-age=0", Reuse::Fresh),
            ("max-age=60, immutable", 30, "no-cache", by_request),
            ("max-age=60, immutable", 60, "", stale),
            // RFC 9111 §5.2.1.3
            ("max-age=60", 10, "min-fresh=50", Reuse::Fresh),
            ("max-age=60", 10, "min-fresh=51", by_request),
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
            let decision = Reuse::decide(&stored, stored.at(at(NOW + age)), &request(directives));
            assert_eq!(decision, expected, "{response} at {age}, request {directives:?}");
        }
    }

    #[test]
    fn serves_stale_responses_instead_of_failures_unless_forbidden() {
        // RFC 9111 §4.2.4, RFC 5861 §4
        for (response, age, directives, unreachable, server_error) in [
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
            let (stored, request) = (stored(response), request(directives));
            for (failure, expected) in [(Failure::Unreachable, unreachable), (Failure::ServerError, server_error)] {
                let decision = may_replace_failure(&stored, stored.at(at(NOW + age)), &request, failure, 1000);
                assert_eq!(decision, expected, "{response} at {age}, request {directives:?}, {failure:?}");
            }
        }
    }
}
