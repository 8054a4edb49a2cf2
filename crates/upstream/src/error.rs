//! Why the upstream made no good answer.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body;

use crate::body::UpstreamBody;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Why the body of a response broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The backend ended the connection before the body.
    #[error("the backend ended the connection within a body")]
    Incomplete,
    /// The connection failed.
    #[error("the connection to the backend failed within a body")]
    Io(#[source] std::io::Error),
    /// The backend spoke nonsense.
    #[error("{0}")]
    Malformed(&'static str),
    /// The backend paused for too long, or the time for the whole exchange is up.
    #[error("the backend took too long within a body")]
    Timeout,
    /// The backend reset the HTTP/2 stream before the end of the body, with this error code (RFC 9113 §7).
    #[error("the backend reset the stream within a body, with error code {0}")]
    Reset(u32),
    /// The body of the request broke off, which ends the exchange.
    #[error("the body of the request broke off within the response: {0}")]
    Request(String),
    /// The response to a request for an upgrade or a tunnel failed.
    #[error(transparent)]
    Http(hyper::Error),
}

/// Response extension: the answer was made here, because the upstream gave none.
#[derive(Clone, Debug)]
pub struct ProxyError {
    kind: ProxyErrorKind,
    backend: Option<Arc<str>>,
    source: Option<Arc<dyn Error + Send + Sync>>,
    retry_after: Option<Duration>,
}

/// What went wrong, in the words of RFC 9209 §2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyErrorKind {
    /// The backend's name did not resolve: 502.
    DnsError,
    /// The backend refused the connection: 502.
    ConnectionRefused,
    /// No connection in time: 504.
    ConnectionTimeout,
    /// The network has no way to the backend: 502.
    DestinationIpUnroutable,
    /// The backend's certificate is not trusted or not for its name: 502.
    TlsCertificateError,
    /// The TLS handshake with the backend failed: 502.
    TlsProtocolError,
    /// The connection ended before the response head did: 502.
    ConnectionTerminated,
    /// No response head in time: 504.
    HttpResponseTimeout,
    /// The backend spoke nonsense: 502.
    HttpProtocolError,
    /// The client's body broke off, so there was nothing to answer: 400.
    HttpRequestError,
    /// Every backend is left alone for now: 503.
    DestinationUnavailable,
    /// No connection became free in time: 503.
    ConnectionLimitReached,
    /// A WebSocket for a backend that is spoken to over HTTP/2: 502.
    HttpUpgradeFailed,
}

impl ProxyErrorKind {
    /// All of them, in the order of their declaration.
    pub const ALL: &[Self] = &[
        Self::DnsError,
        Self::ConnectionRefused,
        Self::ConnectionTimeout,
        Self::DestinationIpUnroutable,
        Self::TlsCertificateError,
        Self::TlsProtocolError,
        Self::ConnectionTerminated,
        Self::HttpResponseTimeout,
        Self::HttpProtocolError,
        Self::HttpRequestError,
        Self::DestinationUnavailable,
        Self::ConnectionLimitReached,
        Self::HttpUpgradeFailed,
    ];

    /// The error type as `Proxy-Status` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DnsError => "dns_error",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionTimeout => "connection_timeout",
            Self::DestinationIpUnroutable => "destination_ip_unroutable",
            Self::TlsCertificateError => "tls_certificate_error",
            Self::TlsProtocolError => "tls_protocol_error",
            Self::ConnectionTerminated => "connection_terminated",
            Self::HttpResponseTimeout => "http_response_timeout",
            Self::HttpProtocolError => "http_protocol_error",
            Self::HttpRequestError => "http_request_error",
            Self::DestinationUnavailable => "destination_unavailable",
            Self::ConnectionLimitReached => "connection_limit_reached",
            Self::HttpUpgradeFailed => "http_upgrade_failed",
        }
    }

    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::ConnectionTimeout | Self::HttpResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::DestinationUnavailable | Self::ConnectionLimitReached => StatusCode::SERVICE_UNAVAILABLE,
            Self::HttpRequestError => StatusCode::BAD_REQUEST,
            _ => StatusCode::BAD_GATEWAY,
        }
    }
}

impl ProxyError {
    pub(crate) fn new(kind: ProxyErrorKind) -> Self {
        Self { kind, backend: None, source: None, retry_after: None }
    }

    pub(crate) fn caused(kind: ProxyErrorKind, source: impl Into<BoxError>) -> Self {
        Self { source: Some(source.into().into()), ..Self::new(kind) }
    }

    pub(crate) fn unavailable(retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(ProxyErrorKind::DestinationUnavailable) }
    }

    pub(crate) fn at(self, backend: &Arc<str>) -> Self {
        Self { backend: Some(Arc::clone(backend)), ..self }
    }

    /// What went wrong.
    pub fn kind(&self) -> ProxyErrorKind {
        self.kind
    }

    /// The backend that was tried last. For logs; not for clients.
    pub fn backend(&self) -> Option<&str> {
        self.backend.as_deref()
    }

    pub(crate) fn into_response<B: Body + 'static>(self) -> Response<UpstreamBody<B>> {
        let status = self.kind.status();
        let text = match status {
            StatusCode::GATEWAY_TIMEOUT => "Gateway Timeout\n",
            StatusCode::SERVICE_UNAVAILABLE => "Service Unavailable\n",
            StatusCode::BAD_REQUEST => "Bad Request\n",
            _ => "Bad Gateway\n",
        };
        let mut response = Response::new(UpstreamBody::full(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let after = self.retry_after.unwrap_or_default();
            // Rounded up: a client that comes back too early is refused again.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1000).max(1) as u64));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The connection ended before the response head did.
impl From<std::io::Error> for ProxyError {
    fn from(error: std::io::Error) -> Self {
        Self::caused(ProxyErrorKind::ConnectionTerminated, error)
    }
}

impl From<http::Error> for ProxyError {
    fn from(error: http::Error) -> Self {
        Self::caused(ProxyErrorKind::HttpRequestError, error)
    }
}

/// Its message names what caused it.
impl Error for ProxyError {}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if let Some(backend) = &self.backend {
            write!(f, " ({backend})")?;
        }
        // hyper says what, its source why.
        let mut source = self.source.as_deref().map(|source| source as &dyn Error);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
