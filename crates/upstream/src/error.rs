//! Errors of requests to backends, and the error responses to clients.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use rproxy_core::{ProxyErrorType, Rejection, RejectionDetail};
use rproxy_http1::InvalidResponseHead;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// An error while reading the body of a response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The backend closed the connection before the end of the response body.
    #[error("the backend closed the connection before the end of the response body")]
    Incomplete,
    /// The connection to the backend failed before the end of the response body.
    #[error("the connection to the backend failed before the end of the response body")]
    Io(#[source] std::io::Error),
    /// The response body is malformed, for example its chunked framing.
    #[error("{0}")]
    Malformed(&'static str),
    /// The read timeout or the request timeout expired before the end of the response body.
    #[error("timeout waiting for the rest of the response body")]
    Timeout,
    /// The backend reset the HTTP/2 stream before the end of the body, with this error code (RFC 9113 §7).
    #[error("the backend reset the stream with error code {0} before the end of the response body")]
    Reset(u32),
    /// The request body failed, which aborts the response.
    #[error("the request body failed before the end of the response: {0}")]
    Request(String),
    /// The response body of an upgrade or an extended CONNECT failed.
    #[error(transparent)]
    Http(hyper::Error),
}

/// The error for a malformed or ambiguous response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error(transparent)]
    Head(#[from] InvalidResponseHead),
    #[error("the backend sent an unexpected 101 response or too many interim responses")]
    UnexpectedInterimResponse,
}

/// The error for invalid settings of an [`Upstream`](crate::Upstream).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The upstream has no backend.
    #[error("an upstream needs at least one backend")]
    NoBackend,
    /// A root certificate for TLS to backends is not valid.
    #[error("bad root certificate for upstream TLS")]
    Root(#[source] rustls::Error),
    /// The client certificate for TLS to backends, or its key, is not valid.
    #[error("bad client certificate for upstream TLS")]
    Identity(#[source] rustls::Error),
}

/// A response extension with the error of a request that received no valid response from a backend.
///
/// The [`Upstream`](crate::Upstream) generates the response in this case.
#[derive(Clone, Debug)]
pub struct ProxyError {
    kind: ProxyErrorKind,
    backend: Option<Arc<str>>,
    source: Option<Arc<dyn Error + Send + Sync>>,
    retry_after: Option<Duration>,
}

/// The kind of a [`ProxyError`], named after the error types of RFC 9209 §2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyErrorKind {
    /// The DNS lookup of the backend's host name failed. The status is 502.
    DnsError,
    /// The backend refused the connection. The status is 502.
    ConnectionRefused,
    /// The timeout for connecting to the backend expired. The status is 504.
    ConnectionTimeout,
    /// The network has no route to the backend. The status is 502.
    DestinationIpUnroutable,
    /// The backend's certificate is not trusted or is for a different name. The status is 502.
    TlsCertificateError,
    /// The TLS handshake with the backend failed. The status is 502.
    TlsProtocolError,
    /// The backend closed the connection before the end of the response head. The status is 502.
    ConnectionTerminated,
    /// The timeout for the response head or for the request expired. The status is 504.
    HttpResponseTimeout,
    /// The response of the backend is malformed. The status is 502.
    HttpProtocolError,
    /// The client's request body failed, or the request cannot be forwarded. The status is 400.
    HttpRequestError,
    /// All backends are unhealthy or ejected. The status is 503.
    DestinationUnavailable,
    /// No backend connection or HTTP/2 stream became available within the queue timeout. The status is 503.
    ConnectionLimitReached,
    /// The HTTP/2 backend does not support WebSockets (RFC 8441). The status is 502.
    HttpUpgradeFailed,
}

impl ProxyErrorKind {
    /// All error kinds, in the order of their declaration.
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

    /// Returns the name of the error type, such as `connection_refused`.
    pub fn as_str(self) -> &'static str {
        self.error_type().as_str()
    }

    /// Returns the error type of `Proxy-Status` (RFC 9209).
    pub fn error_type(self) -> ProxyErrorType {
        match self {
            Self::DnsError => ProxyErrorType::DnsError,
            Self::ConnectionRefused => ProxyErrorType::ConnectionRefused,
            Self::ConnectionTimeout => ProxyErrorType::ConnectionTimeout,
            Self::DestinationIpUnroutable => ProxyErrorType::DestinationIpUnroutable,
            Self::TlsCertificateError => ProxyErrorType::TlsCertificateError,
            Self::TlsProtocolError => ProxyErrorType::TlsProtocolError,
            Self::ConnectionTerminated => ProxyErrorType::ConnectionTerminated,
            Self::HttpResponseTimeout => ProxyErrorType::HttpResponseTimeout,
            Self::HttpProtocolError => ProxyErrorType::HttpProtocolError,
            Self::HttpRequestError => ProxyErrorType::HttpRequestError,
            Self::DestinationUnavailable => ProxyErrorType::DestinationUnavailable,
            Self::ConnectionLimitReached => ProxyErrorType::ConnectionLimitReached,
            Self::HttpUpgradeFailed => ProxyErrorType::HttpUpgradeFailed,
        }
    }

    /// Returns the status code of the error response.
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

    /// Creates an error of this kind with a cause.
    pub(crate) fn caused(kind: ProxyErrorKind, source: impl Into<BoxError>) -> Self {
        Self { source: Some(source.into().into()), ..Self::new(kind) }
    }

    /// Creates the error for a request for which no backend is available.
    pub(crate) fn unavailable(retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(ProxyErrorKind::DestinationUnavailable) }
    }

    /// Sets the backend to which the failed attempt was made.
    pub(crate) fn at(self, backend: &Arc<str>) -> Self {
        Self { backend: Some(Arc::clone(backend)), ..self }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ProxyErrorKind {
        self.kind
    }

    /// Returns the name of the backend of the last attempt, for logs. It is not sent to clients.
    pub fn backend(&self) -> Option<&str> {
        self.backend.as_deref()
    }

    /// Creates the error response for the client, with a body that `body` creates from its text.
    pub(crate) fn into_response<B>(self, body: impl FnOnce(Bytes) -> B) -> Response<B> {
        let status = self.kind.status();
        let text = match status {
            StatusCode::GATEWAY_TIMEOUT => "Gateway Timeout\n",
            StatusCode::SERVICE_UNAVAILABLE => "Service Unavailable\n",
            StatusCode::BAD_REQUEST => "Bad Request\n",
            _ => "Bad Gateway\n",
        };
        let mut rejection = Rejection::new("upstream", "upstream", status)
            .with_cause(self.kind.as_str())
            .with_error_type(self.kind.error_type());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            rejection = rejection.with_retry_after(self.retry_after.unwrap_or_default());
        }
        if let Some(backend) = &self.backend {
            rejection = rejection.with_detail(RejectionDetail::Backend(Arc::clone(backend)));
        }
        let mut response = rejection.into_response(body(Bytes::from_static(text.as_bytes())));
        response.extensions_mut().insert(self);
        response
    }
}

/// Creates the error for a connection that was closed before the end of the response head.
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

/// An error without `source`, because the message already contains the causes.
impl Error for ProxyError {}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if let Some(backend) = &self.backend {
            write!(f, " ({backend})")?;
        }
        // The message of hyper says what failed, and its source the reason.
        let mut source = self.source.as_deref().map(|source| source as &dyn Error);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
