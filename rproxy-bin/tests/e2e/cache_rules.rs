//! Tests of the HTTP caching rules, ordered by RFC section, with the proxy between a client and an origin.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::support::upstream::{read_head, scripted};
use crate::support::{Proxy, Response, exchange, request};

/// One exchange: the request of the client, the response of the origin, and the expected response to the client.
///
/// The request has the form `METHOD|field: value|...`. The response of the origin has the form `STATUS|field:
/// value|...||body`, or is empty if the proxy must not send a request to the origin. The expected response consists of
/// the status and the cache status.
type Step = (&'static str, &'static str, &'static str);

/// A caching rule with its RFC section, and the exchanges that test the rule.
type Scenario = (&'static str, &'static [Step]);

const FRESH: &str = "200|cache-control: max-age=60||one";
/// A response of the origin that is stale immediately but has a validator.
const STALE: &str = "200|cache-control: max-age=60|age: 90|etag: \"v1\"||one";
const OTHER: &str = "200|cache-control: no-store||two";

const SCENARIOS: &[Scenario] = &[
    // RFC 9111 §3: storing responses.
    ("§3 explicit freshness", &[("GET", FRESH, "200 uri-miss"), ("GET", "", "200 hit")]),
    ("§3 any final status", &[("GET", "599|cache-control: max-age=60||one", "599 uri-miss"), ("GET", "", "599 hit")]),
    ("§3 POST is not stored", &[("POST", FRESH, "200 method"), ("GET", OTHER, "200 uri-miss")]),
    (
        "§3.1 connection-specific fields",
        &[
            ("GET", "200|cache-control: max-age=60|connection: x-a|x-a: 1||one", "200 uri-miss"),
            ("GET", "", "200 hit -x-a"),
        ],
    ),
    (
        "§3.3 range within a stored part",
        &[
            ("GET|range: bytes=2-4", "206|cache-control: max-age=60|content-range: bytes 2-4/9||cde", "206 uri-miss"),
            ("GET|range: bytes=3-4", "", "206 hit"),
            ("GET", OTHER, "200 partial"),
        ],
    ),
    (
        "§3.4 combining parts",
        &[
            (
                "GET|range: bytes=0-1",
                "206|cache-control: max-age=60|etag: \"v1\"|content-range: bytes 0-1/3||on",
                "206 uri-miss",
            ),
            (
                "GET|range: bytes=2-2",
                "206|cache-control: max-age=60|etag: \"v1\"|content-range: bytes 2-2/3||e",
                "206 partial",
            ),
            ("GET", "", "200 hit"),
        ],
    ),
    ("§3.5 Authorization", &[("GET|authorization: Basic eDp5", FRESH, "200 uri-miss"), ("GET", OTHER, "200 uri-miss")]),
    (
        "§3.5 Authorization, with permission",
        &[
            ("GET|authorization: Basic eDp5", "200|cache-control: s-maxage=60||one", "200 uri-miss"),
            ("GET", "", "200 hit"),
        ],
    ),
    // RFC 9111 §4: using stored responses.
    (
        "§4.1 Vary",
        &[
            ("GET|foo: 1", "200|cache-control: max-age=60|vary: Foo||one", "200 uri-miss"),
            ("GET|foo: 2", OTHER, "200 vary-miss"),
            ("GET|foo: 1", "", "200 hit"),
        ],
    ),
    (
        "§4.1 Vary: *",
        &[("GET", "200|cache-control: max-age=60|vary: *||one", "200 uri-miss"), ("GET", OTHER, "200 uri-miss")],
    ),
    (
        "§4.1 normalised",
        &[
            ("GET|accept-language: en, de", "200|cache-control: max-age=60|vary: Accept-Language||one", "200 uri-miss"),
            ("GET|accept-language: DE,en", "", "200 hit"),
        ],
    ),
    (
        "§4.2.1 s-maxage before max-age",
        &[("GET", "200|cache-control: max-age=60, s-maxage=0||one", "200 uri-miss"), ("GET", OTHER, "200 uri-miss")],
    ),
    (
        "§4.2.1 max-age before Expires",
        &[("GET", "200|cache-control: max-age=60|expires: 0||one", "200 uri-miss"), ("GET", "", "200 hit")],
    ),
    (
        "§4.2.1 Expires",
        &[("GET", "200|expires: Fri, 31 Dec 2100 23:59:59 GMT||one", "200 uri-miss"), ("GET", "", "200 hit")],
    ),
    (
        "§4.2.2 heuristic freshness",
        &[("GET", "200|last-modified: Thu, 01 Jan 2015 00:00:00 GMT||one", "200 uri-miss"), ("GET", "", "200 hit")],
    ),
    (
        "§4.2.2 no heuristic freshness for unknown statuses",
        &[
            ("GET", "599|last-modified: Thu, 01 Jan 2015 00:00:00 GMT||one", "599 uri-miss"),
            ("GET", OTHER, "200 uri-miss"),
        ],
    ),
    ("§4.2.3 Age counts", &[("GET", STALE, "200 uri-miss"), ("GET", OTHER, "200 stale")]),
    (
        "§4.2.4 stale response if the origin is unreachable",
        &[("GET", STALE, "200 uri-miss"), ("GET", "close", "200 stale-if-error")],
    ),
    (
        "§4.2.4 must-revalidate forbids stale responses",
        &[
            ("GET", "200|cache-control: max-age=60, must-revalidate|age: 90|etag: \"v1\"||one", "200 uri-miss"),
            ("GET", "close", "502 stale"),
        ],
    ),
    (
        "§4.3.1 validation",
        &[
            ("GET", STALE, "200 uri-miss"),
            ("GET", "304|etag: \"v1\"|cache-control: max-age=60||", "200 validated"),
            ("GET", "", "200 hit"),
        ],
    ),
    (
        "§4.3.2 conditional request of the client",
        &[
            ("GET", "200|cache-control: max-age=60|etag: \"v1\"||one", "200 uri-miss"),
            ("GET|if-none-match: W/\"v1\"", "", "304 hit"),
            ("GET|if-none-match: \"v2\"", "", "200 hit"),
        ],
    ),
    (
        "§4.3.3 changed representation",
        &[
            ("GET", STALE, "200 uri-miss"),
            ("GET", "200|cache-control: max-age=60||three", "200 stale"),
            ("GET", "", "200 hit"),
        ],
    ),
    ("§4.3.5 HEAD", &[("GET", FRESH, "200 uri-miss"), ("HEAD", "", "200 hit")]),
    (
        "§4.4 invalidation",
        &[("GET", FRESH, "200 uri-miss"), ("DELETE", "204||", "204 method"), ("GET", OTHER, "200 uri-miss")],
    ),
    (
        "§4.4 no invalidation by failures",
        &[("GET", FRESH, "200 uri-miss"), ("DELETE", "500||", "500 method"), ("GET", "", "200 hit")],
    ),
    (
        "§4.4 invalidation by unknown methods",
        &[("GET", FRESH, "200 uri-miss"), ("M-SEARCH", "200||", "200 method"), ("GET", OTHER, "200 uri-miss")],
    ),
    // RFC 9111 §5.2.1: request directives.
    (
        "§5.2.1.1 max-age",
        &[
            ("GET", "200|cache-control: max-age=60|age: 30||one", "200 uri-miss"),
            ("GET|cache-control: max-age=20", OTHER, "200 request"),
        ],
    ),
    ("§5.2.1.2 max-stale", &[("GET", STALE, "200 uri-miss"), ("GET|cache-control: max-stale=60", "", "200 hit")]),
    (
        "§5.2.1.3 min-fresh",
        &[("GET", FRESH, "200 uri-miss"), ("GET|cache-control: min-fresh=90", OTHER, "200 request")],
    ),
    ("§5.2.1.4 no-cache", &[("GET", FRESH, "200 uri-miss"), ("GET|cache-control: no-cache", OTHER, "200 request")]),
    ("§5.2.1.5 no-store", &[("GET|cache-control: no-store", FRESH, "200 bypass"), ("GET", OTHER, "200 uri-miss")]),
    ("§5.2.1.7 only-if-cached", &[("GET|cache-control: only-if-cached", "", "504 uri-miss")]),
    // RFC 9111 §5.2.2: response directives.
    (
        "§5.2.2.3 must-understand",
        &[
            ("GET", "200|cache-control: max-age=60, no-store, must-understand||one", "200 uri-miss"),
            ("GET", "", "200 hit"),
        ],
    ),
    (
        "§5.2.2.4 no-cache",
        &[
            ("GET", "200|cache-control: max-age=60, no-cache|etag: \"v1\"||one", "200 uri-miss"),
            ("GET", "304|etag: \"v1\"||", "200 validated"),
        ],
    ),
    (
        "§5.2.2.4 no-cache of a field",
        &[
            ("GET", "200|cache-control: max-age=60, no-cache=\"x-a\"|x-a: 1||one", "200 uri-miss"),
            ("GET", "", "200 hit -x-a"),
        ],
    ),
    (
        "§5.2.2.5 no-store",
        &[("GET", "200|cache-control: max-age=60, No-Store||one", "200 uri-miss"), ("GET", OTHER, "200 uri-miss")],
    ),
    (
        "§5.2.2.7 private",
        &[("GET", "200|cache-control: max-age=60, private||one", "200 uri-miss"), ("GET", OTHER, "200 uri-miss")],
    ),
    ("§5.4 Pragma", &[("GET", FRESH, "200 uri-miss"), ("GET|pragma: no-cache", OTHER, "200 request")]),
    (
        "§7.3 Set-Cookie is not stored",
        &[
            ("GET", "200|cache-control: max-age=60|set-cookie: a=b||one", "200 uri-miss"),
            ("GET", "", "200 hit -set-cookie"),
        ],
    ),
    // Other specifications.
    (
        "RFC 5861 §3",
        &[
            (
                "GET",
                "200|cache-control: max-age=60, stale-while-revalidate=60|age: 90|etag: \"v1\"||one",
                "200 uri-miss",
            ),
            ("GET", "200|cache-control: no-store||two", "200 hit"),
        ],
    ),
    (
        "RFC 5861 §4",
        &[
            ("GET", "200|cache-control: max-age=60, stale-if-error=60|age: 90|etag: \"v1\"||one", "200 uri-miss"),
            ("GET", "503||down", "200 stale-if-error"),
        ],
    ),
    (
        "RFC 8246 §2",
        &[
            ("GET", "200|cache-control: max-age=60, immutable|age: 30||one", "200 uri-miss"),
            ("GET|cache-control: max-age=0", "", "200 hit"),
        ],
    ),
    (
        "RFC 9110 §14.2",
        &[
            ("GET", FRESH, "200 uri-miss"),
            ("GET|range: bytes=1-", "", "206 hit"),
            ("GET|range: bytes=9-", "", "416 hit"),
        ],
    ),
    (
        "RFC 9213 §2.2",
        &[
            ("GET", "200|cdn-cache-control: max-age=60|cache-control: no-store||one", "200 uri-miss"),
            ("GET", "", "200 hit"),
        ],
    ),
    (
        "RFC 9213 §2.1",
        &[
            ("GET", "200|cdn-cache-control: max-age=60, &&|cache-control: no-store||one", "200 uri-miss"),
            ("GET", OTHER, "200 uri-miss"),
        ],
    ),
];

/// The responses that the origin has not sent yet, by path.
type Answers = Arc<Mutex<HashMap<String, VecDeque<&'static str>>>>;

fn origin(responses: &Answers) -> SocketAddr {
    let responses = Arc::clone(responses);
    scripted(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let path = head.split(' ').nth(1).unwrap();
            let response = next(&mut responses.lock().unwrap(), path);
            if response == "close" || stream.write_all(to_http(response).as_bytes()).is_err() {
                return;
            }
        }
    })
}

fn next(responses: &mut HashMap<String, VecDeque<&'static str>>, path: &str) -> &'static str {
    let coming = responses.get_mut(path);
    // It stays in the queue, for any number of retries.
    if let Some(&"close") = coming.as_ref().and_then(|coming| coming.front()) {
        return "close";
    }
    coming.and_then(VecDeque::pop_front).unwrap_or("598||unexpected request to the origin")
}

fn to_http(response: &str) -> String {
    let (head, body) = response.split_once("||").unwrap();
    let mut lines = head.split('|');
    let status = lines.next().unwrap();
    let fields: String = lines.map(|line| format!("{line}\r\n")).collect();
    let length = match status {
        "204" | "304" => String::new(),
        _ => format!("content-length: {}\r\n", body.len()),
    };
    format!("HTTP/1.1 {status} x\r\ncontent-type: text/plain\r\n{fields}{length}\r\n{body}")
}

fn send(proxy: &Proxy, path: &str, sent: &str) -> Response {
    let mut lines = sent.split('|');
    let method = lines.next().unwrap();
    let fields: String = lines.map(|line| format!("{line}\r\n")).collect();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n{fields}\r\n");
    if method != "HEAD" {
        return request(proxy.address, &head);
    }
    // A HEAD response has a length but no content.
    let text = exchange(proxy.address, head.as_bytes());
    Response { status: text.split(' ').nth(1).unwrap().parse().unwrap(), head: text, body: String::new() }
}

#[test]
fn stores_and_reuses_responses_as_the_caching_rfcs_require() {
    let responses = Answers::default();
    let settings = [
        ("RPROXY_CACHE_PATHS", "/**"),
        ("RPROXY_CACHE_HEURISTIC", "true"),
        ("RPROXY_CACHE_REQUEST_DIRECTIVES", "true"),
        ("RPROXY_RATE_LIMIT_ENABLED", "false"),
    ];
    let proxy = Proxy::start(origin(&responses), &settings);
    for (number, (rule, steps)) in SCENARIOS.iter().enumerate() {
        let path = format!("/{number}");
        for (at, (sent, response, expected)) in steps.iter().enumerate() {
            let queue = if response.is_empty() { VecDeque::new() } else { VecDeque::from([*response]) };
            responses.lock().unwrap().insert(path.clone(), queue);
            let got = send(&proxy, &path, sent);
            let mut words = expected.split(' ');
            let status: u16 = words.next().unwrap().parse().unwrap();
            assert_eq!(got.status, status, "{rule}, step {at}: {}", got.head);
            let cache_status = got.header("cache-status").unwrap_or_default();
            let expected_status = match words.next().unwrap() {
                "hit" => "rproxy; hit".to_owned(),
                "validated" => "rproxy; fwd=stale; fwd-status=304".to_owned(),
                "stale-if-error" => "detail=stale-if-error".to_owned(),
                reason => format!("rproxy; fwd={reason}"),
            };
            assert!(cache_status.contains(&expected_status), "{rule}, step {at}: {cache_status}");
            if let Some(absent) = words.next().and_then(|word| word.strip_prefix('-')) {
                assert_eq!(got.header(absent), None, "{rule}, step {at}");
            }
        }
    }
}
