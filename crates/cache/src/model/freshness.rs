//! A reference model of freshness and reuse (RFC 9111 §4.2 and §5.2.1, RFC 5861, RFC 8246).
//!
//! The model works on values. Their spelling in header fields varies.

use std::time::{Duration, UNIX_EPOCH};

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use proptest::prelude::*;
use proptest::sample::select;

use crate::cache_status::ForwardReason;
use crate::clock::Timestamp;
use crate::policy::date;
use crate::policy::freshness::Freshness;
use crate::policy::request_directives::RequestDirectives;
use crate::policy::response_directives::ResponseDirectives;
use crate::policy::reuse::Reuse;

const NOW: i64 = 1_700_000_000;

/// The header fields of a response that affect caching. Times are relative to its arrival.
#[derive(Clone, Debug)]
struct ResponseFields {
    status: u16,
    max_age: Option<Number>,
    s_maxage: Option<Number>,
    expires: Option<Instant>,
    date: Option<Instant>,
    last_modified: Option<i64>,
    age: Option<Number>,
    delay: i64,
    stale_while_revalidate: Option<i64>,
    public: bool,
    no_cache: bool,
    must_revalidate: bool,
    proxy_revalidate: bool,
    immutable: bool,
}

/// The cache directives of a modelled request.
#[derive(Clone, Debug)]
struct RequestFields {
    no_cache: bool,
    max_age: Option<i64>,
    min_fresh: Option<i64>,
    max_stale: Option<Option<i64>>,
}

#[derive(Clone, Copy, Debug)]
enum Number {
    Of(i64),
    Invalid(&'static str),
}

#[derive(Clone, Copy, Debug)]
enum Instant {
    At(i64),
    Invalid(&'static str),
}

impl ResponseFields {
    /// Returns the freshness lifetime (RFC 9111 §4.2.1).
    fn freshness_lifetime(&self) -> i64 {
        // "If the directive's value is invalid, caches are encouraged to consider the response stale."
        let seconds_of = |number: Number| match number {
            Number::Of(seconds) => represented(seconds),
            Number::Invalid(_) => 0,
        };
        if let Some(seconds) = self.s_maxage {
            return seconds_of(seconds);
        }
        if let Some(seconds) = self.max_age {
            return seconds_of(seconds);
        }
        match self.expires {
            Some(Instant::At(expires)) => return (expires - self.date_value()).max(0),
            // §5.3: "a cache recipient MUST interpret invalid date formats as representing a time in the past".
            Some(Instant::Invalid(_)) => return 0,
            None => {}
        }
        // §4.2.2
        let allows_heuristic =
            self.public || matches!(self.status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501);
        match self.last_modified {
            Some(modified) if allows_heuristic => ((self.date_value() - modified).max(0) / 10).min(86_400),
            _ => 0,
        }
    }

    /// Returns the `Date` value, or the time of arrival if `Date` is missing or invalid (RFC 9110 §6.6.1).
    fn date_value(&self) -> i64 {
        match self.date {
            Some(Instant::At(date)) => date,
            Some(Instant::Invalid(_)) | None => 0,
        }
    }

    /// Returns the current age, calculated with the variables of RFC 9111 §4.2.3.
    fn current_age(&self, resident_time: i64) -> i64 {
        let (response_time, request_time) = (0, -self.delay);
        let age_value = match self.age {
            Some(Number::Of(seconds)) => represented(seconds),
            Some(Number::Invalid(_)) | None => 0,
        };
        let apparent_age = (response_time - self.date_value()).max(0);
        let response_delay = response_time - request_time;
        let corrected_age_value = age_value + response_delay;
        let corrected_initial_age = apparent_age.max(corrected_age_value);
        corrected_initial_age + resident_time
    }

    fn reuse(&self, resident_time: i64, request: &RequestFields) -> Reuse {
        let (lifetime, age) = (self.freshness_lifetime(), self.current_age(resident_time));
        let is_fresh = lifetime > age;
        // §5.2.1.1. For zero, see `Reuse`.
        let is_too_old = |limit: i64| age > represented(limit) || limit == 0;
        if is_fresh && !self.no_cache {
            let rejections = [
                request.no_cache,
                !self.immutable && request.max_age.is_some_and(is_too_old),
                // §5.2.1.3
                request.min_fresh.is_some_and(|minimum| lifetime - age < represented(minimum)),
            ];
            return if rejections.contains(&true) { Reuse::Forward(ForwardReason::Request) } else { Reuse::Fresh };
        }
        let staleness = age - lifetime;
        let is_demanded_by_client = request.no_cache || request.min_fresh.is_some();
        let is_demanded_by_origin = self.no_cache || self.must_revalidate || self.proxy_revalidate;
        if is_demanded_by_client || is_demanded_by_origin {
            return Reuse::Forward(ForwardReason::Stale);
        }
        // Stale use needs an explicit lifetime.
        let has_lifetime = self.s_maxage.is_some() || self.max_age.is_some() || self.expires.is_some();
        if !has_lifetime {
            return Reuse::Forward(ForwardReason::Stale);
        }
        // RFC 5861 §3
        if request.max_age.is_none() && self.stale_while_revalidate.is_some_and(|window| staleness < window) {
            return Reuse::WhileRevalidating;
        }
        // §5.2.1.2, §5.2.2.10: `s-maxage` implies `proxy-revalidate`.
        let accepts = |bound: Option<i64>| bound.is_none_or(|limit| staleness <= represented(limit));
        if self.s_maxage.is_none() && request.max_stale.is_some_and(accepts) && !request.max_age.is_some_and(is_too_old)
        {
            return Reuse::Stale;
        }
        Reuse::Forward(ForwardReason::Stale)
    }
}

/// Limits a number of seconds to the maximum of RFC 9111 §1.2.2.
fn represented(seconds: i64) -> i64 {
    seconds.min(1 << 31)
}

/// One of the equivalent spellings of directives and dates that the RFCs allow.
#[derive(Clone, Copy, Debug)]
struct Spelling {
    capitals: bool,
    quotes: bool,
    zeros: bool,
    spaces: bool,
    lines: bool,
    reversed: bool,
    date_form: u8,
}

impl Spelling {
    fn word(self, word: &str) -> String {
        if self.capitals { word.to_ascii_uppercase() } else { word.to_owned() }
    }

    fn directive(self, name: &str, value: Number) -> String {
        let text = match value {
            Number::Of(seconds) if self.zeros => format!("00{seconds}"),
            Number::Of(seconds) => seconds.to_string(),
            Number::Invalid(text) => return format!("{}={text}", self.word(name)),
        };
        match self.quotes {
            true => format!("{}=\"{text}\"", self.word(name)),
            false => format!("{}={text}", self.word(name)),
        }
    }

    /// Formats a date in one of the three formats of RFC 9110 §5.6.7.
    fn date(self, at: Instant) -> String {
        let offset = match at {
            Instant::At(offset) => offset,
            Instant::Invalid(text) => return text.to_owned(),
        };
        let text = date::value((NOW + offset) as u64).unwrap();
        let text = text.to_str().unwrap();
        let (day, rest) = text.split_once(", ").unwrap();
        let parts: Vec<&str> = rest.split(' ').collect();
        match self.date_form {
            0 => format!("{day} {} {:>2} {} {}", parts[1], parts[0].trim_start_matches('0'), parts[3], parts[2]),
            1 => text.to_ascii_lowercase(),
            _ => text.to_owned(),
        }
    }

    fn list(self, headers: &mut HeaderMap, mut members: Vec<String>) {
        if self.reversed {
            members.reverse();
        }
        let separator = if self.spaces { " ,\t, " } else { "," };
        let lines = if self.lines { members } else { vec![members.join(separator)] };
        for line in lines.iter().filter(|line| !line.is_empty()) {
            headers.append(header::CACHE_CONTROL, HeaderValue::from_str(line).unwrap());
        }
    }

    fn response(self, fields: &ResponseFields) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let age = fields.age.map(|age| match age {
            Number::Of(seconds) => seconds.to_string(),
            Number::Invalid(text) => text.to_owned(),
        });
        for (name, value) in [
            (header::EXPIRES, fields.expires.map(|expires| self.date(expires))),
            (header::DATE, fields.date.map(|date| self.date(date))),
            (header::LAST_MODIFIED, fields.last_modified.map(|modified| self.date(Instant::At(modified)))),
            (header::AGE, age),
        ] {
            headers.extend(value.map(|value| (name, HeaderValue::try_from(value).unwrap())));
        }
        let mut members = vec![self.word("unknown=\"max-age=1, no-store\"")];
        members.extend(fields.max_age.map(|number| self.directive("max-age", number)));
        members.extend(fields.s_maxage.map(|number| self.directive("s-maxage", number)));
        let window = fields.stale_while_revalidate.map(Number::Of);
        members.extend(window.map(|number| self.directive("stale-while-revalidate", number)));
        let words = [
            ("public", fields.public),
            ("no-cache", fields.no_cache),
            ("must-revalidate", fields.must_revalidate),
            ("proxy-revalidate", fields.proxy_revalidate),
            ("immutable", fields.immutable),
        ];
        members.extend(words.iter().filter(|(_, is_set)| *is_set).map(|(word, _)| self.word(word)));
        self.list(&mut headers, members);
        headers
    }

    fn request(self, request: &RequestFields) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut members = vec![self.word("unknown")];
        members.extend(request.no_cache.then(|| self.word("no-cache")));
        members.extend(request.max_age.map(|seconds| self.directive("max-age", Number::Of(seconds))));
        members.extend(request.min_fresh.map(|seconds| self.directive("min-fresh", Number::Of(seconds))));
        members.extend(request.max_stale.map(|bound| match bound {
            Some(seconds) => self.directive("max-stale", Number::Of(seconds)),
            None => self.word("max-stale"),
        }));
        self.list(&mut headers, members);
        headers
    }
}

fn seconds() -> impl Strategy<Value = i64> + Clone {
    prop_oneof![0..10_i64, 0..300_i64, Just(1 << 31), Just(99_999_999_999)]
}

fn number() -> impl Strategy<Value = Number> + Clone {
    prop_oneof![9 => seconds().prop_map(Number::Of), 1 => select(&["-1", "x", "1.5", "'9'", "9x"][..]).prop_map(Number::Invalid)]
}

fn instant() -> impl Strategy<Value = Instant> + Clone {
    const INVALID: &[&str] = &["0", "-1", "Thu, 18 Aug 2050 02:01:18 UTC", "Thu, 31 Jun 2050 02:01:18 GMT", "now"];
    prop_oneof![9 => (-300..300_i64).prop_map(Instant::At), 1 => select(INVALID).prop_map(Instant::Invalid)]
}

fn response_fields() -> impl Strategy<Value = ResponseFields> {
    let flag = |weight| prop::bool::weighted(weight);
    let numbers = (
        prop::option::of(number()),
        prop::option::weighted(0.3, number()),
        prop::option::of(instant()),
        prop::option::of(instant()),
        prop::option::of(-3000..100_i64),
        prop::option::weighted(0.3, number()),
        0..5_i64,
        prop::option::weighted(0.3, 0..300_i64),
    );
    let words = (flag(0.2), flag(0.1), flag(0.1), flag(0.1), flag(0.2));
    (select(&[200, 200, 200, 302, 404, 599][..]), numbers, words).prop_map(|(status, numbers, words)| {
        let (max_age, s_maxage, expires, date, last_modified, age, delay, stale_while_revalidate) = numbers;
        let (public, no_cache, must_revalidate, proxy_revalidate, immutable) = words;
        ResponseFields {
            status,
            max_age,
            s_maxage,
            expires,
            date,
            last_modified,
            age,
            delay,
            stale_while_revalidate,
            public,
            no_cache,
            must_revalidate,
            proxy_revalidate,
            immutable,
        }
    })
}

fn request_fields() -> impl Strategy<Value = RequestFields> {
    let seconds_or_none = || prop::option::weighted(0.3, seconds());
    let max_stale = prop::option::weighted(0.4, prop::option::of(seconds()));
    (prop::bool::weighted(0.1), seconds_or_none(), seconds_or_none(), max_stale)
        .prop_map(|(no_cache, max_age, min_fresh, max_stale)| RequestFields { no_cache, max_age, min_fresh, max_stale })
}

fn spelling() -> impl Strategy<Value = Spelling> {
    (any::<[bool; 6]>(), 0..3_u8).prop_map(|([capitals, quotes, zeros, spaces, lines, reversed], date_form)| Spelling {
        capitals,
        quotes,
        zeros,
        spaces,
        lines,
        reversed,
        date_form,
    })
}

fn at(offset: i64) -> Timestamp {
    (UNIX_EPOCH + Duration::from_secs((NOW + offset) as u64)).into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    #[test]
    fn reuse_decision_agrees_with_the_rfc_9111_model(
        fields in response_fields(), demands in request_fields(), response_spelling in spelling(), request_spelling in spelling(), resident in 0..300_i64,
    ) {
        let headers = response_spelling.response(&fields);
        let directives = ResponseDirectives::from_headers(&headers);
        let status = StatusCode::from_u16(fields.status).unwrap();
        let freshness = Freshness::new(status, &headers, &directives, true, at(-fields.delay), at(0));
        prop_assert_eq!(freshness.freshness_lifetime as i64, fields.freshness_lifetime(), "{:?}", headers);
        let now = at(resident);
        prop_assert_eq!(freshness.current_age(now) as i64, fields.current_age(resident), "{:?}", headers);

        let request = request_spelling.request(&demands);
        let reuse = Reuse::decide(&freshness, freshness.at(now), &RequestDirectives::from_headers(&request));
        prop_assert_eq!(reuse, fields.reuse(resident, &demands), "{:?} {:?}", headers, request);
    }
}
