//! Tests of default lifetimes, for the cache and for browsers.

use crate::support::upstream::responding;
use crate::support::{Proxy, Response, request};

/// Starts a proxy whose backend sends the field that the path names.
fn proxy() -> Proxy {
    let backend = responding(|head| {
        let field = match head.split(' ').nth(1).unwrap() {
            "/static/private" => "cache-control: private\r\n",
            "/static/no-store" => "cache-control: no-store\r\n",
            "/static/cookie" => "set-cookie: a=b\r\n",
            "/static/expires" => "expires: 0\r\n",
            "/static/spa.css" => "content-type: text/html\r\n",
            _ => "",
        };
        let status = if head.contains("/static/missing ") { "404 Not Found" } else { "200 OK" };
        format!("HTTP/1.1 {status}\r\n{field}content-length: 2\r\n\r\nok")
    });
    Proxy::start(backend, &[("RPROXY_CACHE_TTL", "/static/short/*=60,/static/**=1y"), ("RPROXY_CACHE_PATHS", "/**")])
}

fn get(proxy: &Proxy, target: &str, fields: &str) -> Response {
    request(proxy.address, &format!("GET {target} HTTP/1.1\r\nhost: a\r\n{fields}connection: close\r\n\r\n"))
}

fn is_hit(response: &Response) -> bool {
    response.header("cache-status").is_some_and(|status| status.contains("hit"))
}

#[test]
fn responses_without_caching_fields_get_a_lifetime_that_client_and_cache_share() {
    let proxy = proxy();
    for (target, lifetime) in [("/static/a", "max-age=31557600"), ("/static/short/a", "max-age=60")] {
        let (miss, hit) = (get(&proxy, target, ""), get(&proxy, target, ""));
        assert_eq!((miss.header("cache-control"), is_hit(&miss)), (Some(lifetime), false), "{target}");
        assert_eq!((hit.header("cache-control"), is_hit(&hit)), (Some(lifetime), true), "{target}");
        assert!(hit.header("age").is_some(), "{}", hit.head);
    }
    // A stored response also serves a request with credentials.
    assert!(is_hit(&get(&proxy, "/static/a", "Cookie: a=b\r\n")));
}

#[test]
fn other_responses_keep_their_caching_fields_and_are_not_stored() {
    let proxy = proxy();
    for (target, fields, expected) in [
        ("/page", "", None),
        ("/static/private", "", Some("private")),
        ("/static/no-store", "", Some("no-store")),
        ("/static/cookie", "", None),
        ("/static/expires", "", None),
        ("/static/spa.css", "", None),
        ("/static/missing", "", None),
        ("/static/credentials", "Cookie: a=b\r\n", None),
        ("/static/authorization", "Authorization: Basic eA==\r\n", None),
    ] {
        for _ in 0..2 {
            let response = get(&proxy, target, fields);
            assert_eq!((response.header("cache-control"), is_hit(&response)), (expected, false), "{target}");
        }
    }
}
