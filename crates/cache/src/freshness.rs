//! How long a response is fresh, and how old it is: RFC 9111 §4.2.

use http::{HeaderMap, StatusCode, header};

use crate::cache_control::{ResponseDirectives, delta_seconds, split_member};
use crate::clock::Timestamp;
use crate::date;

/// What the time of a stored response allows, fixed when the response arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    pub(crate) freshness_lifetime: u64,
    pub(crate) basis: Basis,
    /// `corrected_initial_age` of RFC 9111 §4.2.3.
    pub(crate) initial_age: u64,
    pub(crate) response_time: Timestamp,
    /// The `Date` of the response, or when it arrived.
    pub(crate) date: u64,
    /// Unqualified `no-cache`: never used without validation.
    pub(crate) no_cache: bool,
    /// It will not change while it is fresh: RFC 8246.
    pub(crate) immutable: bool,
    /// Whether the response itself says that a shared cache may reuse it: for how long, or after validation.
    pub(crate) is_permitted: bool,
    pub(crate) stale: Stale,
    pub(crate) stale_while_revalidate: u64,
    pub(crate) stale_if_error: u64,
}

/// What the lifetime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    SMaxage,
    MaxAge,
    Expires,
    Heuristic,
    Nothing,
}

impl Basis {
    pub(crate) fn is_explicit(self) -> bool {
        matches!(self, Self::SMaxage | Self::MaxAge | Self::Expires)
    }
}

/// Whether the origin lets a stale response be used: RFC 9111 §4.2.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stale {
    /// It said nothing against it.
    Allowed,
    /// `s-maxage` forbids it to a shared cache, save where an RFC 5861 window says otherwise:
    /// `s-maxage=60, stale-while-revalidate=600` is what frameworks send and mean.
    OnlyInWindow,
    /// `must-revalidate`, `proxy-revalidate`, `no-cache`.
    Forbidden,
}

/// A response at the time of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) age: u64,
    /// Stale without any left.
    pub(crate) ttl: i64,
}

impl Freshness {
    /// `heuristics`: whether a lifetime may be guessed for this response.
    pub(crate) fn new(
        status: StatusCode,
        headers: &HeaderMap,
        directives: &ResponseDirectives,
        heuristics: bool,
        request_time: Timestamp,
        response_time: Timestamp,
    ) -> Self {
        let date = date::of(headers, header::DATE).unwrap_or(response_time.seconds());
        let (freshness_lifetime, basis) = freshness_lifetime(status, headers, directives, heuristics, date);
        // Without a lifetime of the origin's own there is no lifetime to overstay: a guess, or nothing, gives no leave to
        // serve without the origin.
        let is_forbidden = directives.must_revalidate || directives.proxy_revalidate || directives.no_cache;
        let stale = if is_forbidden || !basis.is_explicit() {
            Stale::Forbidden
        } else if directives.s_maxage.is_some() {
            Stale::OnlyInWindow
        } else {
            Stale::Allowed
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
            stale,
            stale_while_revalidate: directives.stale_while_revalidate.unwrap_or(0),
            stale_if_error: directives.stale_if_error.unwrap_or(0),
        }
    }

    /// RFC 9111 §4.2.3
    pub(crate) fn current_age(&self, now: Timestamp) -> u64 {
        self.initial_age.saturating_add(now.seconds_since(self.response_time))
    }

    pub(crate) fn moment(&self, now: Timestamp) -> Moment {
        let age = self.current_age(now);
        Moment { age, ttl: self.ttl(age) }
    }

    /// What is left of the lifetime; negative once stale.
    pub(crate) fn ttl(&self, age: u64) -> i64 {
        signed(self.freshness_lifetime).saturating_sub(signed(age))
    }
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// RFC 9111 §4.2.1
fn freshness_lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    heuristics: bool,
    date: u64,
) -> (u64, Basis) {
    if let Some(seconds) = directives.s_maxage {
        return (seconds, Basis::SMaxage);
    }
    if let Some(seconds) = directives.max_age {
        return (seconds, Basis::MaxAge);
    }
    if !directives.targeted && headers.contains_key(header::EXPIRES) {
        // RFC 9111 §5.3: an invalid date, `0` above all, is in the past.
        let one_line = headers.get_all(header::EXPIRES).iter().nth(1).is_none();
        let expires = date::of(headers, header::EXPIRES).filter(|_| one_line).unwrap_or(0);
        return (expires.saturating_sub(date), Basis::Expires);
    }
    if heuristics && (directives.public || is_heuristically_cacheable(status)) {
        // RFC 9111 §4.2.2: a tenth of the time since the last change, and at most a day.
        const MOST: u64 = 24 * 60 * 60;
        if let Some(modified) = date::of(headers, header::LAST_MODIFIED) {
            return ((date.saturating_sub(modified) / 10).min(MOST), Basis::Heuristic);
        }
    }
    (0, Basis::Nothing)
}

/// RFC 9110 §15.1, without 206, which is not stored.
pub(crate) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// RFC 9111 §4.2.3
fn corrected_initial_age(headers: &HeaderMap, date: u64, request_time: Timestamp, response_time: Timestamp) -> u64 {
    let apparent_age = response_time.seconds().saturating_sub(date);
    let response_delay = response_time.seconds_since(request_time);
    let corrected_age_value = age_value(headers).saturating_add(response_delay);
    apparent_age.max(corrected_age_value)
}

/// RFC 9111 §5.1: of a list the first member counts; what is not a number is ignored.
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
        let directives = ResponseDirectives::of(headers);
        Freshness::new(StatusCode::from_u16(status).unwrap(), headers, &directives, true, at(NOW), at(NOW))
    }

    fn cc(value: &str) -> (&'static str, String) {
        ("cache-control", value.into())
    }

    #[test]
    fn the_lifetime_is_the_first_of_s_maxage_max_age_and_expires() {
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
            // RFC 9110 §5.3: a field that is no list has one line; two are invalid.
            (vec![("expires", day(900)), ("expires", day(901)), date.clone()], (0, Basis::Expires)),
            // RFC 9213 §2.2
            (vec![("cdn-cache-control", "max-age=7".into()), cc("max-age=60, s-maxage=5")], (7, Basis::MaxAge)),
            (vec![("cdn-cache-control", "public".into()), ("expires", day(900))], (0, Basis::Nothing)),
            (vec![("cdn-cache-control", "max-age=\"7\"".into()), cc("max-age=60")], (0, Basis::MaxAge)),
            (vec![("cdn-cache-control", "&&".into()), cc("max-age=60")], (60, Basis::MaxAge)),
            (vec![], (0, Basis::Nothing)),
        ] {
            let found = freshness(200, &headers(&fields));
            assert_eq!((found.freshness_lifetime, found.basis), expected, "{fields:?}");
        }
    }

    #[test]
    fn without_explicit_freshness_a_tenth_of_the_age_of_the_content_at_most_a_day() {
        // RFC 9111 §4.2.2
        let modified = |ago: i64| headers(&[("last-modified", day(-ago)), ("date", day(0))]);
        assert_eq!(freshness(200, &modified(1000)).freshness_lifetime, 100);
        assert_eq!(freshness(200, &modified(100 * 86_400)).freshness_lifetime, 86_400);
        assert_eq!(freshness(200, &modified(-1000)).freshness_lifetime, 0);
        for status in [201, 202, 302, 307, 403, 500, 502, 503, 504, 599] {
            assert_eq!(freshness(status, &modified(1000)).basis, Basis::Nothing, "{status}");
        }
        let public = headers(&[("last-modified", day(-1000)), ("date", day(0)), cc("public")]);
        assert_eq!(freshness(599, &public).freshness_lifetime, 100);
    }

    #[test]
    fn the_age_of_the_response_counts_its_way_here() {
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
    fn the_time_that_the_request_took_is_part_of_the_age() {
        // RFC 9111 §4.2.3: response_delay
        let headers = headers(&[("age", "30".into())]);
        let directives = ResponseDirectives::default();
        let found = Freshness::new(StatusCode::OK, &headers, &directives, true, at(NOW - 7), at(NOW));
        assert_eq!(found.initial_age, 37);
        assert_eq!(found.current_age(at(NOW + 3)), 40);
        assert_eq!(found.current_age(at(NOW - 100)), 37, "a clock set back does not underflow");
    }

    proptest! {
        // A slow model: seconds counted one by one from the formulas of RFC 9111 §4.2.3.
        #[test]
        fn age_and_ttl_agree_with_the_model(
            max_age in 0_u64..5000, age in 0_u64..5000, date_ago in -2000_i64..2000, delay in 0_u64..50, resident in 0_u64..5000,
        ) {
            let headers = headers(&[
                cc(&format!("max-age={max_age}")), ("age", age.to_string()), ("date", day(-date_ago)),
            ]);
            let directives = ResponseDirectives::of(&headers);
            let found = Freshness::new(StatusCode::OK, &headers, &directives, true, at(NOW - delay), at(NOW));
            let apparent = if date_ago > 0 { date_ago as u64 } else { 0 };
            let initial = if apparent > age + delay { apparent } else { age + delay };
            let current = found.current_age(at(NOW + resident));
            prop_assert_eq!(current, initial + resident);
            prop_assert_eq!(found.ttl(current) > 0, max_age > initial + resident);
        }
    }
}
