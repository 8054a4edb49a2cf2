//! Tests of the selection of compressible responses, and of their content coding.

use http::{Method, StatusCode};

use crate::{HTML, TEXT, exchange, field, get, page};

#[tokio::test]
async fn compresses_text_with_the_preferred_content_coding() {
    for (codings, coding) in
        [("gzip", "gzip"), ("gzip;q=0.5, br", "br"), ("deflate, ZSTD", "zstd"), ("deflate", ""), ("identity", "")]
    {
        let response = exchange(get(&[("accept-encoding", codings)]), page(&[HTML])).await;
        assert_eq!(field(response.headers(), "content-encoding"), coding);
        assert_eq!(response.body() == TEXT, coding.is_empty());
        assert_eq!(response.headers().contains_key("content-length"), coding.is_empty());
        assert_eq!(field(response.headers(), "vary"), "accept-encoding", "{codings}");
    }
    let response = exchange(get(&[]), page(&[HTML])).await;
    assert_eq!(response.body(), TEXT);
    assert_eq!(field(response.headers(), "vary"), "accept-encoding");
}

#[tokio::test]
async fn compresses_icons_bitmaps_and_fonts() {
    for media_type in ["image/x-icon", "image/vnd.microsoft.icon", "image/bmp", "image/svg+xml", "font/ttf", "font/otf"]
    {
        let response = exchange(get(&[("accept-encoding", "gzip")]), page(&[("content-type", media_type)])).await;
        assert_eq!(field(response.headers(), "content-encoding"), "gzip", "{media_type}");
    }
}

#[tokio::test]
async fn leaves_incompressible_encoded_and_no_transform_responses_unchanged() {
    for fields in [
        &[("content-type", "image/png")][..],
        &[("content-type", "video/mp4")],
        &[("content-type", "application/octet-stream")],
        &[("content-type", "application/grpc")],
        &[("content-type", "application/grpc-web+proto")],
        &[("content-type", "text/event-stream")],
        &[("content-type", "Text/Event-Stream; charset=utf-8")],
        &[],
        &[HTML, ("content-encoding", "br")],
        &[HTML, ("content-encoding", "identity")],
        &[HTML, ("content-range", "bytes 0-298/500")],
        &[HTML, ("cache-control", "public, No-Transform")],
        &[HTML, ("cache-control", "public"), ("cache-control", "no-transform")],
        &[HTML, ("signature-input", "a=(\"content-digest\");created=1"), ("content-digest", "sha-256=:AA==:")],
    ] {
        for method in [Method::GET, Method::HEAD, Method::POST] {
            let mut request = get(&[("accept-encoding", "gzip")]);
            *request.method_mut() = method;
            let kept = [fields, &[("etag", "\"v1\""), ("digest", "md5=AA=="), ("accept-ranges", "bytes")]].concat();
            let response = exchange(request, page(&kept)).await;
            assert_eq!(response.body(), TEXT, "{fields:?}");
            assert_eq!(response.headers(), page(&kept).headers(), "{fields:?}");
        }
    }
}

#[tokio::test]
async fn leaves_responses_without_complete_content_unchanged() {
    let json = ("content-type", "application/json");
    for (status, fields) in [(204, &[json][..]), (205, &[json]), (206, &[json]), (304, &[])] {
        let mut response = page(&[fields, &[("etag", "\"v1\""), ("content-md5", "AA==")]].concat());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        let expected = response.headers().clone();
        let response = exchange(get(&[("accept-encoding", "gzip")]), response).await;
        assert_eq!((response.headers(), response.body().as_ref()), (&expected, TEXT.as_bytes()), "{status}");
    }
}

#[tokio::test]
async fn sends_no_406_if_no_content_coding_is_acceptable() {
    let mut missing = page(&[HTML]);
    *missing.status_mut() = StatusCode::NOT_FOUND;
    let response = exchange(get(&[("accept-encoding", "gzip;q=0, identity;q=0")]), missing.clone()).await;
    assert_eq!((response.status(), response.body().as_ref()), (StatusCode::NOT_FOUND, TEXT.as_bytes()));
    let response = exchange(get(&[("accept-encoding", "gzip")]), missing).await;
    assert_eq!((response.status(), field(response.headers(), "content-encoding")), (StatusCode::NOT_FOUND, "gzip"));
}

#[tokio::test]
async fn adds_accept_encoding_to_vary_once() {
    for (given, expected) in [
        ("Accept-Encoding", &["Accept-Encoding"][..]),
        ("*", &["*"]),
        ("origin", &["origin", "accept-encoding"]),
        ("x-accept-encoding", &["x-accept-encoding", "accept-encoding"]),
    ] {
        for codings in ["gzip", "identity"] {
            let response = exchange(get(&[("accept-encoding", codings)]), page(&[HTML, ("vary", given)])).await;
            assert_eq!(response.headers().get_all("vary").iter().collect::<Vec<_>>(), expected);
        }
    }
}
