//! What another implementation of the same rules says, `http-cache-semantics`, and why it differs where it does.

use std::time::SystemTime;

use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::world::*;

/// A response that is stored, and a request for it some time later.
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
    asked: &'static str,
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
    asked: "",
    pragma: false,
    another_variant: false,
};

/// Why the two may differ, where that applies, a case in which they do, and whether ours uses what is stored there.
type Reason = (&'static str, fn(&Case) -> bool, fn() -> Case, bool);

const REASONS: &[Reason] = &[
    (
        "RFC 9111 §4.2.3: by the Date a response may be older than its Age says; they go by the Age alone",
        |case| case.date_ago > case.age,
        || Case { directives: vec!["max-age=60"], date_ago: 40, resident: 30, ..PLAIN },
        false,
    ),
    (
        "RFC 9111 §4.2.2 suggests a bound for guesses: ours is a day",
        |case| !case.is_explicit() && case.resident >= 86_400,
        || Case { modified_ago: Some(10_000_000), resident: 90_000, ..PLAIN },
        false,
    ),
    (
        "RFC 9111 §5.2.2.8: proxy-revalidate is about stale responses; they use no others, either",
        |case| case.says("proxy-revalidate"),
        || Case { directives: vec!["max-age=60", "proxy-revalidate"], ..PLAIN },
        true,
    ),
    (
        "RFC 8246 §2: immutable is about responses that are fresh; they make a day of it",
        |case| case.says("immutable") && !case.has_lifetime(),
        || Case { directives: vec!["immutable"], ..PLAIN },
        false,
    ),
    (
        "RFC 8246 §2: a reload is no reason to validate what is immutable; they do",
        |case| case.says("immutable") && case.asked.starts_with("max-age"),
        || Case { directives: vec!["max-age=60", "immutable"], resident: 30, asked: "max-age=20", ..PLAIN },
        true,
    ),
    (
        "a reload asks for max-age=0, and means what is new, not what is less than a second old",
        |case| case.asked == "max-age=0",
        || Case { directives: vec!["max-age=60"], asked: "max-age=0", ..PLAIN },
        false,
    ),
    (
        "RFC 9111 §4.2.4: no-cache, s-maxage and proxy-revalidate forbid what max-stale allows; to them only must-revalidate does",
        |case| {
            case.asked.starts_with("max-stale") && ["no-cache", "s-maxage", "proxy"].iter().any(|word| case.says(word))
        },
        || Case { directives: vec!["s-maxage=30"], resident: 40, asked: "max-stale", ..PLAIN },
        false,
    ),
    (
        "RFC 9111 §5.2.1.2: so many seconds and no more; to them it is less than that",
        |case| case.asked == "max-stale=20",
        || Case { directives: vec!["max-age=60"], resident: 80, asked: "max-stale=20", ..PLAIN },
        true,
    ),
    (
        "RFC 9111 §3: what is stale from the start and can't be validated is not worth storing",
        |case| case.asked.starts_with("max-stale") && case.is_stale_at_birth(),
        || Case { directives: vec!["max-age=0"], asked: "max-stale", ..PLAIN },
        false,
    ),
    (
        "RFC 9111 §7.3: with explicit freshness a response is stored without its cookie; they want public",
        |case| case.sets_cookie,
        || Case { directives: vec!["max-age=60"], sets_cookie: true, ..PLAIN },
        true,
    ),
    (
        "RFC 9111 §3: any final status may be stored with explicit freshness; they have a list",
        |case| matches!(case.status, 500 | 599),
        || Case { status: 599, directives: vec!["max-age=60"], ..PLAIN },
        true,
    ),
    (
        "RFC 9111 §5.4: Pragma counts only where there is no Cache-Control; they always heed it",
        |case| case.pragma && !case.asked.is_empty(),
        || Case { directives: vec!["max-age=60"], pragma: true, asked: "min-fresh=20", ..PLAIN },
        true,
    ),
    (
        "a lifetime is not guessed for a request with credentials; they do so beside must-revalidate",
        |case| case.authorized && !case.is_explicit(),
        || Case { directives: vec!["must-revalidate"], modified_ago: Some(1000), authorized: true, ..PLAIN },
        false,
    ),
    (
        "a guessed lifetime gives no leave to serve without the origin; to them max-stale is about any lifetime",
        |case| case.asked.starts_with("max-stale") && !case.is_explicit(),
        || Case { modified_ago: Some(1000), resident: 110, asked: "max-stale", ..PLAIN },
        false,
    ),
    (
        "RFC 9111 §5.2.1.5: a request with no-store passes by; they only store nothing of it",
        |case| case.asked == "no-store",
        || Case { directives: vec!["max-age=60"], asked: "no-store", ..PLAIN },
        false,
    ),
];

impl Case {
    fn says(&self, word: &str) -> bool {
        self.directives.iter().any(|directive| directive.starts_with(word))
    }

    fn has_lifetime(&self) -> bool {
        self.says("max-age") || self.says("s-maxage")
    }

    fn is_explicit(&self) -> bool {
        self.has_lifetime() || self.expires.is_some()
    }

    fn is_stale_at_birth(&self) -> bool {
        let number = |name: &str| {
            let given = self.directives.iter().find_map(|directive| directive.strip_prefix(name)?.strip_prefix('='));
            given.map(|number| number.parse::<i64>().unwrap())
        };
        let expires = || self.expires.map(|expires| expires + self.date_ago);
        let guess = || self.modified_ago.map(|modified| (modified - self.date_ago) / 10);
        let lifetime = number("s-maxage").or_else(|| number("max-age")).or_else(expires).or_else(guess).unwrap_or(0);
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
        second.extend((!self.asked.is_empty()).then_some(("cache-control", self.asked)));
        second.extend(self.pragma.then_some(("pragma", "no-cache")));
        [first, second]
    }

    /// Whether the second request is answered by what was stored for the first.
    async fn ours(&self) -> bool {
        let world = World::with(|layer| layer.heuristic_freshness(true).request_directives(true));
        let response = self.response();
        let fields: Vec<_> = response.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let [first, second] = self.requests();
        world.answer(self.status, &fields, "stored");
        world.get(&first).await;
        world.wait(self.resident);
        world.answer(200, &[("cache-control", "no-store")], "new");
        world.get(&second).await.body == "stored"
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
    const ASKED: &[&str] =
        &["", "", "", "no-cache", "max-age=0", "max-age=20", "min-fresh=20", "max-stale", "max-stale=20", "no-store"];
    let request = (
        select(&[0, 10, 29, 30, 59, 60, 80, 100, 90_000][..]),
        select(ASKED),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
    );
    (response, request).prop_map(|(response, (resident, asked, pragma, another_variant))| {
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
            asked,
            pragma,
            another_variant,
        }
    })
}

#[tokio::test]
async fn the_reasons_are_real() {
    for (reason, applies, example, ours) in REASONS {
        let case = example();
        assert!(applies(&case), "{reason}: {case:?}");
        assert_eq!((case.ours().await, case.theirs()), (*ours, !*ours), "{reason}: {case:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]
    #[test]
    fn whatever_differs_does_so_for_a_reason(case in cases()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (ours, theirs) = (runtime.block_on(case.ours()), case.theirs());
        let has_reason = REASONS.iter().any(|(_, applies, ..)| applies(&case));
        prop_assert!(ours == theirs || has_reason, "ours {}, theirs {}", ours, theirs);
    }
}
