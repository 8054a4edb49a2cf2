//! When a stored response may be used: RFC 9111 §4.2, §5.2.1, RFC 5861, RFC 8246.
//!
//! The model never sees a header field: it goes by what was meant, whatever way it was written.

use std::time::{Duration, UNIX_EPOCH};

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use proptest::prelude::*;
use proptest::sample::select;

use crate::cache_control::{RequestDirectives, ResponseDirectives};
use crate::cache_status::Forwarded;
use crate::clock::Timestamp;
use crate::date;
use crate::freshness::Freshness;
use crate::reuse::Reuse;

const NOW: i64 = 1_700_000_000;

/// What a response says, as its author means it. Times are offsets from when it arrived.
#[derive(Clone, Debug)]
struct Said {
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

/// What a request asks for.
#[derive(Clone, Debug)]
struct Asked {
    no_cache: bool,
    max_age: Option<i64>,
    min_fresh: Option<i64>,
    max_stale: Option<Option<i64>>,
}

#[derive(Clone, Copy, Debug)]
enum Number {
    Of(i64),
    Nonsense(&'static str),
}

#[derive(Clone, Copy, Debug)]
enum Instant {
    At(i64),
    Nonsense(&'static str),
}

impl Said {
    /// §4.2.1: the first that applies.
    fn freshness_lifetime(&self) -> i64 {
        // "If the directive's value is invalid, caches are encouraged to consider the response stale."
        let given = |number: Number| match number {
            Number::Of(seconds) => represented(seconds),
            Number::Nonsense(_) => 0,
        };
        if let Some(seconds) = self.s_maxage {
            return given(seconds);
        }
        if let Some(seconds) = self.max_age {
            return given(seconds);
        }
        match self.expires {
            Some(Instant::At(expires)) => return (expires - self.date_value()).max(0),
            // §5.3: "a cache recipient MUST interpret invalid date formats as representing a time in the past".
            Some(Instant::Nonsense(_)) => return 0,
            None => {}
        }
        // §4.2.2
        let may_guess =
            self.public || matches!(self.status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501);
        match self.last_modified {
            Some(modified) if may_guess => ((self.date_value() - modified).max(0) / 10).min(86_400),
            _ => 0,
        }
    }

    /// RFC 9110 §6.6.1: without a date that can be read, the time of arrival.
    fn date_value(&self) -> i64 {
        match self.date {
            Some(Instant::At(date)) => date,
            Some(Instant::Nonsense(_)) | None => 0,
        }
    }

    /// §4.2.3, with its names.
    fn current_age(&self, resident_time: i64) -> i64 {
        let (response_time, request_time) = (0, -self.delay);
        let age_value = match self.age {
            Some(Number::Of(seconds)) => represented(seconds),
            Some(Number::Nonsense(_)) | None => 0,
        };
        let apparent_age = (response_time - self.date_value()).max(0);
        let response_delay = response_time - request_time;
        let corrected_age_value = age_value + response_delay;
        let corrected_initial_age = apparent_age.max(corrected_age_value);
        corrected_initial_age + resident_time
    }

    fn reuse(&self, resident_time: i64, asked: &Asked) -> Reuse {
        let (lifetime, age) = (self.freshness_lifetime(), self.current_age(resident_time));
        let is_fresh = lifetime > age;
        // §5.2.1.1; of zero it is said in `Reuse` why.
        let too_old = |most: i64| age > represented(most) || most == 0;
        if is_fresh && !self.no_cache {
            let refused = [
                asked.no_cache,
                !self.immutable && asked.max_age.is_some_and(too_old),
                // §5.2.1.3
                asked.min_fresh.is_some_and(|least| lifetime - age < represented(least)),
            ];
            return if refused.contains(&true) { Reuse::Not(Forwarded::Request) } else { Reuse::Fresh };
        }
        let staleness = age - lifetime;
        let client_insists = asked.no_cache || asked.min_fresh.is_some();
        let origin_insists = self.no_cache || self.must_revalidate || self.proxy_revalidate;
        if client_insists || origin_insists {
            return Reuse::Not(Forwarded::Stale);
        }
        // A guessed lifetime gives no leave to serve without the origin.
        let has_lifetime = self.s_maxage.is_some() || self.max_age.is_some() || self.expires.is_some();
        if !has_lifetime {
            return Reuse::Not(Forwarded::Stale);
        }
        // RFC 5861 §3
        if asked.max_age.is_none() && self.stale_while_revalidate.is_some_and(|window| staleness < window) {
            return Reuse::WhileRevalidating;
        }
        // §5.2.1.2, §5.2.2.10: `s-maxage` implies `proxy-revalidate`.
        let takes = |bound: Option<i64>| bound.is_none_or(|most| staleness <= represented(most));
        if self.s_maxage.is_none() && asked.max_stale.is_some_and(takes) && !asked.max_age.is_some_and(too_old) {
            return Reuse::Stale;
        }
        Reuse::Not(Forwarded::Stale)
    }
}

/// §1.2.2: what is too large for whoever counts is this.
fn represented(seconds: i64) -> i64 {
    seconds.min(1 << 31)
}

/// How a thing is written, where the RFCs leave a choice.
#[derive(Clone, Copy, Debug)]
struct Hand {
    capitals: bool,
    quotes: bool,
    zeros: bool,
    spaces: bool,
    lines: bool,
    reversed: bool,
    date_form: u8,
}

impl Hand {
    fn word(self, word: &str) -> String {
        if self.capitals { word.to_ascii_uppercase() } else { word.to_owned() }
    }

    fn directive(self, name: &str, value: Number) -> String {
        let text = match value {
            Number::Of(seconds) if self.zeros => format!("00{seconds}"),
            Number::Of(seconds) => seconds.to_string(),
            Number::Nonsense(text) => return format!("{}={text}", self.word(name)),
        };
        match self.quotes {
            true => format!("{}=\"{text}\"", self.word(name)),
            false => format!("{}={text}", self.word(name)),
        }
    }

    /// RFC 9110 §5.6.7
    fn date(self, at: Instant) -> String {
        let offset = match at {
            Instant::At(offset) => offset,
            Instant::Nonsense(text) => return text.to_owned(),
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

    fn response(self, said: &Said) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let age = said.age.map(|age| match age {
            Number::Of(seconds) => seconds.to_string(),
            Number::Nonsense(text) => text.to_owned(),
        });
        for (name, value) in [
            (header::EXPIRES, said.expires.map(|expires| self.date(expires))),
            (header::DATE, said.date.map(|date| self.date(date))),
            (header::LAST_MODIFIED, said.last_modified.map(|modified| self.date(Instant::At(modified)))),
            (header::AGE, age),
        ] {
            headers.extend(value.map(|value| (name, HeaderValue::try_from(value).unwrap())));
        }
        let mut members = vec![self.word("unknown=\"max-age=1, no-store\"")];
        members.extend(said.max_age.map(|number| self.directive("max-age", number)));
        members.extend(said.s_maxage.map(|number| self.directive("s-maxage", number)));
        let window = said.stale_while_revalidate.map(Number::Of);
        members.extend(window.map(|number| self.directive("stale-while-revalidate", number)));
        let words = [
            ("public", said.public),
            ("no-cache", said.no_cache),
            ("must-revalidate", said.must_revalidate),
            ("proxy-revalidate", said.proxy_revalidate),
            ("immutable", said.immutable),
        ];
        members.extend(words.iter().filter(|(_, said)| *said).map(|(word, _)| self.word(word)));
        self.list(&mut headers, members);
        headers
    }

    fn request(self, asked: &Asked) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut members = vec![self.word("nothing-to-see-here")];
        members.extend(asked.no_cache.then(|| self.word("no-cache")));
        members.extend(asked.max_age.map(|seconds| self.directive("max-age", Number::Of(seconds))));
        members.extend(asked.min_fresh.map(|seconds| self.directive("min-fresh", Number::Of(seconds))));
        members.extend(asked.max_stale.map(|bound| match bound {
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
    prop_oneof![9 => seconds().prop_map(Number::Of), 1 => select(&["-1", "x", "1.5", "'9'", "9x"][..]).prop_map(Number::Nonsense)]
}

fn instant() -> impl Strategy<Value = Instant> + Clone {
    const NONSENSE: &[&str] = &["0", "-1", "Thu, 18 Aug 2050 02:01:18 UTC", "Thu, 31 Jun 2050 02:01:18 GMT", "now"];
    prop_oneof![9 => (-300..300_i64).prop_map(Instant::At), 1 => select(NONSENSE).prop_map(Instant::Nonsense)]
}

fn said() -> impl Strategy<Value = Said> {
    let maybe = |weight| prop::bool::weighted(weight);
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
    let words = (maybe(0.2), maybe(0.1), maybe(0.1), maybe(0.1), maybe(0.2));
    (select(&[200, 200, 200, 302, 404, 599][..]), numbers, words).prop_map(|(status, numbers, words)| {
        let (max_age, s_maxage, expires, date, last_modified, age, delay, stale_while_revalidate) = numbers;
        let (public, no_cache, must_revalidate, proxy_revalidate, immutable) = words;
        Said {
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

fn asked() -> impl Strategy<Value = Asked> {
    let number = || prop::option::weighted(0.3, seconds());
    let max_stale = prop::option::weighted(0.4, prop::option::of(seconds()));
    (prop::bool::weighted(0.1), number(), number(), max_stale)
        .prop_map(|(no_cache, max_age, min_fresh, max_stale)| Asked { no_cache, max_age, min_fresh, max_stale })
}

fn hand() -> impl Strategy<Value = Hand> {
    (any::<[bool; 6]>(), 0..3_u8).prop_map(|([capitals, quotes, zeros, spaces, lines, reversed], date_form)| Hand {
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
    fn stored_responses_are_used_when_the_model_would(
        said in said(), asked in asked(), writes in hand(), asks in hand(), resident in 0..300_i64,
    ) {
        let headers = writes.response(&said);
        let directives = ResponseDirectives::of(&headers);
        let status = StatusCode::from_u16(said.status).unwrap();
        let found = Freshness::new(status, &headers, &directives, true, at(-said.delay), at(0));
        prop_assert_eq!(found.freshness_lifetime as i64, said.freshness_lifetime(), "{:?}", headers);
        let now = at(resident);
        prop_assert_eq!(found.current_age(now) as i64, said.current_age(resident), "{:?}", headers);

        let request = asks.request(&asked);
        let reuse = Reuse::of(&found, found.moment(now), &RequestDirectives::of(&request));
        prop_assert_eq!(reuse, said.reuse(resident, &asked), "{:?} {:?}", headers, request);
    }
}
