//! Which of several stored responses a request gets: `Vary`, RFC 9111 §4.1.
//!
//! The model compares what fields mean: a list as a list, preferences as a set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::clock::Timestamp;
use crate::date;
use crate::resource::Resource;
use crate::set_cookie::SetCookie;
use crate::stored::StoredResponse;
use crate::storing::{Request, Terms};
use crate::tags::TagKey;

const NOW: u64 = 1_700_000_000;

/// What a field of a request means. `None`: it is not there.
type Meant = BTreeMap<&'static str, Meaning>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Meaning {
    /// Codings or languages, each with its quality in thousandths: RFC 9110 §12.4.2.
    Preferences(BTreeSet<(&'static str, u16)>),
    /// Of whatever it is a list, the order may count.
    List(Vec<&'static str>),
}

/// A request as it is meant, and as it is written.
#[derive(Clone, Debug)]
struct Written {
    meant: Meant,
    headers: HeaderMap,
}

/// A stored response: what it varies by, what it was asked with, and how old it is.
#[derive(Clone, Debug)]
struct Stored {
    varies_by: Vec<&'static str>,
    request: Written,
    date_ago: u64,
}

impl Stored {
    /// §4.1: "the selecting header field values match when they are the same, or can be transformed into each other by
    /// normalising".
    fn matches(&self, request: &Meant) -> bool {
        self.varies_by.iter().all(|name| self.request.meant.get(name) == request.get(name))
    }

    /// Whether the two were selected by the same, so that the later takes the place of the earlier.
    fn is_replaced_by(&self, later: &Stored) -> bool {
        let names = |stored: &Stored| stored.varies_by.iter().copied().collect::<BTreeSet<_>>();
        names(self) == names(later) && later.matches(&self.request.meant)
    }

    fn response(&self, body: usize) -> Arc<StoredResponse> {
        let mut headers = HeaderMap::from_iter([
            (header::CACHE_CONTROL, HeaderValue::from_static("max-age=600")),
            (header::DATE, date::value(NOW - self.date_ago).unwrap()),
        ]);
        for name in &self.varies_by {
            headers.append(header::VARY, HeaderValue::from_static(name));
        }
        let now = Timestamp::from(UNIX_EPOCH + Duration::from_secs(NOW));
        let request = Request {
            origin: "http://a.example",
            path: "/",
            tagged: 0,
            tag_key: TagKey::new([0; 16]),
            headers: &self.request.headers,
            request_time: now,
            set_cookie: SetCookie::Strip,
            heuristic: false,
        };
        let terms = Terms::for_response(request, StatusCode::OK, &headers, now).unwrap();
        Arc::new(StoredResponse::new(StatusCode::OK, &headers, terms).with_body(Bytes::from(body.to_string())))
    }
}

/// The newest by `Date` of those that match, and of those the last that came.
fn selected(stored: &[Stored], request: &Meant) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (at, candidate) in stored.iter().enumerate() {
        let replaced = stored[at + 1..].iter().any(|later| candidate.is_replaced_by(later));
        if replaced || !candidate.matches(request) {
            continue;
        }
        if best.is_none_or(|best| candidate.date_ago <= stored[best].date_ago) {
            best = Some(at);
        }
    }
    best
}

const CODINGS: &[&str] = &["gzip", "br", "zstd", "identity", "*"];
const LANGUAGES: &[&str] = &["en", "de", "de-at"];
const WORDS: &[&str] = &["a", "b", "\"a, b\"", "\"a,b\"", "A"];

fn preferences(names: &'static [&'static str]) -> impl Strategy<Value = (Meaning, Vec<String>)> {
    let spelt = (any::<bool>(), 0..3_u8, any::<bool>());
    let members =
        (subsequence(names, 0..=names.len()), prop::collection::vec((select(&[1000_u16, 500, 0][..]), spelt), 5));
    members.prop_flat_map(|(names, rest)| {
        let meant = names.iter().zip(&rest).map(|(name, (quality, _))| (*name, *quality)).collect();
        let written = names.iter().zip(&rest).map(|(name, (quality, (capitals, zeros, spaces)))| {
            let name = if *capitals { name.to_ascii_uppercase() } else { (*name).to_owned() };
            let quality = match (quality, zeros) {
                (1000, 0) => return name,
                (1000, 1) => "1",
                (1000, _) => "1.000",
                (500, 0) => "0.5",
                (500, _) => "0.500",
                (_, 0) => "0",
                (_, _) => "0.0",
            };
            if *spaces { format!("{name} ; q={quality}") } else { format!("{name};q={quality}") }
        });
        let written: Vec<String> = written.collect();
        (Just(Meaning::Preferences(meant)), Just(written).prop_shuffle())
    })
}

fn words() -> impl Strategy<Value = (Meaning, Vec<String>)> {
    prop::collection::vec(select(WORDS), 0..3)
        .prop_map(|words| (Meaning::List(words.clone()), words.into_iter().map(str::to_owned).collect()))
}

fn request() -> impl Strategy<Value = Written> {
    let fields = (
        prop::option::of(preferences(CODINGS)),
        prop::option::of(preferences(LANGUAGES)),
        prop::option::of(words()),
        prop::option::of(words()),
    );
    (fields, any::<bool>(), any::<bool>()).prop_map(|((codings, languages, foo, bar), lines, spaces)| {
        let (mut meant, mut headers) = (Meant::new(), HeaderMap::new());
        let fields = [("accept-encoding", codings), ("accept-language", languages), ("foo", foo), ("bar", bar)];
        for (name, field) in fields {
            let Some((mut meaning, members)) = field else { continue };
            // RFC 9110 §12.5.3: an empty list wants no coding.
            if name == "accept-encoding" && members.is_empty() {
                meaning = Meaning::Preferences(BTreeSet::from([("identity", 1000)]));
            }
            let separator = if spaces { " ,\t" } else { "," };
            let lines = if lines && !members.is_empty() { members } else { vec![members.join(separator)] };
            for line in lines {
                headers.append(HeaderName::from_static(name), HeaderValue::try_from(line).unwrap());
            }
            meant.insert(name, meaning);
        }
        Written { meant, headers }
    })
}

fn stored() -> impl Strategy<Value = Stored> {
    const NAMES: &[&str] = &["accept-encoding", "accept-language", "foo", "bar", "absent"];
    (subsequence(NAMES, 0..3), request(), 0..3_u64).prop_map(|(varies_by, request, date_ago)| Stored {
        varies_by,
        request,
        date_ago,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]
    #[test]
    fn the_stored_response_is_selected_that_the_model_would(
        stored in prop::collection::vec(stored(), 1..6), other in request(), again in any::<prop::sample::Index>(), asks_again in any::<bool>(),
    ) {
        // Half of the requests mean what one of the first did, or nothing would ever match.
        let request = if asks_again { stored[again.index(stored.len())].request.clone() } else { other };
        let resource = stored.iter().enumerate().fold(None, |present: Option<Resource>, (at, stored)| {
            Some(Resource::with(present.as_ref(), stored.response(at)))
        });
        let found = resource.and_then(|resource| resource.select(&request.headers));
        let found = found.map(|response| std::str::from_utf8(response.body()).unwrap().parse::<usize>().unwrap());
        prop_assert_eq!(found, selected(&stored, &request.meant), "{:?}", request.headers);
    }

    #[test]
    fn what_means_the_same_is_selected_however_it_is_written(a in request(), b in request()) {
        let of = |request: &Written| Stored {
            varies_by: vec!["accept-encoding", "accept-language", "foo", "bar"], request: request.clone(), date_ago: 0,
        };
        let resource = Resource::with(None, of(&a).response(0));
        prop_assert_eq!(resource.select(&b.headers).is_some(), a.meant == b.meant, "{:?} {:?}", a.headers, b.headers);
    }
}
