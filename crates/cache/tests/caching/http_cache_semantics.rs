//! A comparison with the crate `http-cache-semantics`, with the reason for each difference.

use std::time::SystemTime;

use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::harness::*;

/// A stored response and a later request for it.
#[derive(Clone, Debug)]
struct Case {
    status: u16,
    directives: Vec<&'static str>,
    expires: Option<i64>,
    modified_ago: Option<i64>,
    date_ago: i64,
    age: i64,
    varies: bool,
    sets_cookie: bool,
    authorized: bool,
    resident: u64,
    request: &'static str,
    pragma: bool,
    another_variant: bool,
}

const PLAIN: Case = Case {
    status: 200,
    directives: Vec::new(),
    expires: None,
    modified_ago: None,
    date_ago: 0,
    age: 0,
    varies: false,
    sets_cookie: false,
    authorized: false,
    resident: 0,
    request: "",
    pragma: false,
    another_variant: false,
};

/// A known difference: its name, a condition, an example, and whether this cache uses the response.
type Reason = (&'static str, fn(&Case) -> bool, fn() -> Case, bool);

const REASONS: &[Reason] = &[
    (
        "RFC 9111 §4.2.3: Date can show a higher age than Age; the other crate uses Age only",
        |case| case.date_ago > case.age,
        || Case { directives: vec!["max-age=60"], date_ago: 40, resident: 30, ..PLAIN },
        false,
    ),
    (
        "RFC 9111 §4.2.2 suggests a limit for estimates, which is one day here",
        |case| !case.is_explicit() && case.resident >= 86_400,
        || Case { modified_ago: Some(10_000_000), resident: 90_000, ..PLAIN },
        false,
    ),
    (
        "RFC 9111 §5.2.2.8: proxy-revalidate applies to stale responses; the other crate also applies it to fresh ones",
        |case| case.has_directive("proxy-revalidate"),
        || Case { directives: vec!["max-age=60", "proxy-revalidate"], ..PLAIN },
        true,
    ),
    (
        "RFC 8246 §2: immutable applies to fresh responses; the other crate derives a lifetime of a day from it",
        |case| case.has_directive("immutable") && !case.has_lifetime(),
        || Case { directives: vec!["immutable"], ..PLAIN },
        false,
    ),
    (
        "RFC 8246 §2: a reload does not validate an immutable response; the other crate does",
        |case| case.has_directive("immutable") && case.request.starts_with("max-age"),
        || Case { directives: vec!["max-age=60", "immutable"], resident: 30, request: "max-age=20", ..PLAIN },
        true,
    ),
    (
        "a reload sends max-age=0 and expects a new response, not one that is less than a second old",
        |case| case.request == "max-age=0",
        || Case { directives: vec!["max-age=60"], request: "max-age=0", ..PLAIN },
        false,
    ),
    (
        "RFC 9111 §4.2.4: no-cache, s-maxage and proxy-revalidate override max-stale; in the other crate, only must-revalidate does",
        |case| {
            case.request.starts_with("max-stale")
                && ["no-cache", "s-maxage", "proxy"].iter().any(|word| case.has_directive(word))
        },
        || Case { directives: vec!["s-maxage=30"], resident: 40, request: "max-stale", ..PLAIN },
        false,
    ),
    (
        "RFC 9111 §5.2.1.2: max-stale includes its limit; in the other crate, it does not",
        |case| case.request == "max-stale=20",
        || Case { directives: vec!["max-age=60"], resident: 80, request: "max-stale=20", ..PLAIN },
        true,
    ),
    (
        "RFC 9111 §3: a response that is stale on arrival and cannot be validated is not stored",
        |case| case.request.starts_with("max-stale") && case.is_stale_on_arrival(),
        || Case { directives: vec!["max-age=0"], request: "max-stale", ..PLAIN },
        false,
    ),
    (
        "RFC 9111 §7.3: a response with explicit freshness is stored without its cookie; the other crate requires public",
        |case| case.sets_cookie,
        || Case { directives: vec!["max-age=60"], sets_cookie: true, ..PLAIN },
        true,
    ),
    (
        "RFC 9111 §3: any final status can be stored with explicit freshness; the other crate has a list",
        |case| matches!(case.status, 500 | 599),
        || Case { status: 599, directives: vec!["max-age=60"], ..PLAIN },
        true,
    ),
    (
        "RFC 9111 §5.4: Pragma only counts without Cache-Control; the other crate always honours it",
        |case| case.pragma && !case.request.is_empty(),
        || Case { directives: vec!["max-age=60"], pragma: true, request: "min-fresh=20", ..PLAIN },
        true,
    ),
    (
        "no lifetime is estimated for a request with credentials; the other crate does so beside must-revalidate",
        |case| case.authorized && !case.is_explicit(),
        || Case { directives: vec!["must-revalidate"], modified_ago: Some(1000), authorized: true, ..PLAIN },
        false,
    ),
    (
        "an estimated lifetime permits no stale use; in the other crate, max-stale applies to any lifetime",
        |case| case.request.starts_with("max-stale") && !case.is_explicit(),
        || Case { modified_ago: Some(1000), resident: 110, request: "max-stale", ..PLAIN },
        false,
    ),
    (
        "RFC 9111 §5.2.1.5: a request with no-store bypasses the cache; the other crate only does not store its response",
        |case| case.request == "no-store",
        || Case { directives: vec!["max-age=60"], request: "no-store", ..PLAIN },
        false,
    ),
];

impl Case {
    fn has_directive(&self, word: &str) -> bool {
        self.directives.iter().any(|directive| directive.starts_with(word))
    }

    fn has_lifetime(&self) -> bool {
        self.has_directive("max-age") || self.has_directive("s-maxage")
    }

    fn is_explicit(&self) -> bool {
        self.has_lifetime() || self.expires.is_some()
    }

    fn is_stale_on_arrival(&self) -> bool {
        let seconds = |name: &str| {
            let argument = self.directives.iter().find_map(|directive| directive.strip_prefix(name)?.strip_prefix('='));
            argument.map(|number| number.parse::<i64>().unwrap())
        };
        let expires = || self.expires.map(|expires| expires + self.date_ago);
        let guess = || self.modified_ago.map(|modified| (modified - self.date_ago) / 10);
        let lifetime = seconds("s-maxage").or_else(|| seconds("max-age")).or_else(expires).or_else(guess).unwrap_or(0);
        lifetime <= self.age.max(self.date_ago)
    }

    fn response(&self) -> Vec<(&'static str, String)> {
        let date = |offset: i64| {
            let time = UNIX_EPOCH + Duration::from_secs(START.checked_add_signed(offset).unwrap());
            httpdate::fmt_http_date(time)
        };
        let mut fields = vec![("date", date(-self.date_ago)), ("age", self.age.to_string())];
        if !self.directives.is_empty() {
            fields.push(("cache-control", self.directives.join(", ")));
        }
        fields.extend(self.expires.map(|expires| ("expires", date(expires))));
        fields.extend(self.modified_ago.map(|ago| ("last-modified", date(-ago))));
        fields.extend(self.varies.then(|| ("vary", "foo".to_owned())));
        fields.extend(self.sets_cookie.then(|| ("set-cookie", "a=b".to_owned())));
        fields
    }

    fn requests(&self) -> [Vec<(&'static str, &'static str)>; 2] {
        let mut first = vec![("foo", "1")];
        first.extend(self.authorized.then_some(("authorization", "Basic eDp5")));
        let mut second = vec![("foo", if self.another_variant { "2" } else { "1" })];
        second.extend((!self.request.is_empty()).then_some(("cache-control", self.request)));
        second.extend(self.pragma.then_some(("pragma", "no-cache")));
        [first, second]
    }

    /// Whether this cache serves the second request with the response to the first request.
    async fn ours(&self) -> bool {
        let harness = Harness::with(|layer| layer.heuristic_freshness(true).request_directives(true));
        let response = self.response();
        let fields: Vec<_> = response.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let [first, second] = self.requests();
        harness.respond(self.status, &fields, "stored");
        harness.get(&first).await;
        harness.advance(self.resident);
        harness.respond(200, &[("cache-control", "no-store")], "new");
        harness.get(&second).await.body == "stored"
    }

    fn theirs(&self) -> bool {
        let at = |seconds: u64| -> SystemTime { UNIX_EPOCH + Duration::from_secs(seconds) };
        let [first, second] = self.requests().map(|fields| {
            let mut request = Request::get("http://example.org/a").body(()).unwrap();
            *request.headers_mut() = map(&fields);
            request
        });
        let response = self.response();
        let fields: Vec<_> = response.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap();
        *response.headers_mut() = map(&fields);
        let policy = CachePolicy::new_options(&first, &response, at(START), CacheOptions::default());
        let before = policy.before_request(&second, at(START + self.resident));
        policy.is_storable() && matches!(before, BeforeRequest::Fresh(_))
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let max_age = select(&[None, Some("max-age=0"), Some("max-age=60")][..]);
    let s_maxage = select(&[None, None, Some("s-maxage=30"), Some("s-maxage=90")][..]);
    const WORDS: &[&str] =
        &["public", "no-cache", "must-revalidate", "proxy-revalidate", "immutable", "no-store", "private"];
    let directives = (max_age, s_maxage, subsequence(WORDS, 0..3))
        .prop_map(|(max_age, s_maxage, words)| max_age.into_iter().chain(s_maxage).chain(words).collect::<Vec<_>>());
    let response = (
        select(&[200, 200, 200, 302, 404, 500, 599][..]),
        directives,
        select(&[None, None, Some(-10), Some(0), Some(30), Some(90)][..]),
        select(&[None, Some(100), Some(1000), Some(10_000_000)][..]),
        select(&[0, 0, 40][..]),
        select(&[0, 0, 20, 100][..]),
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    );
    const DIRECTIVES: &[&str] =
        &["", "", "", "no-cache", "max-age=0", "max-age=20", "min-fresh=20", "max-stale", "max-stale=20", "no-store"];
    let request = (
        select(&[0, 10, 29, 30, 59, 60, 80, 100, 90_000][..]),
        select(DIRECTIVES),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
    );
    (response, request).prop_map(|(response, (resident, request, pragma, another_variant))| {
        let (status, directives, expires, modified_ago, date_ago, age, varies, sets_cookie, authorized) = response;
        Case {
            status,
            directives,
            expires,
            modified_ago,
            date_ago,
            age,
            varies,
            sets_cookie,
            authorized,
            resident,
            request,
            pragma,
            another_variant,
        }
    })
}

#[tokio::test]
async fn each_known_difference_from_http_cache_semantics_has_an_example() {
    for (reason, applies, example, ours) in REASONS {
        let case = example();
        assert!(applies(&case), "{reason}: {case:?}");
        assert_eq!((case.ours().await, case.theirs()), (*ours, !*ours), "{reason}: {case:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]
    #[test]
    fn differs_from_http_cache_semantics_only_for_known_reasons(case in cases()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (ours, theirs) = (runtime.block_on(case.ours()), case.theirs());
        let has_reason = REASONS.iter().any(|(_, applies, ..)| applies(&case));
        prop_assert!(ours == theirs || has_reason, "this crate: {}, other crate: {}", ours, theirs);
    }
}
