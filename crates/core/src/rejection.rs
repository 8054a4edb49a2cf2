//! The reason why a layer rejected a request, as a response extension.

mod proxy_error_type;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

pub use self::proxy_error_type::ProxyErrorType;

/// A response extension that marks an error response of a layer, as opposed to one of the inner service.
///
/// Layers that format, log or count error responses read this type only, and know no other layer. Each layer can take
/// part: a layer that rejects a request inserts a `Rejection` into its response, for example with
/// [`into_response`](Self::into_response).
///
/// Creating one allocates nothing, except for a [detail](RejectionDetail) or a message that is not static.
///
/// # Examples
///
/// ```
/// use http::StatusCode;
/// use rproxy_core::Rejection;
///
/// let rejection = Rejection::new("office_hours", "closed", StatusCode::FORBIDDEN)
///     .with_message("This site is open from 9 to 17.");
/// let response = rejection.into_response("Forbidden\n");
/// assert_eq!(response.status(), 403);
/// assert_eq!(response.extensions().get::<Rejection>().map(Rejection::reason), Some("closed"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    layer: &'static str,
    reason: &'static str,
    cause: &'static str,
    status: StatusCode,
    error_type: ProxyErrorType,
    message: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    detail: Option<RejectionDetail>,
    is_malformed_head: bool,
}

/// The part of a configuration that decided a rejection: for operators, never for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RejectionDetail {
    /// A rule, as it was written.
    Rule(Arc<str>),
    /// The backend that failed.
    Backend(Arc<str>),
    /// The name of a setting.
    Setting(&'static str),
}

impl Rejection {
    /// Creates a rejection by `layer`, such as `path_filter`, for `reason`, such as `blocked_path`.
    ///
    /// The reason is the value of a label in logs and metrics: one of a few, in `snake_case`. The
    /// [error type](Self::error_type) follows from the status: `http_request_error` for 400, `http_request_denied` for
    /// other client errors, `proxy_internal_error` for server errors.
    #[must_use]
    pub fn new(layer: &'static str, reason: &'static str, status: StatusCode) -> Self {
        let error_type = match status {
            StatusCode::BAD_REQUEST => ProxyErrorType::HttpRequestError,
            status if status.is_client_error() => ProxyErrorType::HttpRequestDenied,
            _ => ProxyErrorType::ProxyInternalError,
        };
        Self {
            layer,
            reason,
            cause: reason,
            status,
            error_type,
            message: None,
            retry_after: None,
            detail: None,
            is_malformed_head: false,
        }
    }

    /// Sets the cause, if a layer has several with the same reason. The default is the reason.
    #[must_use]
    pub fn with_cause(self, cause: &'static str) -> Self {
        Self { cause, ..self }
    }

    /// Sets the error type of `Proxy-Status` (RFC 9209 §2.3).
    #[must_use]
    pub fn with_error_type(self, error_type: ProxyErrorType) -> Self {
        Self { error_type, ..self }
    }

    /// Sets a sentence for the client, which may appear in the response.
    #[must_use]
    pub fn with_message(self, message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: Some(message.into()), ..self }
    }

    /// Sets the time after which the client may try again.
    #[must_use]
    pub fn with_retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    /// Sets the part of the configuration that decided.
    #[must_use]
    pub fn with_detail(self, detail: RejectionDetail) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// Marks the request head as malformed or ambiguous. A server may close a connection with many such requests.
    #[must_use]
    pub fn with_malformed_head(self) -> Self {
        Self { is_malformed_head: true, ..self }
    }

    /// Returns the layer that rejected the request.
    #[must_use]
    pub fn layer(&self) -> &'static str {
        self.layer
    }

    /// Returns the reason, as a label value for logs and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// Returns the cause: the reason, unless the layer has several causes with this reason.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        self.cause
    }

    /// Returns the status of the response.
    ///
    /// It is the status that the layer chose. Another layer may have changed that of the response: a response to a gRPC
    /// call has 200.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the error type of `Proxy-Status` (RFC 9209 §2.3).
    #[must_use]
    pub fn error_type(&self) -> ProxyErrorType {
        self.error_type
    }

    /// Returns the sentence for the client.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Returns the time after which the client may try again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns the value of `Retry-After` (RFC 9110 §10.2.3), rounded up to at least one second.
    ///
    /// A client that retries too early is rejected again.
    #[must_use]
    pub fn retry_after_field(&self) -> Option<HeaderValue> {
        let seconds = self.retry_after?.as_millis().div_ceil(1000).max(1);
        Some(HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)))
    }

    /// Returns the part of the configuration that decided.
    #[must_use]
    pub fn detail(&self) -> Option<&RejectionDetail> {
        self.detail.as_ref()
    }

    /// Returns the rule that decided, if the [detail](Self::detail) is one.
    #[must_use]
    pub fn rule(&self) -> Option<&Arc<str>> {
        match &self.detail {
            Some(RejectionDetail::Rule(rule)) => Some(rule),
            _ => None,
        }
    }

    /// Returns whether the request head is malformed or ambiguous.
    #[must_use]
    pub fn is_malformed_head(&self) -> bool {
        self.is_malformed_head
    }

    /// Returns a `text/plain` response with the status, `Retry-After` if known, and this extension.
    #[must_use]
    pub fn into_response<B>(self, body: B) -> Response<B> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some(seconds) = self.retry_after_field() {
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl RejectionDetail {
    /// Returns the rule, the backend or the name of the setting.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Rule(text) | Self::Backend(text) => text,
            Self::Setting(name) => name,
        }
    }
}

/// The text names the layer, the cause and the detail: it is for logs.
impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layer, cause, .. } = self;
        write!(f, "rejected by {layer} with {}: {cause}", self.status.as_u16())?;
        match &self.detail {
            Some(RejectionDetail::Rule(rule)) => write!(f, " (rule {rule})"),
            Some(RejectionDetail::Backend(backend)) => write!(f, " (backend {backend})"),
            Some(RejectionDetail::Setting(setting)) => write!(f, " (setting {setting})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_type_follows_from_the_status() {
        for (status, error_type) in [
            (400, "http_request_error"),
            (403, "http_request_denied"),
            (429, "http_request_denied"),
            (500, "proxy_internal_error"),
            (503, "proxy_internal_error"),
        ] {
            let rejection = Rejection::new("test", "test", StatusCode::from_u16(status).unwrap());
            assert_eq!(rejection.error_type().as_str(), error_type, "{status}");
        }
    }

    #[test]
    fn response_has_the_status_and_a_rounded_retry_after() {
        for (wait, field) in [(0, "1"), (999, "1"), (1000, "1"), (1001, "2"), (u64::MAX, "18446744073709552")] {
            let rejection = Rejection::new("test", "busy", StatusCode::SERVICE_UNAVAILABLE)
                .with_retry_after(Duration::from_millis(wait));
            let response = rejection.clone().into_response("Service Unavailable\n");
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()[RETRY_AFTER], field, "{wait}");
            assert_eq!(response.extensions().get(), Some(&rejection));
        }
        let response = Rejection::new("test", "bad", StatusCode::BAD_REQUEST).into_response(());
        assert!(!response.headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn text_names_layer_cause_and_detail() {
        let rejection = Rejection::new("filter", "blocked", StatusCode::NOT_FOUND);
        assert_eq!(rejection.to_string(), "rejected by filter with 404: blocked");
        let rejection = rejection.with_cause("dotfile").with_detail(RejectionDetail::Rule("/.env".into()));
        assert_eq!(rejection.to_string(), "rejected by filter with 404: dotfile (rule /.env)");
        assert_eq!((rejection.reason(), rejection.cause()), ("blocked", "dotfile"));
    }
}
