//! Tests of the encoder limit, and of the scheduling of other tasks during compression.

use std::convert::Infallible;
use std::future::ready;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use rproxy_compression::{Coding, CompressionLayer, EncoderLimit};
use tower::{Layer, ServiceExt, service_fn};

use crate::{HTML, TEXT, field, get, page};

/// Sends a request with this `Accept-Encoding` through `layer`.
async fn send(
    layer: CompressionLayer,
    codings: &str,
    response: Response<Full<Bytes>>,
) -> Response<rproxy_compression::ResponseBody<Full<Bytes>>> {
    let inner = service_fn(move |_: Request<()>| ready(Ok::<_, Infallible>(response.clone())));
    layer.layer(inner).oneshot(get(&[("accept-encoding", codings)])).await.unwrap()
}

#[tokio::test]
async fn other_tasks_run_while_a_large_response_is_compressed() {
    // The budget of a body is 32 KiB.
    const ROUNDS: usize = 50;
    let mut large = Response::new(Full::from(vec![b'a'; ROUNDS << 15]));
    large.headers_mut().insert("content-type", "text/html".parse().unwrap());
    for coding in Coding::ALL {
        let response = send(CompressionLayer::new(), coding.as_str(), large.clone()).await;
        assert_eq!(field(response.headers(), "content-encoding"), coding.as_str());
        let compressed = tokio::spawn(response.into_body().collect());
        let mut rounds = 0;
        while !compressed.is_finished() {
            tokio::task::yield_now().await;
            rounds += 1;
        }
        assert!(!compressed.await.unwrap().unwrap().to_bytes().is_empty());
        assert!(rounds >= ROUNDS - 1, "{coding:?}: {rounds}");
    }
}

#[tokio::test]
async fn sends_response_uncompressed_if_the_encoder_limit_is_reached() {
    static LIMIT: EncoderLimit = EncoderLimit::new(1);
    let layer = CompressionLayer::new().encoder_limit(&LIMIT);
    let first = send(layer, "gzip", page(&[HTML])).await;
    assert_eq!(field(first.headers(), "content-encoding"), "gzip");

    let fields = [HTML, ("etag", "\"v1\""), ("digest", "md5=AA=="), ("accept-ranges", "bytes")];
    let second = send(layer, "gzip", page(&fields)).await;
    for (name, value) in fields {
        assert_eq!(field(second.headers(), name), value);
    }
    assert_eq!(field(second.headers(), "vary"), "accept-encoding");
    assert_eq!(second.into_body().collect().await.unwrap().to_bytes(), TEXT);

    drop(first);
    let third = send(layer, "gzip", page(&[HTML])).await;
    assert_eq!(field(third.headers(), "content-encoding"), "gzip");
}

#[tokio::test]
async fn applies_only_the_content_codings_of_the_layer() {
    let layer = CompressionLayer::new().codings([Coding::Gzip]).min_size(TEXT.len() as u64);
    let response = send(layer, "br, zstd, gzip;q=0.1", page(&[HTML])).await;
    assert_eq!(field(response.headers(), "content-encoding"), "gzip");
    let response = send(layer.min_size(TEXT.len() as u64 + 1), "gzip", page(&[HTML])).await;
    assert!(!response.headers().contains_key("content-encoding") && !response.headers().contains_key("vary"));
}
