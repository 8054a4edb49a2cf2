//! A load of unary gRPC calls over HTTP/2 with TLS.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::NamedTempFile;

use super::{Tally, Target, h2load};

/// The length of the message in bytes.
const LENGTH: u8 = 64;

pub(super) async fn run(target: &Target, connections: usize, streams: usize, duration: Duration) -> Result<Tally> {
    // h2load does not read trailers.
    check(target).await?;
    let mut file = NamedTempFile::new()?;
    file.write_all(&message())?;
    let path = file.path().to_str().context("a path that is not UTF-8")?;
    let arguments = ["-d", path, "-H", "content-type: application/grpc", "-H", "te: trailers"];
    h2load::run(target, connections, streams, &arguments, duration).await
}

/// Returns an uncompressed gRPC message with its prefix of five bytes.
fn message() -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, LENGTH];
    message.resize(5 + usize::from(LENGTH), b'x');
    message
}

/// Sends one call, and checks the message and the status in the trailer section.
async fn check(target: &Target) -> Result<()> {
    let socket = target.socket(0, target.connector_for(b"h2")?.as_ref()).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post(target.public_url())
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(Bytes::from(message())))?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?;
    connection.abort();
    ensure!(head.status == StatusCode::OK, "the status is {}", head.status);
    let status = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
    ensure!(status.is_some_and(|status| status == "0"), "the trailer section has grpc-status {status:?}");
    ensure!(body.to_bytes() == message(), "the response has another message");
    Ok(())
}
