//! Tests of entity tags of compressed variants, and of conditional requests (RFC 9110 §8.8.3 and §13).

use std::convert::Infallible;
use std::future::ready;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use proptest::sample::select;
use rproxy_compression::CompressionLayer;
use tower::{Layer, ServiceExt, service_fn};

use crate::{Field, TEXT, append, field, get};

const JSON: Field<'static> = ("content-type", "application/json");

/// An application that serves one document with this `ETag`. It evaluates conditions as RFC 9110 §13.2.2 says.
#[derive(Clone, Copy)]
struct App<'a> {
    etag: &'a str,
    fields: &'a [Field<'a>],
}

impl App<'_> {
    fn respond(&self, request: &Request<()>) -> Response<Full<Bytes>> {
        let headers = request.headers();
        let opaque = |tag: &str| tag.trim_start_matches("W/").to_owned();
        let named = |name: &str, is_weak: bool| {
            let lists = headers.get_all(name).iter().map(|list| list.to_str().unwrap());
            let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
            tags.any(|tag| match is_weak {
                true => tag == "*" || opaque(tag) == opaque(self.etag),
                false => tag == "*" || tag == self.etag && !tag.starts_with("W/"),
            })
        };
        let is_read = *request.method() != Method::PUT;
        let status = if headers.contains_key("if-match") && !named("if-match", false) {
            StatusCode::PRECONDITION_FAILED
        } else if headers.contains_key("if-none-match") && named("if-none-match", true) {
            if is_read { StatusCode::NOT_MODIFIED } else { StatusCode::PRECONDITION_FAILED }
        } else if headers.contains_key("if-modified-since") && !headers.contains_key("if-none-match") {
            StatusCode::NOT_MODIFIED
        } else if !is_read {
            StatusCode::NO_CONTENT
        } else if headers.contains_key("range") && (!headers.contains_key("if-range") || named("if-range", false)) {
            StatusCode::PARTIAL_CONTENT
        } else {
            StatusCode::OK
        };
        let content = match status {
            StatusCode::OK => TEXT,
            StatusCode::PARTIAL_CONTENT => &TEXT[..100],
            _ => "",
        };
        let mut response = Response::new(Full::from(content));
        *response.status_mut() = status;
        append(response.headers_mut(), &[("etag", self.etag)]);
        match status {
            StatusCode::OK => append(response.headers_mut(), self.fields),
            StatusCode::PARTIAL_CONTENT => append(response.headers_mut(), &[JSON, ("content-range", "bytes 0-99/300")]),
            _ => {}
        }
        response
    }

    /// Sends a request to the application through the compression layer.
    async fn exchange(&self, method: Method, fields: &[Field<'_>]) -> (StatusCode, HeaderMap) {
        let mut request = get(fields);
        *request.method_mut() = method;
        let app = *self;
        let inner = service_fn(move |request: Request<()>| ready(Ok::<_, Infallible>(app.respond(&request))));
        let (head, body) = CompressionLayer::new().layer(inner).oneshot(request).await.unwrap().into_parts();
        body.collect().await.unwrap();
        (head.status, head.headers)
    }

    /// Returns the `ETag` of the response to a request with the `Accept-Encoding` value `codings`.
    async fn tag(&self, codings: &str) -> String {
        field(&self.exchange(Method::GET, &[("accept-encoding", codings)]).await.1, "etag").to_owned()
    }
}

fn json(etag: &str) -> App<'_> {
    App { etag, fields: &[JSON] }
}

#[tokio::test]
async fn compressed_variants_have_distinct_strong_entity_tags() {
    for (etag, codings, expected) in [
        ("\"v1\"", "gzip", "\"v1-gzip\""),
        ("\"v1\"", "br, gzip", "\"v1-br\""),
        ("\"v1\"", "zstd", "\"v1-zstd\""),
        ("\"v1\"", "identity", "\"v1\""),
        ("v1", "gzip", "v1-gzip"),
        ("W/\"v1\"", "gzip", "W/\"v1\""),
        ("W/\"v1-gzip\"", "gzip", "W/\"v1-gzip\""),
        ("W/\"v1-gzip\"", "identity", "W/\"v1-gzip\""),
    ] {
        assert_eq!(json(etag).tag(codings).await, expected, "{codings}");
    }
    let image = App { etag: "\"v1\"", fields: &[("content-type", "image/png")] };
    assert_eq!(image.tag("gzip").await, "\"v1\"");
}

#[tokio::test]
async fn if_match_accepts_the_entity_tag_of_each_variant() {
    for (condition, status) in [
        ("\"v1-gzip\"", 204),
        ("\"v1-br\"", 204),
        ("\"v1-zstd\"", 204),
        ("\"v1\"", 204),
        ("\"v0-br\", \"v1-br\"", 204),
        ("\"v0\",\"a,b-gzip\" , \"v1-gzip\"", 204),
        ("*", 204),
        ("\"v0-br\"", 412),
        ("\"v1-deflate\"", 412),
        ("\"v1-br-br\"", 412),
        ("W/\"v1\"", 412),
        ("W/\"v1-br\"", 412),
        ("\"\"", 412),
    ] {
        for codings in ["gzip", "identity"] {
            let fields = [("accept-encoding", codings), ("if-match", condition)];
            let (found, _) = json("\"v1\"").exchange(Method::PUT, &fields).await;
            assert_eq!(found, status, "{condition}");
        }
    }
    let two_lines = [("if-match", "\"v0-br\""), ("if-match", "\"v1-br\"")];
    assert_eq!(json("\"v1\"").exchange(Method::PUT, &two_lines).await.0, 204);
}

#[tokio::test]
async fn responses_without_content_have_the_etag_and_vary_of_a_200() {
    for (method, name, condition, status) in [
        (Method::GET, "if-none-match", "\"v1-gzip\"", 304),
        (Method::HEAD, "if-none-match", "\"v1-gzip\"", 304),
        (Method::GET, "if-none-match", "\"v0\", \"v1\", \"v1-gzip\", \"v1-br\"", 304),
        (Method::GET, "if-match", "\"v0-gzip\"", 412),
        (Method::HEAD, "if-match", "\"v0-gzip\"", 412),
        (Method::PUT, "if-match", "\"v0-gzip\"", 412),
        (Method::PUT, "if-match", "\"v0-br\"", 412),
        (Method::PUT, "if-none-match", "\"v1-gzip\"", 412),
        (Method::HEAD, "if-none-match", "\"v0-gzip\"", 200),
        (Method::GET, "if-none-match", "\"v0-gzip\"", 200),
    ] {
        for codings in ["gzip", "identity"] {
            let app = json("\"v1\"");
            let (found, headers) =
                app.exchange(method.clone(), &[("accept-encoding", codings), (name, condition)]).await;
            if codings == "gzip" {
                assert_eq!(found, status, "{method} {condition}");
            }
            let (_, full) = app.exchange(Method::GET, &[("accept-encoding", codings)]).await;
            for name in ["etag", "vary"] {
                assert_eq!(field(&headers, name), field(&full, name), "{method} {condition} {codings}");
            }
        }
    }
}

#[tokio::test]
async fn selects_the_etag_of_a_304_by_content_type_if_the_request_names_no_entity_tag() {
    let fields = [JSON, ("etag", "\"v1\""), ("digest", "md5=AA=="), ("content-length", "4000")];
    for (request, etag, vary) in [
        (&[("accept-encoding", "gzip"), ("if-modified-since", "x")][..], "\"v1-gzip\"", "accept-encoding"),
        (&[("accept-encoding", "gzip"), ("if-none-match", "*")], "\"v1-gzip\"", "accept-encoding"),
        // The client has the uncompressed variant.
        (&[("accept-encoding", "gzip"), ("if-none-match", "\"v1\"")], "\"v1\"", "accept-encoding"),
        (&[("if-modified-since", "x")], "\"v1\"", "accept-encoding"),
    ] {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        append(response.headers_mut(), &fields);
        let response = crate::exchange(get(request), response).await;
        assert_eq!((field(response.headers(), "etag"), field(response.headers(), "vary")), (etag, vary), "{request:?}");
        assert_eq!(response.headers().contains_key("digest"), etag == "\"v1\"");
        assert!(!response.headers().contains_key("content-encoding"));
    }
}

#[tokio::test]
async fn if_none_match_ignores_variants_that_the_client_does_not_prefer() {
    // A 304 would make a cache serve a coding that the client does not accept.
    for (codings, condition, status) in [
        ("gzip", "\"v1-br\"", 200),
        ("identity", "\"v1-gzip\"", 200),
        ("br, gzip", "\"v1-gzip\", \"v1-zstd\"", 200),
        ("br, gzip", "\"v1-gzip\", \"v1-br\"", 304),
        ("br, gzip", "\"v1-gzip\", *", 304),
        // The uncompressed variant is acceptable.
        ("gzip", "\"v1\"", 304),
        ("gzip", "\"v1-br\", \"v1\"", 304),
    ] {
        for date in [&[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")][..], &[]] {
            let fields = [&[("accept-encoding", codings), ("if-none-match", condition)], date].concat();
            assert_eq!(json("\"v1\"").exchange(Method::GET, &fields).await.0, status, "{codings} {condition}");
        }
    }
}

#[tokio::test]
async fn if_none_match_compares_weakly() {
    for (etag, method, codings, condition, status) in [
        ("\"v1\"", Method::GET, "br", "W/\"v1-br\"", 304),
        ("\"v1\"", Method::HEAD, "gzip", "\"v0\", W/\"v1-gzip\"", 304),
        ("\"v1\"", Method::GET, "identity", "W/\"v1\"", 304),
        ("\"v1-br\"", Method::GET, "gzip", "W/\"v1-br-gzip\"", 304),
        ("\"v1-br\"", Method::GET, "identity", "W/\"v1-br-identity\"", 304),
        ("\"v1\"", Method::PUT, "identity", "W/\"v1-br\"", 412),
        // Of another version, or of a variant that the client does not prefer.
        ("\"v1\"", Method::GET, "br", "W/\"v0-br\"", 200),
        ("\"v1\"", Method::GET, "gzip", "W/\"v1-br\"", 200),
        ("\"v1\"", Method::GET, "identity", "W/\"v1-br\"", 200),
        // The application's own tags.
        ("W/\"v1-gzip\"", Method::GET, "gzip", "W/\"v1-gzip\"", 304),
        ("W/\"v1-gzip\"", Method::GET, "identity", "W/\"v1-gzip\"", 304),
        ("W/\"v2-gzip\"", Method::GET, "gzip", "W/\"v1-gzip\"", 200),
    ] {
        let fields = [("accept-encoding", codings), ("if-none-match", condition)];
        let (found, headers) = json(etag).exchange(method.clone(), &fields).await;
        assert_eq!(found, status, "{method} {etag} {codings} {condition}");
        if status == 304 {
            assert_eq!(field(&headers, "etag"), json(etag).tag(codings).await, "{condition}");
        }
    }
    let put = [("accept-encoding", "br"), ("if-match", "W/\"v1-br\"")];
    assert_eq!(json("\"v1\"").exchange(Method::PUT, &put).await.0, 412);
}

#[tokio::test]
async fn sends_full_response_to_a_client_that_has_a_range_of_a_compressed_variant() {
    for (name, condition, status) in [
        ("if-range", "\"v1\"", 206),
        ("if-range", "\"v1-gzip\"", 200),
        ("if-range", "\"v1-br\"", 200),
        ("if-range", "\"v0\"", 200),
        ("if-range", "W/\"v1-gzip\"", 200),
        ("if-match", "\"v1\"", 206),
        ("if-match", "\"v1-gzip\"", 200),
        ("if-match", "*", 206),
        ("x-other", "\"v1-gzip\"", 206),
    ] {
        let fields = [("accept-encoding", "gzip"), ("range", "bytes=0-99"), (name, condition)];
        let (found, headers) = json("\"v1\"").exchange(Method::GET, &fields).await;
        assert_eq!(found, status, "{name}: {condition}");
        let expected = if status == 206 { ("\"v1\"", "") } else { ("\"v1-gzip\"", "gzip") };
        assert_eq!((field(&headers, "etag"), field(&headers, "content-encoding")), expected);
    }
}

#[tokio::test]
async fn conditions_that_name_no_compressed_variant_are_forwarded_unchanged() {
    for (name, value) in [
        ("if-match", "\"a\" ,W/\"b-br\",\"c"),
        ("if-none-match", "W/\"a-gzip\",  \"b\""),
        ("if-none-match", "*"),
        ("if-range", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ] {
        let inner = service_fn(move |request: Request<()>| {
            assert_eq!(field(request.headers(), name), value);
            assert_eq!(field(request.headers(), "range"), "bytes=0-99");
            ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
        });
        CompressionLayer::new().layer(inner).oneshot(get(&[("range", "bytes=0-99"), (name, value)])).await.unwrap();
    }
}

#[tokio::test]
async fn application_entity_tags_can_end_in_the_suffix_of_a_variant() {
    for etag in ["\"v1-br\"", "\"v1-gzip\"", "\"v1-identity\"", "\"-zstd\"", "v1-br"] {
        let precompressed = [JSON, ("content-encoding", "br")];
        let image = [("content-type", "image/png")];
        for fields in [&[JSON][..], &precompressed, &image] {
            for codings in ["br", "gzip", "identity"] {
                let app = App { etag, fields };
                let tag = app.tag(codings).await;
                let list = format!("\"v0-br\", {tag}");
                for condition in [&*tag, &list, "*"] {
                    let exchange = async |method, name| {
                        app.exchange(method, &[("accept-encoding", codings), (name, condition)]).await
                    };
                    assert_eq!(exchange(Method::PUT, "if-match").await.0, 204, "{etag} {condition}");
                    assert_eq!(exchange(Method::PUT, "if-none-match").await.0, 412, "{etag} {condition}");
                    let (status, headers) = exchange(Method::GET, "if-none-match").await;
                    assert_eq!(status, 304, "{etag} {condition}");
                    if condition != "*" {
                        assert_eq!(field(&headers, "etag"), tag);
                    }
                }
            }
        }
    }
}

proptest! {
    /// A condition with the entity tag of an earlier version is false, regardless of the application's entity tags.
    #[test]
    fn an_entity_tag_matches_only_the_version_that_it_was_sent_with(
        parts in proptest::collection::vec(select(vec!["v", "-br", "-gzip", "-zstd", "-identity", "-", "br"]), 0..4),
        other in proptest::collection::vec(select(vec!["v", "-br", "-gzip", "-zstd", "-identity", "-", "br"]), 0..4),
        codings in select(vec!["br", "gzip", "zstd", "identity"]),
        later_codings in select(vec!["br", "gzip", "zstd", "identity"]),
        is_text in any::<bool>(),
    ) {
        let fields = [if is_text { JSON } else { ("content-type", "image/png") }];
        let (etag, other) = (format!("\"{}\"", parts.concat()), format!("\"{}\"", other.concat()));
        let (app, changed) = (App { etag: &etag, fields: &fields }, App { etag: &other, fields: &fields });
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let tag = app.tag(codings).await;
            let put = [("accept-encoding", later_codings), ("if-match", &*tag)];
            assert_eq!(app.exchange(Method::PUT, &put).await.0, 204);
            assert_eq!(changed.exchange(Method::PUT, &put).await.0 == 204, etag == other);
            let get = [("accept-encoding", codings), ("if-none-match", &*tag)];
            let (status, headers) = app.exchange(Method::GET, &get).await;
            assert_eq!((status, field(&headers, "etag")), (StatusCode::NOT_MODIFIED, &*tag));
            assert_eq!(changed.exchange(Method::GET, &get).await.0 == 304, etag == other);
        });
    }
}
