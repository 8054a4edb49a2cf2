//! Tests of the compression layer with an application that returns one fixed response.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::future::ready;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use rproxy_compression::CompressionLayer;
use tower::{Layer, ServiceExt, service_fn};

mod encoders;
mod entity_tags;
mod head;
mod private;
mod selection;
mod stale_fields;

/// The name and value of a header field.
type Field<'a> = (&'static str, &'a str);

const HTML: Field<'static> = ("content-type", "text/html; charset=utf-8");

/// Text that is long enough to be compressed.
const TEXT: &str = "compress me, compress me, compress me, compress me, compress me, compress me, compress me, \
    compress me, compress me, compress me, compress me, compress me, compress me, compress me, compress me, \
    compress me, compress me, compress me, compress me, compress me, compress me, compress me, compress me";

/// Builds a response with `TEXT`, its `Content-Length` and these header fields.
fn page(fields: &[Field<'_>]) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(TEXT));
    response.headers_mut().insert("content-length", HeaderValue::from(TEXT.len()));
    append(response.headers_mut(), fields);
    response
}

/// Builds a GET request with these header fields.
fn get(fields: &[Field<'_>]) -> Request<()> {
    let mut request = Request::new(());
    append(request.headers_mut(), fields);
    request
}

fn append(headers: &mut HeaderMap, fields: &[Field<'_>]) {
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
}

/// Sends a request through the compression layer to an application that returns this response.
async fn exchange(request: Request<()>, response: Response<Full<Bytes>>) -> Response<Bytes> {
    exchange_with(CompressionLayer::new(), request, response).await
}

/// Like [`exchange`], through this layer.
async fn exchange_with(
    layer: CompressionLayer,
    request: Request<()>,
    response: Response<Full<Bytes>>,
) -> Response<Bytes> {
    let inner = service_fn(move |_: Request<()>| ready(Ok::<_, Infallible>(response.clone())));
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

/// Returns the value of a header field, or an empty string if it is missing.
fn field<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}
