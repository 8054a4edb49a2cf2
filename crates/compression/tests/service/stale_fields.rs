//! Tests of header and trailer fields that compression invalidates, such as digests.

use std::convert::Infallible;
use std::future::ready;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use rproxy_compression::CompressionLayer;
use tower::{Layer, ServiceExt, service_fn};

use crate::{Field, HTML, TEXT, append, exchange, get, page};

const DIGESTS: [Field<'static>; 5] = [
    ("content-digest", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"),
    ("repr-digest", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"),
    ("digest", "sha-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE="),
    ("digest", "md5=HUXZLQLMuI/KZ5KDcJPcOA=="),
    ("content-md5", "HUXZLQLMuI/KZ5KDcJPcOA=="),
];

#[tokio::test]
async fn removes_digests_and_accept_ranges_from_compressed_responses_only() {
    let fields = [&[HTML, ("accept-ranges", "bytes"), ("want-repr-digest", "sha-256=1")], &DIGESTS[..]].concat();
    for (codings, is_coded) in [("gzip", true), ("br", true), ("zstd", true), ("identity", false)] {
        let response = exchange(get(&[("accept-encoding", codings)]), page(&fields)).await;
        for name in ["content-digest", "repr-digest", "digest", "content-md5", "accept-ranges"] {
            assert_eq!(response.headers().contains_key(name), !is_coded, "{name} {codings}");
        }
        assert!(response.headers().contains_key("want-repr-digest"));
        assert_eq!(response.headers().get_all("digest").iter().count(), if is_coded { 0 } else { 2 });
    }
}

/// Returns the header and trailer section of a compressed response with these trailer fields.
async fn with_trailers(codings: &str, announced: &[Field<'_>], trailers: &[Field<'_>]) -> (HeaderMap, HeaderMap) {
    let (mut fields, mut section) = (HeaderMap::new(), HeaderMap::new());
    append(&mut fields, &[&[HTML], announced].concat());
    append(&mut section, trailers);
    let inner = service_fn(move |_: Request<()>| {
        let trailers = ready(Some(Ok(section.clone())));
        let mut response = Response::new(Full::<Bytes>::from(TEXT).with_trailers(trailers));
        *response.headers_mut() = fields.clone();
        ready(Ok::<_, Infallible>(response))
    });
    let request = get(&[("accept-encoding", codings)]);
    let (head, body) = CompressionLayer::new().layer(inner).oneshot(request).await.unwrap().into_parts();
    (head.headers, body.collect().await.unwrap().trailers().cloned().unwrap_or_default())
}

#[tokio::test]
async fn removes_digests_from_trailers_of_compressed_responses_only() {
    let trailers = [&[("x-checked", "yes")], &DIGESTS[..]].concat();
    for (announced, expected) in [
        (&["Content-Digest, X-Checked", "digest,Content-MD5 , REPR-DIGEST"][..], Some("X-Checked")),
        (&["Content-Digest"], None),
        (&["X-Checked, X-Other"], Some("X-Checked, X-Other")),
        (&[], None),
    ] {
        let announced: Vec<Field<'_>> = announced.iter().map(|line| ("trailer", *line)).collect();
        let (head, section) = with_trailers("gzip", &announced, &trailers).await;
        assert_eq!(head.get("trailer").map(|line| line.to_str().unwrap()), expected, "{announced:?}");
        assert_eq!(section.keys().collect::<Vec<_>>(), ["x-checked"]);

        let (head, section) = with_trailers("identity", &announced, &trailers).await;
        assert_eq!(head.get_all("trailer").iter().count(), announced.len());
        assert_eq!(section.len(), trailers.len());
    }
}
