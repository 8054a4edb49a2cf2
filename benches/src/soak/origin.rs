//! The backend of the soak test, whose responses a client can verify byte by byte.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::origin::echo;

/// Serves the resources of the soak test.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Address to listen on.
    #[arg(long)]
    listen: SocketAddr,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(options.listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(respond));
            tokio::spawn(connection.with_upgrades());
        }
    })
}

/// Returns the content of a resource: pseudo-random bytes that depend on the seed.
pub(super) fn content(seed: u32, length: usize) -> impl Iterator<Item = u8> {
    let mut state = u64::from(seed) << 1 | 1;
    (0..length).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
}

/// Returns the content length of a cacheable resource.
pub(super) fn static_length(seed: u32) -> usize {
    200 + seed as usize * 7919 % 60_000
}

/// Returns the content of a style sheet.
pub(super) fn text(seed: u32) -> String {
    format!("a {{ color: #{:06x} }}\n", seed & 0xff_ffff).repeat(static_length(seed) / 16)
}

pub(super) const LARGE: usize = 256 << 10;
pub(super) const SMALL: usize = 500;
/// The number of chunks of `/stream`, with a pause before each chunk.
pub(super) const PARTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(40);
const SLOW: Duration = Duration::from_millis(100);

/// Returns the response for `/sink`: length and checksum of the request content.
pub(super) fn receipt(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    format!("{} {sum}", bytes.len())
}

type Body = BoxBody<Bytes, Infallible>;

async fn respond(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let (kind, seed) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    let seed: u32 = seed.split('.').next().and_then(|seed| seed.parse().ok()).unwrap_or_default();
    Ok(match kind {
        "static" => cacheable(seed, path.ends_with(".css"), request.headers()),
        "dynamic" => with(content(seed, SMALL).collect::<Vec<_>>()),
        "large" => with(content(seed, LARGE).collect::<Vec<_>>()),
        "slow" => {
            tokio::time::sleep(SLOW).await;
            with(content(seed, SMALL).collect::<Vec<_>>())
        }
        "stream" => Response::new(parts(seed)),
        "sink" => {
            let body = request.into_body().collect().await?.to_bytes();
            with(receipt(&body))
        }
        "echo" => echo(request).map(BodyExt::boxed),
        _ => {
            let mut response = with("not found");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    })
}

/// Responds with a cacheable resource that becomes stale after some seconds.
fn cacheable(seed: u32, is_text: bool, fields: &HeaderMap) -> Response<Body> {
    let tag = format!("\"{seed}\"");
    let is_match = fields.get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let response = Response::builder().header(ETAG, tag).header(CACHE_CONTROL, "max-age=7, stale-while-revalidate=5");
    let response = match is_text {
        true => response.header(CONTENT_TYPE, "text/css"),
        false => response.header(CONTENT_TYPE, "application/octet-stream"),
    };
    let response = if is_match {
        response.status(StatusCode::NOT_MODIFIED).body(Full::default().boxed())
    } else if is_text {
        response.body(Full::from(text(seed)).boxed())
    } else {
        response.body(Full::from(content(seed, static_length(seed)).collect::<Vec<_>>()).boxed())
    };
    response.unwrap_or_default()
}

fn parts(seed: u32) -> Body {
    let bytes = Bytes::from_iter(content(seed, SMALL * PARTS));
    let parts = stream::unfold(bytes, |mut left| async move {
        if left.is_empty() {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
        Some((Ok(Frame::data(left.split_to(SMALL))), left))
    });
    StreamBody::new(parts).boxed()
}

fn with(body: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(body.into()).boxed())
}
