//! A minimal HTTP/1.1 client that uses little processor time and accepts only expected responses.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::source;
use crate::compare::certificate::{Certificate, HOST};

/// The target of a load: a path on a proxy.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// The request target. `{n}` is a placeholder for the number of an object.
    pub(crate) path: String,
    /// The address of the origin.
    pub(crate) origin: SocketAddr,
    /// The certificate of the proxy, or `None` without TLS.
    pub(crate) certificate: Option<Arc<Certificate>>,
}

/// A TCP connection, with or without TLS.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

impl Target {
    pub(crate) async fn tcp(&self, number: usize) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(source(number))?;
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub(super) fn connector(&self) -> Result<Option<TlsConnector>> {
        self.certificate.as_ref().map(|certificate| certificate.connector(Resumption::disabled())).transpose()
    }

    /// Returns a TLS client that negotiates `protocol`, or `None` if the proxy has no TLS.
    pub(crate) fn connector_for(&self, protocol: &[u8]) -> Result<Option<TlsConnector>> {
        let connector = |certificate: &Arc<Certificate>| certificate.connector_for(protocol, Resumption::disabled());
        self.certificate.as_ref().map(connector).transpose()
    }

    pub(crate) async fn socket(&self, number: usize, tls: Option<&TlsConnector>) -> Result<Box<dyn Socket>> {
        let stream = self.tcp(number).await?;
        Ok(match tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.connect(HOST.try_into()?, stream).await?),
        })
    }

    /// Returns the target with the path of one object.
    pub(crate) fn at(&self, number: u64) -> Self {
        Self { path: self.path.replace("{n}", &number.to_string()), ..self.clone() }
    }

    /// Returns a GET request as bytes.
    pub(super) fn get(&self) -> Vec<u8> {
        format!("GET {} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", self.path).into_bytes()
    }
}

/// A keep-alive connection to a proxy.
pub(super) struct Connection<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(super) fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Sends a request, and reads the response, which must be a 200 with `Content-Length`.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (head, length) = loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "closed before a response");
            if let Some(found) = head(&self.buffer)? {
                break found;
            }
        };
        let mut left = (head + length).checked_sub(self.buffer.len()).context("bytes after the response")?;
        while left > 0 {
            self.buffer.clear();
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "closed within a response");
            left = left.checked_sub(read).context("bytes after the response")?;
        }
        Ok(())
    }

    /// Frees the buffer of an idle connection.
    pub(super) fn shrink(&mut self) {
        self.buffer = Vec::new();
    }
}

/// Returns the lengths of the head and body of a response, or `None` if the head is incomplete.
fn head(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes)? else { return Ok(None) };
    match response.code {
        Some(200) => {}
        code => bail!("the status is {}", code.unwrap_or_default()),
    }
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("a response without Content-Length")?;
    Ok(Some((head, str::from_utf8(length.value)?.parse()?)))
}

/// Sends one request on a new connection, and returns the response regardless of its status.
pub(crate) async fn fetch(target: &Target, fields: &[(&str, &str)]) -> Result<Response<Bytes>> {
    let socket = target.socket(0, target.connector()?.as_ref()).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::get(&target.path).header(header::HOST, HOST);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (head, body) = sender.send_request(request.body(Empty::<Bytes>::new())?).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    connection.abort();
    Ok(Response::from_parts(head, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_lengths_of_response_head_and_body() {
        for (bytes, expected) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 17\r\n\r\nhello"[..], Some((39, 17))),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n", None),
            (b"", None),
        ] {
            assert_eq!(head(bytes).unwrap(), expected);
        }
    }

    #[test]
    fn rejects_responses_with_another_status_or_without_content_length() {
        for bytes in [
            &b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"[..],
            b"HTTP/1.1 304 Not Modified\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"SSH-2.0-OpenSSH\r\n\r\n",
        ] {
            assert!(head(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[tokio::test]
    async fn reads_several_responses_on_one_connection() {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        let stream = tokio_test::io::Builder::new()
            .write(b"GET")
            .read(response)
            .read(b"ab")
            .read(b"c")
            .write(b"GET")
            .read(response)
            .read(b"abc")
            .write(b"GET")
            .read(b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n")
            .build();
        let mut connection = Connection::new(stream);
        connection.exchange(b"GET").await.unwrap();
        connection.exchange(b"GET").await.unwrap();
        assert_eq!(connection.exchange(b"GET").await.unwrap_err().to_string(), "the status is 500");
    }
}
