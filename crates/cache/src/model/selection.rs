//! A reference model of the selection of stored responses by `Vary` (RFC 9111 §4.1).
//!
//! The model compares the meaning of fields: lists as lists, and preferences as sets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::clock::Timestamp;
use crate::policy::date;
use crate::policy::storability::{StorageRequest, StorageTerms};
use crate::policy::tags::TagKey;
use crate::set_cookie::SetCookiePolicy;
use crate::store::resource::Resource;
use crate::store::stored_response::StoredResponse;

const NOW: u64 = 1_700_000_000;

/// The parsed value of each request field, by field name.
type Meanings = BTreeMap<&'static str, Meaning>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Meaning {
    /// Content codings or languages, each with a quality value in thousandths (RFC 9110 §12.4.2).
    Preferences(BTreeSet<(&'static str, u16)>),
    /// A list with unknown semantics, in which the order of members may matter.
    List(Vec<&'static str>),
}

/// A request with its parsed header fields.
#[derive(Clone, Debug)]
struct SpelledRequest {
    meanings: Meanings,
    headers: HeaderMap,
}

/// A stored response with the request that it was stored for.
#[derive(Clone, Debug)]
struct Stored {
    varies_by: Vec<&'static str>,
    request: SpelledRequest,
    date_ago: u64,
}

impl Stored {
    /// Whether the selecting header fields match after normalisation, as RFC 9111 §4.1 specifies.
    fn matches(&self, request: &Meanings) -> bool {
        self.varies_by.iter().all(|name| self.request.meanings.get(name) == request.get(name))
    }

    /// Whether a later response has the same selecting fields and therefore replaces this response.
    fn is_replaced_by(&self, later: &Stored) -> bool {
        let names = |stored: &Stored| stored.varies_by.iter().copied().collect::<BTreeSet<_>>();
        names(self) == names(later) && later.matches(&self.request.meanings)
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
        let request = StorageRequest {
            origin: "http://a.example",
            path: "/",
            tag_generation: 0,
            tag_key: TagKey::new([0; 16]),
            headers: &self.request.headers,
            is_authenticated: false,
            request_time: now,
            set_cookie: SetCookiePolicy::Strip,
            heuristic_freshness: false,
        };
        let terms = StorageTerms::for_response(request, StatusCode::OK, &headers, now).unwrap();
        Arc::new(StoredResponse::new(StatusCode::OK, &headers, terms).with_body(Bytes::from(body.to_string())))
    }
}

/// Returns the matching response with the newest `Date`, or among equal dates the one stored last.
fn selected(stored: &[Stored], request: &Meanings) -> Option<usize> {
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
    let spelling = (any::<bool>(), 0..3_u8, any::<bool>());
    let members =
        (subsequence(names, 0..=names.len()), prop::collection::vec((select(&[1000_u16, 500, 0][..]), spelling), 5));
    members.prop_flat_map(|(names, rest)| {
        let meanings = names.iter().zip(&rest).map(|(name, (quality, _))| (*name, *quality)).collect();
        let spelled = names.iter().zip(&rest).map(|(name, (quality, (capitals, zeros, spaces)))| {
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
        let spelled: Vec<String> = spelled.collect();
        (Just(Meaning::Preferences(meanings)), Just(spelled).prop_shuffle())
    })
}

fn words() -> impl Strategy<Value = (Meaning, Vec<String>)> {
    prop::collection::vec(select(WORDS), 0..3)
        .prop_map(|words| (Meaning::List(words.clone()), words.into_iter().map(str::to_owned).collect()))
}

fn request() -> impl Strategy<Value = SpelledRequest> {
    let fields = (
        prop::option::of(preferences(CODINGS)),
        prop::option::of(preferences(LANGUAGES)),
        prop::option::of(words()),
        prop::option::of(words()),
    );
    (fields, any::<bool>(), any::<bool>()).prop_map(|((codings, languages, foo, bar), lines, spaces)| {
        let (mut meanings, mut headers) = (Meanings::new(), HeaderMap::new());
        let fields = [("accept-encoding", codings), ("accept-language", languages), ("foo", foo), ("bar", bar)];
        for (name, field) in fields {
            let Some((mut meaning, members)) = field else { continue };
            // RFC 9110 §12.5.3: an empty list means no coding.
            if name == "accept-encoding" && members.is_empty() {
                meaning = Meaning::Preferences(BTreeSet::from([("identity", 1000)]));
            }
            let separator = if spaces { " ,\t" } else { "," };
            let lines = if lines && !members.is_empty() { members } else { vec![members.join(separator)] };
            for line in lines {
                headers.append(HeaderName::from_static(name), HeaderValue::try_from(line).unwrap());
            }
            meanings.insert(name, meaning);
        }
        SpelledRequest { meanings, headers }
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
    fn variant_selection_agrees_with_the_rfc_9111_model(
        stored in prop::collection::vec(stored(), 1..6), other in request(), earlier in any::<prop::sample::Index>(), repeats in any::<bool>(),
    ) {
        // Half of the requests repeat an earlier one, since random ones rarely match.
        let request = if repeats { stored[earlier.index(stored.len())].request.clone() } else { other };
        let resource = stored.iter().enumerate().fold(None, |present: Option<Resource>, (at, stored)| {
            Some(Resource::with_variant(present.as_ref(), stored.response(at)))
        });
        let selected_body = resource.and_then(|resource| resource.select(&request.headers));
        let selected_body = selected_body.map(|response| std::str::from_utf8(response.body()).unwrap().parse::<usize>().unwrap());
        prop_assert_eq!(selected_body, selected(&stored, &request.meanings), "{:?}", request.headers);
    }

    #[test]
    fn variant_selection_ignores_equivalent_spellings_of_request_fields(a in request(), b in request()) {
        let of = |request: &SpelledRequest| Stored {
            varies_by: vec!["accept-encoding", "accept-language", "foo", "bar"], request: request.clone(), date_ago: 0,
        };
        let resource = Resource::with_variant(None, of(&a).response(0));
        prop_assert_eq!(resource.select(&b.headers).is_some(), a.meanings == b.meanings, "{:?} {:?}", a.headers, b.headers);
    }
}
