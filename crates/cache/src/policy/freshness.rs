//! The freshness and age of a response (RFC 9111 §4.2).

use http::{HeaderMap, StatusCode, header};

use crate::clock::Timestamp;
use crate::policy::cache_control::{delta_seconds, split_member};
use crate::policy::date;
use crate::policy::response_directives::ResponseDirectives;

/// The freshness of a stored response, as calculated on its arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    pub(crate) freshness_lifetime: u64,
    pub(crate) basis: Basis,
    /// The `corrected_initial_age` in seconds (RFC 9111 §4.2.3).
    pub(crate) initial_age: u64,
    pub(crate) response_time: Timestamp,
    /// The `Date` of the response, or the time of its arrival if `Date` is missing.
    pub(crate) date: u64,
    /// Whether the response has an unqualified `no-cache` directive, which requires validation before each use.
    pub(crate) no_cache: bool,
    /// Whether the response has the `immutable` directive (RFC 8246).
    pub(crate) immutable: bool,
    /// Whether the response explicitly permits reuse by a shared cache, while fresh or after validation.
    pub(crate) is_permitted: bool,
    pub(crate) stale_use: StaleUse,
    pub(crate) stale_while_revalidate: u64,
    pub(crate) stale_if_error: u64,
}

/// The source of the freshness lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    SMaxage,
    MaxAge,
    Expires,
    Heuristic,
    /// The response has no freshness lifetime.
    Missing,
}

impl Basis {
    /// Whether the freshness lifetime is explicit and not heuristic.
    pub(crate) fn is_explicit(self) -> bool {
        matches!(self, Self::SMaxage | Self::MaxAge | Self::Expires)
    }
}

/// Whether the origin allows the use of a stale response (RFC 9111 §4.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StaleUse {
    /// A stale response may be used, since no directive forbids it.
    Allowed,
    /// A response with `s-maxage` may be used stale only within the time windows of RFC 5861. Frameworks send
    /// `s-maxage=60, stale-while-revalidate=600` with that intention.
    OnlyInWindow,
    /// A stale response must not be used, because of a directive or because no explicit lifetime exists.
    Forbidden,
}

/// The freshness and age of a response at the time of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FreshnessNow {
    pub(crate) age: u64,
    /// The remaining freshness lifetime in seconds, zero or negative for a stale response.
    pub(crate) ttl: i64,
}

impl Freshness {
    /// Calculates the freshness of a response on its arrival. With `allows_heuristic`, a missing lifetime is estimated.
    pub(crate) fn new(
        status: StatusCode,
        headers: &HeaderMap,
        directives: &ResponseDirectives,
        allows_heuristic: bool,
        request_time: Timestamp,
        response_time: Timestamp,
    ) -> Self {
        let date = date::from_headers(headers, header::DATE).unwrap_or(response_time.seconds());
        let (freshness_lifetime, basis) = freshness_lifetime(status, headers, directives, allows_heuristic, date);
        // Stale use means that an explicit lifetime is exceeded. Without one, the response is never used without the
        // origin.
        let is_forbidden = directives.must_revalidate || directives.proxy_revalidate || directives.no_cache;
        let stale_use = if is_forbidden || !basis.is_explicit() {
            StaleUse::Forbidden
        } else if directives.s_maxage.is_some() {
            StaleUse::OnlyInWindow
        } else {
            StaleUse::Allowed
        };
        Self {
            freshness_lifetime,
            basis,
            initial_age: corrected_initial_age(headers, date, request_time, response_time),
            response_time,
            date,
            no_cache: directives.no_cache,
            immutable: directives.immutable,
            is_permitted: basis.is_explicit() || directives.public || directives.no_cache,
            stale_use,
            stale_while_revalidate: directives.stale_while_revalidate.unwrap_or(0),
            stale_if_error: directives.stale_if_error.unwrap_or(0),
        }
    }

    /// Returns the `current_age` in seconds (RFC 9111 §4.2.3).
    pub(crate) fn current_age(&self, now: Timestamp) -> u64 {
        self.initial_age.saturating_add(now.seconds_since(self.response_time))
    }

    /// Returns the age and the remaining lifetime of the response at the time `now`.
    pub(crate) fn at(&self, now: Timestamp) -> FreshnessNow {
        let age = self.current_age(now);
        FreshnessNow { age, ttl: self.ttl(age) }
    }

    /// Returns the remaining freshness lifetime of a response with this age. It is negative for a stale response.
    pub(crate) fn ttl(&self, age: u64) -> i64 {
        signed(self.freshness_lifetime).saturating_sub(signed(age))
    }
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// Returns the `freshness_lifetime` (RFC 9111 §4.2.1) and its source.
fn freshness_lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    allows_heuristic: bool,
    date: u64,
) -> (u64, Basis) {
    if let Some(seconds) = directives.s_maxage {
        return (seconds, Basis::SMaxage);
    }
    if let Some(seconds) = directives.max_age {
        return (seconds, Basis::MaxAge);
    }
    if !directives.is_targeted && headers.contains_key(header::EXPIRES) {
        // RFC 9111 §5.3: an invalid date, such as `0`, is in the past.
        let has_one_value = headers.get_all(header::EXPIRES).iter().nth(1).is_none();
        let expires = date::from_headers(headers, header::EXPIRES).filter(|_| has_one_value).unwrap_or(0);
        return (expires.saturating_sub(date), Basis::Expires);
    }
    if allows_heuristic && (directives.public || is_heuristically_cacheable(status)) {
        // RFC 9111 §4.2.2: a tenth of the time since the last modification, and at most one day.
        const MAX: u64 = 24 * 60 * 60;
        if let Some(modified) = date::from_headers(headers, header::LAST_MODIFIED) {
            return ((date.saturating_sub(modified) / 10).min(MAX), Basis::Heuristic);
        }
    }
    (0, Basis::Missing)
}

/// Whether a status code other than 206 is heuristically cacheable (RFC 9110 §15.1).
pub(crate) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Returns the `corrected_initial_age` in seconds (RFC 9111 §4.2.3).
fn corrected_initial_age(headers: &HeaderMap, date: u64, request_time: Timestamp, response_time: Timestamp) -> u64 {
    let apparent_age = response_time.seconds().saturating_sub(date);
    let response_delay = response_time.seconds_since(request_time);
    let corrected_age_value = age_value(headers).saturating_add(response_delay);
    apparent_age.max(corrected_age_value)
}

/// Returns the value of `Age` in seconds. RFC 9111 §5.1: the first member of a list counts, and an invalid value is
/// ignored.
fn age_value(headers: &HeaderMap) -> u64 {
    let Some(value) = headers.get(header::AGE) else {
        return 0;
    };
    let (first, _) = split_member(value.as_bytes());
    delta_seconds(first.trim_ascii()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn at(seconds: u64) -> Timestamp {
        (UNIX_EPOCH + Duration::from_secs(seconds)).into()
    }

    fn headers(fields: &[(&'static str, String)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::try_from(value).unwrap());
        }
        headers
    }

    fn day(offset: i64) -> String {
        date::value(NOW.saturating_add_signed(offset)).unwrap().to_str().unwrap().into()
    }

    fn freshness(status: u16, headers: &HeaderMap) -> Freshness {
        let directives = ResponseDirectives::from_headers(headers);
        Freshness::new(StatusCode::from_u16(status).unwrap(), headers, &directives, true, at(NOW), at(NOW))
    }

    fn cc(value: &str) -> (&'static str, String) {
        ("cache-control", value.into())
    }

    #[test]
    fn s_maxage_overrides_max_age_and_max_age_overrides_expires() {
        // RFC 9111 §4.2.1
        let date = ("date", day(0));
        for (fields, expected) in [
            (vec![cc("max-age=60, s-maxage=5")], (5, Basis::SMaxage)),
            (vec![cc("s-maxage=x, max-age=60")], (0, Basis::SMaxage)),
            (vec![cc("max-age=60"), ("expires", day(-9)), date.clone()], (60, Basis::MaxAge)),
            (vec![cc("max-age=0"), ("expires", day(900)), date.clone()], (0, Basis::MaxAge)),
            (vec![("expires", day(900)), date.clone()], (900, Basis::Expires)),
            (vec![("expires", day(900))], (900, Basis::Expires)),
            (vec![("expires", day(900)), ("date", "foo".into())], (900, Basis::Expires)),
            (vec![("expires", day(300)), ("date", day(400))], (0, Basis::Expires)),
            (vec![("expires", "0".into()), date.clone()], (0, Basis::Expires)),
            (vec![("expires", "-1".into()), ("last-modified", day(-1000))], (0, Basis::Expires)),
            // RFC 9110 §5.3: a field that is no list has one value, and several are invalid.
            (vec![("expires", day(900)), ("expires", day(901)), date.clone()], (0, Basis::Expires)),
            // RFC 9213 §2.2
            (vec![("cdn-cache-control", "max-age=7".into()), cc("max-age=60, s-maxage=5")], (7, Basis::MaxAge)),
            (vec![("cdn-cache-control", "public".into()), ("expires", day(900))], (0, Basis::Missing)),
            (vec![("cdn-cache-control", "max-age=\"7\"".into()), cc("max-age=60")], (0, Basis::MaxAge)),
            (vec![("cdn-cache-control", "&&".into()), cc("max-age=60")], (60, Basis::MaxAge)),
            (vec![], (0, Basis::Missing)),
        ] {
            let found = freshness(200, &headers(&fields));
            assert_eq!((found.freshness_lifetime, found.basis), expected, "{fields:?}");
        }
    }

    #[test]
    fn heuristic_lifetime_is_a_tenth_of_the_time_since_last_modified_up_to_a_day() {
        // RFC 9111 §4.2.2
        let modified = |ago: i64| headers(&[("last-modified", day(-ago)), ("date", day(0))]);
        assert_eq!(freshness(200, &modified(1000)).freshness_lifetime, 100);
        assert_eq!(freshness(200, &modified(100 * 86_400)).freshness_lifetime, 86_400);
        assert_eq!(freshness(200, &modified(-1000)).freshness_lifetime, 0);
        for status in [201, 202, 302, 307, 403, 500, 502, 503, 504, 599] {
            assert_eq!(freshness(status, &modified(1000)).basis, Basis::Missing, "{status}");
        }
        let public = headers(&[("last-modified", day(-1000)), ("date", day(0)), cc("public")]);
        assert_eq!(freshness(599, &public).freshness_lifetime, 100);
    }

    #[test]
    fn age_includes_the_time_in_upstream_caches() {
        // RFC 9111 §4.2.3
        for (age, expected) in [
            ("30", 30),
            ("30, 5", 30),
            ("0, 5", 0),
            ("abc", 0),
            ("-7200", 0),
            ("7200.0", 0),
            ("", 0),
            ("99999999999999999999", 1 << 31),
        ] {
            let found = freshness(200, &headers(&[("date", day(0)), ("age", age.into())]));
            assert_eq!(found.initial_age, expected, "{age:?}");
        }
        let apparent = freshness(200, &headers(&[("date", day(-40)), ("age", "30".into())]));
        assert_eq!(apparent.initial_age, 40);
        let fast_clock = freshness(200, &headers(&[("date", day(500)), ("age", "30".into())]));
        assert_eq!(fast_clock.initial_age, 30);
    }

    #[test]
    fn age_includes_the_response_delay() {
        // RFC 9111 §4.2.3: response_delay
        let headers = headers(&[("age", "30".into())]);
        let directives = ResponseDirectives::default();
        let found = Freshness::new(StatusCode::OK, &headers, &directives, true, at(NOW - 7), at(NOW));
        assert_eq!(found.initial_age, 37);
        assert_eq!(found.current_age(at(NOW + 3)), 40);
        assert_eq!(found.current_age(at(NOW - 100)), 37, "a clock set back does not underflow");
    }

    proptest! {
        // A slow model, which counts the seconds in the formulas of RFC 9111 §4.2.3 one by one.
        #[test]
        fn age_and_remaining_lifetime_agree_with_the_rfc_9111_model(
            max_age in 0_u64..5000, age in 0_u64..5000, date_ago in -2000_i64..2000, delay in 0_u64..50, resident in 0_u64..5000,
        ) {
            let headers = headers(&[
                cc(&format!("max-age={max_age}")), ("age", age.to_string()), ("date", day(-date_ago)),
            ]);
            let directives = ResponseDirectives::from_headers(&headers);
            let found = Freshness::new(StatusCode::OK, &headers, &directives, true, at(NOW - delay), at(NOW));
            let apparent = if date_ago > 0 { date_ago as u64 } else { 0 };
            let initial = if apparent > age + delay { apparent } else { age + delay };
            let current = found.current_age(at(NOW + resident));
            prop_assert_eq!(current, initial + resident);
            prop_assert_eq!(found.ttl(current) > 0, max_age > initial + resident);
        }
    }
}
