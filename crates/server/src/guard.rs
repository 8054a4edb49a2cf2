//! A layer that rejects ambiguous requests, and request bodies that are too large or too slow.
//!
//! hyper parses some messages leniently, as a server may. A proxy must be strict, because a backend parses the forwarded
//! request again. A request that passes this layer is unambiguous: it has a single valid `Host` in its normal form, and a
//! target in origin-form (or `*`).

mod body;
mod check;
mod future;
mod host;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{Either, Full};
use rproxy_core::{ProxyErrorType, Rejection};
use tower_layer::Layer;
use tower_service::Service;

pub use self::body::{GuardBody, RequestBodyError};
pub use self::future::ResponseFuture;
pub use self::host::normalized_host;
use crate::RejectedHead;

/// A layer that rejects ambiguous requests, and limits the size of request bodies and the time between their parts.
///
/// It also responds to heads that the server rejected ([`RejectedHead`]) and checks the host against the TLS connection,
/// which needs the request extensions of [`Server`](crate::Server). The checks of target, `Host` and body work with any
/// server.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use rproxy_server::RequestGuardLayer;
///
/// let layer = RequestGuardLayer::new().max_body(Some(8 << 20)).body_timeout(Duration::from_secs(10));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RequestGuardLayer {
    config: Arc<GuardConfig>,
}

#[derive(Clone)]
struct GuardConfig {
    max_body: Option<u64>,
    body_timeout: Duration,
    is_served: Option<Arc<IsServed>>,
}

/// A function that returns whether a host may be served on a TLS connection with the given server name.
type IsServed = dyn Fn(Option<&str>, &str) -> bool + Send + Sync;

impl RequestGuardLayer {
    /// Creates a layer that accepts any host and body size, with a body timeout of 30 s.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the maximum size of request bodies. Larger ones get 413. The default is `None`, no limit.
    pub fn max_body(mut self, bytes: Option<u64>) -> Self {
        Arc::make_mut(&mut self.config).max_body = bytes;
        self
    }

    /// Sets the maximum time between two parts of a request body; 30 s by default. Slower bodies get 408.
    ///
    /// The timeout applies only until the response begins.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.config).body_timeout = timeout;
        self
    }

    /// Responds 421 to requests over TLS for which `is_served(server_name, host)` returns false.
    ///
    /// 421 (Misdirected Request, RFC 9110 §15.5.20) is for hosts that the certificate of the connection does not cover.
    /// Requests without `Host`, which HTTP/1.0 allows, are not restricted.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_server::RequestGuardLayer;
    ///
    /// let layer = RequestGuardLayer::new().restrict_hosts(|server_name, host| server_name == Some(host));
    /// ```
    pub fn restrict_hosts(mut self, is_served: impl Fn(Option<&str>, &str) -> bool + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.config).is_served = Some(Arc::new(is_served));
        self
    }
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { max_body: None, body_timeout: Duration::from_secs(30), is_served: None }
    }
}

impl fmt::Debug for GuardConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardConfig")
            .field("max_body", &self.max_body)
            .field("body_timeout", &self.body_timeout)
            .field("is_served", &self.is_served.is_some())
            .finish()
    }
}

impl<S> Layer<S> for RequestGuardLayer {
    type Service = RequestGuardService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestGuardService { inner, config: Arc::clone(&self.config) }
    }
}

/// A service that rejects ambiguous requests and limits request bodies, see [`RequestGuardLayer`].
#[derive(Clone, Debug)]
pub struct RequestGuardService<S> {
    inner: S,
    config: Arc<GuardConfig>,
}

impl<S> RequestGuardService<S> {
    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RequestGuardService<S>
where
    S: Service<Request<GuardBody<ReqBody>>, Response = Response<ResBody>>,
    ReqBody: Body,
{
    type Response = Response<Either<ResBody, Full<Bytes>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let version = request.version();
        if let Err(rejection) = check::check(&mut request, self.config.is_served.as_deref()) {
            return ResponseFuture::rejected(version, rejection);
        }
        let (head, body) = request.into_parts();
        if body.is_end_stream() {
            let request = Request::from_parts(head, GuardBody::empty(body));
            return ResponseFuture::inner(version, self.inner.call(request), None);
        }
        if self.config.max_body.is_some_and(|max| body.size_hint().lower() > max) {
            return ResponseFuture::rejected(version, RequestRejection::BodyTooLarge);
        }
        let (body, progress) = GuardBody::new(body, self.config.max_body, self.config.body_timeout);
        ResponseFuture::inner(version, self.inner.call(Request::from_parts(head, body)), Some(progress))
    }
}

/// The reason why [`RequestGuardLayer`] rejected the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestRejection {
    /// 400, 408, 414, 431 or 501: the server rejected the head.
    Head(RejectedHead),
    /// 400: the `Host` field is missing, repeated or invalid (RFC 9112 §3.2).
    BadHost,
    /// 400: the `Host` field differs from the authority of the request target (RFC 9112 §3.2.2, RFC 9113 §8.3.1).
    HostMismatch,
    /// 400: the form of the request target is not supported (RFC 9112 §3.2).
    BadTarget,
    /// 405: the method is `CONNECT`, which a reverse proxy does not support.
    Connect,
    /// 421: the requested host is not served on this TLS connection.
    Misdirected,
    /// 413: the request body is too large.
    BodyTooLarge,
    /// 408: the client sent the request body too slowly.
    BodyTooSlow,
    /// 400: the request body is incomplete or malformed.
    BodyBroken,
}

impl RequestRejection {
    /// Returns the status of the response.
    fn status(self) -> StatusCode {
        match self {
            Self::Head(RejectedHead::TargetTooLong) => StatusCode::URI_TOO_LONG,
            Self::Head(RejectedHead::TooLarge) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Head(RejectedHead::TooSlow) | Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Head(RejectedHead::Malformed | RejectedHead::Framing)
            | Self::BadHost
            | Self::HostMismatch
            | Self::BadTarget
            | Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::Head(RejectedHead::UnknownCoding) => StatusCode::NOT_IMPLEMENTED,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Head(RejectedHead::Malformed) => "malformed",
            Self::Head(RejectedHead::Framing | RejectedHead::UnknownCoding) => "framing",
            Self::Head(RejectedHead::TargetTooLong) => "target_too_long",
            Self::Head(RejectedHead::TooLarge) => "head_too_large",
            Self::Head(RejectedHead::TooSlow) => "head_too_slow",
            Self::BadHost => "bad_host",
            Self::HostMismatch => "host_mismatch",
            Self::BadTarget => "bad_target",
            Self::Connect => "connect",
            Self::Misdirected => "misdirected",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::BodyBroken => "body_broken",
        }
    }

    fn rejection(self) -> Rejection {
        let rejection = Rejection::new(LAYER, self.reason(), self.status());
        match self {
            Self::Connect => rejection,
            Self::Head(RejectedHead::UnknownCoding) => {
                rejection.with_cause("unknown_coding").with_error_type(ProxyErrorType::HttpRequestError)
            }
            _ => rejection.with_error_type(ProxyErrorType::HttpRequestError),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Head(RejectedHead::TargetTooLong) => "URI Too Long\n",
            Self::Head(RejectedHead::TooLarge) => "Request Header Fields Too Large\n",
            Self::Head(RejectedHead::TooSlow) | Self::BodyTooSlow => "Request Timeout\n",
            Self::Head(RejectedHead::Malformed | RejectedHead::Framing)
            | Self::BadHost
            | Self::HostMismatch
            | Self::BadTarget
            | Self::BodyBroken => "Bad Request\n",
            Self::Head(RejectedHead::UnknownCoding) => "Not Implemented\n",
            Self::Connect => "Method Not Allowed\n",
            Self::Misdirected => "Misdirected Request\n",
            Self::BodyTooLarge => "Content Too Large\n",
        }
    }
}

/// The layer's name in a [`Rejection`].
const LAYER: &str = "request_guard";

/// Returns whether [`RequestGuardLayer`] rejected the head, because it is not a valid request.
#[cfg(feature = "server")]
pub(crate) fn is_malformed_head(rejection: &Rejection) -> bool {
    let is_of_body = rejection.reason().starts_with("body_");
    rejection.layer() == LAYER && !is_of_body && rejection.reason() != RequestRejection::Misdirected.reason()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rejection_has_its_reason_and_error_type() {
        use RejectedHead::{Framing, Malformed, TargetTooLong, TooLarge, TooSlow, UnknownCoding};
        use RequestRejection as R;
        let (denied, error) = ("http_request_denied", "http_request_error");
        for (rejection, status, reason, cause, error_type) in [
            (R::Head(Malformed), 400, "malformed", "malformed", error),
            (R::Head(Framing), 400, "framing", "framing", error),
            (R::Head(UnknownCoding), 501, "framing", "unknown_coding", error),
            (R::Head(TargetTooLong), 414, "target_too_long", "target_too_long", error),
            (R::Head(TooLarge), 431, "head_too_large", "head_too_large", error),
            (R::Head(TooSlow), 408, "head_too_slow", "head_too_slow", error),
            (R::BadHost, 400, "bad_host", "bad_host", error),
            (R::HostMismatch, 400, "host_mismatch", "host_mismatch", error),
            (R::BadTarget, 400, "bad_target", "bad_target", error),
            (R::Connect, 405, "connect", "connect", denied),
            (R::Misdirected, 421, "misdirected", "misdirected", error),
            (R::BodyTooLarge, 413, "body_too_large", "body_too_large", error),
            (R::BodyTooSlow, 408, "body_too_slow", "body_too_slow", error),
            (R::BodyBroken, 400, "body_broken", "body_broken", error),
        ] {
            let rejection = rejection.rejection();
            assert_eq!(rejection.status(), status, "{reason}");
            let names = (rejection.reason(), rejection.cause(), rejection.error_type().as_str());
            assert_eq!(names, (reason, cause, error_type));
            #[cfg(feature = "server")]
            assert_eq!(is_malformed_head(&rejection), !reason.starts_with("body_") && status != 421, "{reason}");
        }
    }
}
