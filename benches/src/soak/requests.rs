//! Test requests over HTTP/1.1 and HTTP/2, and the checks of their responses.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use futures_util::stream;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HOST as HOST_FIELD, IF_NONE_MATCH};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::{Authority, HOST};
use super::origin::{LARGE, PARTS, SMALL, content, receipt, static_length, text};
use super::tally::Failure;

/// The proxy under test, and the TLS clients that connect to it.
#[derive(Clone)]
pub(super) struct Target {
    address: SocketAddr,
    /// The HTTP/2 client, or `None` if the proxy has no TLS and therefore no HTTP/2.
    tls: Option<Connectors>,
}

#[derive(Clone)]
struct Connectors {
    http1: TlsConnector,
    http2: TlsConnector,
}

/// A stream with or without TLS.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {
    fn socket(&self) -> &TcpStream;
}

impl Transport for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Transport for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl Target {
    pub(super) fn new(address: SocketAddr, authority: Option<&Authority>) -> Result<Self> {
        let connectors = |authority: &Authority| {
            anyhow::Ok(Connectors { http1: authority.connector(b"http/1.1")?, http2: authority.connector(b"h2")? })
        };
        Ok(Self { address, tls: authority.map(connectors).transpose()? })
    }

    pub(super) async fn tcp(&self, from: Ipv4Addr) -> Result<TcpStream, Failure> {
        let socket = TcpSocket::new_v4().map_err(Failure::proxy)?;
        socket.bind((from, 0).into()).map_err(Failure::proxy)?;
        let stream = socket.connect(self.address).await.context("connecting").map_err(Failure::Proxy)?;
        stream.set_nodelay(true).map_err(Failure::proxy)?;
        Ok(stream)
    }

    async fn tls(&self, from: Ipv4Addr, connector: &TlsConnector) -> Result<TlsStream<TcpStream>, Failure> {
        let name = HOST.try_into().map_err(Failure::proxy)?;
        let stream = self.tcp(from).await?;
        connector.connect(name, stream).await.context("TLS handshake").map_err(Failure::Proxy)
    }

    /// Opens a connection for raw bytes, which negotiates HTTP/1.1.
    pub(super) async fn raw(&self, from: Ipv4Addr) -> Result<Box<dyn Transport>, Failure> {
        Ok(match &self.tls {
            Some(connectors) => Box::new(self.tls(from, &connectors.http1).await?),
            None => Box::new(self.tcp(from).await?),
        })
    }

    pub(super) async fn http1(&self, from: Ipv4Addr) -> Result<Connection, Failure> {
        let stream = TokioIo::new(self.raw(from).await?);
        let (sender, connection) = http1::handshake(stream).await.map_err(Failure::proxy)?;
        tokio::spawn(connection);
        Ok(Connection::Http1(sender))
    }

    /// Opens an HTTP/2 connection. Returns `None` if the proxy has no TLS.
    pub(super) async fn http2(&self, from: Ipv4Addr) -> Result<Option<Connection>, Failure> {
        let Some(connectors) = &self.tls else { return Ok(None) };
        let stream = TokioIo::new(self.tls(from, &connectors.http2).await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.map_err(Failure::proxy)?;
        tokio::spawn(connection);
        Ok(Some(Connection::Http2(sender)))
    }

    /// Returns the URL of a path on the proxy. `scheme` is `http` or `ws`; TLS appends an `s`.
    pub(super) fn url(&self, scheme: &str, path: &str) -> String {
        let secure = if self.tls.is_some() { "s" } else { "" };
        format!("{scheme}{secure}://{HOST}:{}{path}", self.address.port())
    }
}

type Body = BoxBody<Bytes, Infallible>;

/// An open HTTP/1.1 or HTTP/2 connection to the proxy.
pub(super) enum Connection {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    /// Returns a handle for concurrent HTTP/2 requests, or `None` for HTTP/1.1.
    pub(super) fn share(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(sender) => Some(Self::Http2(sender.clone())),
        }
    }

    /// Returns whether the connection accepts another request.
    pub(super) async fn is_open(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn exchange(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }

    /// Sends a request, and checks the response. Returns `Ok(false)` if the rate limit rejected it.
    pub(super) async fn send(
        &mut self,
        target: &Target,
        test: &TestRequest,
        fields: &[(&str, String)],
    ) -> Result<bool, Failure> {
        let request = test.request(target, fields, matches!(self, Self::Http2(_))).map_err(Failure::Proxy)?;
        let exchange = async {
            let sent = self.exchange(request).await;
            let response = sent.with_context(|| format!("{test:?}")).map_err(Failure::Upstream)?;
            let (head, body) = response.into_parts();
            let body =
                body.collect().await.with_context(|| format!("{test:?}: the body")).map_err(Failure::Upstream)?;
            Ok((head, body.to_bytes()))
        };
        let waited = tokio::time::timeout(TIMEOUT, exchange).await;
        let (head, body) = waited.map_err(|_| Failure::Proxy(anyhow!("{test:?}: no response in {TIMEOUT:?}")))??;
        match head.status {
            StatusCode::TOO_MANY_REQUESTS if head.headers.contains_key("retry-after") => return Ok(false),
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                let why = head.headers.get("proxy-status").map(|why| why.to_str().unwrap_or_default().to_owned());
                let why =
                    why.ok_or_else(|| Failure::Proxy(anyhow!("{test:?}: {} without Proxy-Status", head.status)))?;
                return Err(Failure::Upstream(anyhow!("{test:?}: {} {why}", head.status)));
            }
            status if status != test.status() => return Err(Failure::Proxy(anyhow!("{test:?}: {status}"))),
            _ => {}
        }
        match test.matches(&head, &body) {
            true => Ok(true),
            false => Err(Failure::Proxy(anyhow!(
                "{test:?}: an unexpected response of {} bytes: {:?}",
                body.len(),
                head.headers
            ))),
        }
    }
}

/// The response timeout, which is longer than any backend outage.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A request with a known expected response.
#[derive(Clone, Debug)]
pub(super) enum TestRequest {
    /// A request for cacheable binary content.
    Static(u32),
    /// A request for cacheable text that is compressed with gzip.
    StyleSheet(u32),
    /// A conditional request that is expected to receive 304.
    Conditional(u32),
    Dynamic(u32),
    Head(u32),
    Large(u32),
    Slow(u32),
    /// A request whose response body arrives in delayed chunks.
    Stream(u32),
    Upload {
        seed: u32,
        length: usize,
        is_chunked: bool,
    },
    /// A request for a path that the path filter blocks.
    Blocked,
}

impl TestRequest {
    /// Returns a random request, mostly for cacheable content and rarely for large content.
    pub(super) fn random() -> Self {
        let seed = fastrand::u32(..);
        // All of them together exceed the cache size.
        let stored = fastrand::u32(..300).min(fastrand::u32(..300));
        match fastrand::u32(..100) {
            0..25 => Self::Static(stored),
            25..40 => Self::StyleSheet(stored),
            40..47 => Self::Conditional(stored),
            47..70 => Self::Dynamic(seed),
            70..74 => Self::Head(seed),
            74..77 => Self::Large(seed),
            77..82 => Self::Slow(seed),
            82..85 => Self::Stream(seed),
            85..96 => Self::Upload { seed, length: fastrand::usize(..40_000), is_chunked: fastrand::bool() },
            _ => Self::Blocked,
        }
    }

    fn path(&self) -> String {
        match self {
            Self::Static(seed) | Self::Conditional(seed) => format!("/static/{seed}.bin"),
            Self::StyleSheet(seed) => format!("/static/{seed}.css"),
            Self::Dynamic(seed) | Self::Head(seed) => format!("/dynamic/{seed}"),
            Self::Large(seed) => format!("/large/{seed}"),
            Self::Slow(seed) => format!("/slow/{seed}"),
            Self::Stream(seed) => format!("/stream/{seed}"),
            Self::Upload { .. } => "/sink".to_owned(),
            Self::Blocked => "/.env".to_owned(),
        }
    }

    fn request(&self, target: &Target, fields: &[(&str, String)], is_http2: bool) -> Result<Request<Body>> {
        let method = match self {
            Self::Head(_) => Method::HEAD,
            Self::Upload { .. } => Method::POST,
            _ => Method::GET,
        };
        let mut request = Request::builder().method(method);
        request = match is_http2 {
            true => request.uri(target.url("http", &self.path())),
            false => request.uri(self.path()).header(HOST_FIELD, HOST),
        };
        for (name, value) in fields {
            request = request.header(*name, value);
        }
        request = match self {
            Self::StyleSheet(_) => request.header(ACCEPT_ENCODING, "gzip"),
            Self::Conditional(seed) => request.header(IF_NONE_MATCH, format!("\"{seed}\"")),
            _ => request,
        };
        let body = match self {
            Self::Upload { is_chunked: true, .. } => {
                let bytes = self.content();
                let parts: Vec<_> = bytes.chunks(7000).map(|part| Ok(Frame::data(bytes.slice_ref(part)))).collect();
                StreamBody::new(stream::iter(parts)).boxed()
            }
            _ => Full::new(self.content()).boxed(),
        };
        Ok(request.body(body)?)
    }

    fn content(&self) -> Bytes {
        match self {
            Self::Upload { seed, length, .. } => content(*seed, *length).collect(),
            _ => Bytes::new(),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Conditional(_) => StatusCode::NOT_MODIFIED,
            Self::Blocked => StatusCode::NOT_FOUND,
            _ => StatusCode::OK,
        }
    }

    fn matches(&self, head: &http::response::Parts, body: &[u8]) -> bool {
        let is = |seed: u32, length: usize| body.len() == length && content(seed, length).eq(body.iter().copied());
        match self {
            Self::Static(seed) => is(*seed, static_length(*seed)),
            // The proxy does not compress short ones.
            Self::StyleSheet(seed) => match head.headers.get(CONTENT_ENCODING) {
                Some(coding) => coding == "gzip" && !body.is_empty(),
                None => body == text(*seed).as_bytes(),
            },
            Self::Conditional(_) | Self::Head(_) => body.is_empty(),
            Self::Dynamic(seed) | Self::Slow(seed) => is(*seed, SMALL),
            Self::Large(seed) => is(*seed, LARGE),
            Self::Stream(seed) => is(*seed, SMALL * PARTS),
            Self::Upload { .. } => body == receipt(&self.content()).as_bytes(),
            Self::Blocked => body == b"Not Found\n",
        }
    }
}
