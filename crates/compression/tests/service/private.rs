//! Tests of the exclusion of private responses (BREACH).

use http::{Method, Request};
use rproxy_compression::CompressionLayer;

use crate::{Field, HTML, TEXT, exchange, exchange_with, field, get, page};

const ACCEPTS: Field<'static> = ("accept-encoding", "gzip");
const COOKIE: Field<'static> = ("cookie", "session=1");
const TAG: Field<'static> = ("etag", "\"v1\"");

fn guarded() -> CompressionLayer {
    CompressionLayer::new().private(false)
}

#[tokio::test]
async fn private_response_is_sent_as_the_inner_service_sent_it() {
    for (request, fields) in [
        (&[ACCEPTS, COOKIE][..], &[HTML, TAG][..]),
        (&[ACCEPTS, ("authorization", "Basic YTpi")], &[HTML, TAG, ("cache-control", "max-age=60")]),
        (&[ACCEPTS], &[HTML, TAG, ("set-cookie", "session=1")]),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let request = || {
                let mut request: Request<()> = get(request);
                *request.method_mut() = method.clone();
                request
            };
            let response = exchange_with(guarded(), request(), page(fields)).await;
            assert_eq!(response.body(), TEXT);
            assert_eq!(field(response.headers(), "etag"), "\"v1\"");
            assert_eq!(field(response.headers(), "content-length"), TEXT.len().to_string());
            assert!(!response.headers().contains_key("content-encoding"));
            // Another client may get a compressed variant.
            assert_eq!(field(response.headers(), "vary"), "accept-encoding");

            let compressed = exchange(request(), page(fields)).await;
            assert_eq!(field(compressed.headers(), "content-encoding"), "gzip", "by default");
        }
    }
}

#[tokio::test]
async fn response_that_all_users_get_is_compressed() {
    for (request, fields) in [
        (&[ACCEPTS][..], &[HTML][..]),
        (&[ACCEPTS, COOKIE], &[HTML, ("cache-control", "max-age=31536000")]),
        (&[ACCEPTS, ("authorization", "Basic YTpi")], &[HTML, ("cache-control", "public")]),
    ] {
        let response = exchange_with(guarded(), get(request), page(fields)).await;
        assert_eq!(field(response.headers(), "content-encoding"), "gzip", "{fields:?}");
    }
}

#[tokio::test]
async fn condition_on_an_uncompressed_private_response_reaches_the_inner_service() {
    let mut not_modified = page(&[TAG]).map(|_| Default::default());
    *not_modified.status_mut() = http::StatusCode::NOT_MODIFIED;
    not_modified.headers_mut().remove("content-length");
    let request = get(&[ACCEPTS, COOKIE, ("if-none-match", "\"v1\"")]);
    let response = exchange_with(guarded(), request, not_modified).await;
    assert_eq!((response.status().as_u16(), field(response.headers(), "etag")), (304, "\"v1\""));
}
