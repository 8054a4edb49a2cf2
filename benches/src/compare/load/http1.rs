//! Just enough of an HTTP/1.1 client: it costs little beside what it measures, and accepts only what it expects.

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

/// One path on one proxy.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// With `{n}` for the number of an object, where there are many.
    pub(crate) path: String,
    /// What is behind the proxy.
    pub(crate) origin: SocketAddr,
    /// With it, TLS.
    pub(crate) certificate: Option<Arc<Certificate>>,
}

/// A socket, with TLS or without.
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

    /// For another protocol than HTTP/1.1, where there is TLS.
    pub(crate) fn connector_speaking(&self, protocol: &[u8]) -> Result<Option<TlsConnector>> {
        let connector =
            |certificate: &Arc<Certificate>| certificate.connector_speaking(protocol, Resumption::disabled());
        self.certificate.as_ref().map(connector).transpose()
    }

    pub(crate) async fn socket(&self, number: usize, tls: Option<&TlsConnector>) -> Result<Box<dyn Socket>> {
        let stream = self.tcp(number).await?;
        Ok(match tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.connect(HOST.try_into()?, stream).await?),
        })
    }

    /// One object of many.
    pub(crate) fn at(&self, number: u64) -> Self {
        Self { path: self.path.replace("{n}", &number.to_string()), ..self.clone() }
    }

    /// The bytes of a GET.
    pub(super) fn get(&self) -> Vec<u8> {
        format!("GET {} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", self.path).into_bytes()
    }
}

/// A connection that stays open.
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

    /// Sends a request, and reads its whole answer away. An error unless that is a 200 with its length.
    pub(super) async fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (head, length) = loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "closed before an answer");
            if let Some(found) = head(&self.buffer)? {
                break found;
            }
        };
        let mut left = (head + length).checked_sub(self.buffer.len()).context("more than the answer")?;
        while left > 0 {
            self.buffer.clear();
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "closed within an answer");
            left = left.checked_sub(read).context("more than the answer")?;
        }
        Ok(())
    }

    /// Gives the buffer back, for a connection that is to wait.
    pub(super) fn shrink(&mut self) {
        self.buffer = Vec::new();
    }
}

/// The length of the head, and that of the body after it. `None` when there is more to read.
fn head(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes)? else { return Ok(None) };
    match response.code {
        Some(200) => {}
        code => bail!("an answer was {}", code.unwrap_or_default()),
    }
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("an answer without Content-Length")?;
    Ok(Some((head, str::from_utf8(length.value)?.parse()?)))
}

/// One request on a connection of its own, by a client that takes every answer: for looking at it.
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
    fn a_head_has_its_length_and_that_of_the_body() {
        for (bytes, expected) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 17\r\n\r\nhello"[..], Some((39, 17))),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n", None),
            (b"", None),
        ] {
            assert_eq!(head(bytes).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_success_or_has_no_length_is_an_error() {
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
    async fn answers_follow_one_another_on_a_connection() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        let stream = tokio_test::io::Builder::new()
            .write(b"GET")
            .read(answer)
            .read(b"ab")
            .read(b"c")
            .write(b"GET")
            .read(answer)
            .read(b"abc")
            .write(b"GET")
            .read(b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n")
            .build();
        let mut connection = Connection::new(stream);
        connection.ask(b"GET").await.unwrap();
        connection.ask(b"GET").await.unwrap();
        assert_eq!(connection.ask(b"GET").await.unwrap_err().to_string(), "an answer was 500");
    }
}
