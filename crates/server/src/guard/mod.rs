//! Refuses requests that another reader could take differently, and bodies that are too large or
//! too slow.
//!
//! hyper parses leniently where a server may; a proxy may not, because what it lets through is
//! parsed again by somebody else. What passes this layer has one reading: one valid `Host` in its
//! normal form, a target in origin-form (or `*`), one authority.

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
use tower_layer::Layer;
use tower_service::Service;

pub use self::body::{GuardBody, RequestBodyError};
pub use self::future::GuardFuture;
pub use self::host::normalized_host;
use crate::RefusedHead;

/// Refuses what has more than one reading, and bounds request bodies.
///
/// Wants `rproxy-server`'s request extensions for what only a server can know; on another server
/// the checks of target, `Host` and body hold all the same.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RequestGuardLayer {
    settings: Arc<Settings>,
}

#[derive(Clone)]
struct Settings {
    max_body: Option<u64>,
    body_timeout: Duration,
    serves: Option<Arc<Serves>>,
}

/// Whether a host is served to a client that asked for a server name.
type Serves = dyn Fn(Option<&str>, &str) -> bool + Send + Sync;

impl RequestGuardLayer {
    /// Bodies of any size, 30 s between their parts, any host.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers 413 to bodies of more than `bytes`; `None` is no limit, the default.
    pub fn max_body(mut self, bytes: Option<u64>) -> Self {
        Arc::make_mut(&mut self.settings).max_body = bytes;
        self
    }

    /// Answers 408 where the next part of a body takes longer than `timeout`, while there is no response yet. Default 30 s.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.settings).body_timeout = timeout;
        self
    }

    /// Answers 421 on TLS connections where `serves(server_name, host)` is false: a host that the connection's
    /// certificate does not vouch for (RFC 9110 §15.5.20). A request without a host, which HTTP/1.0 allows, is served.
    pub fn serves(mut self, serves: impl Fn(Option<&str>, &str) -> bool + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.settings).serves = Some(Arc::new(serves));
        self
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_body: None, body_timeout: Duration::from_secs(30), serves: None }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("max_body", &self.max_body)
            .field("body_timeout", &self.body_timeout)
            .field("serves", &self.serves.is_some())
            .finish()
    }
}

impl<S> Layer<S> for RequestGuardLayer {
    type Service = GuardService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GuardService { inner, settings: Arc::clone(&self.settings) }
    }
}

/// Made by [`RequestGuardLayer`].
#[derive(Clone, Debug)]
pub struct GuardService<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> GuardService<S> {
    /// The service inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service inside, to be changed.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service inside, without this one around it.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for GuardService<S>
where
    S: Service<Request<GuardBody<ReqBody>>, Response = Response<ResBody>>,
    ReqBody: Body,
{
    type Response = Response<Either<ResBody, Full<Bytes>>>;
    type Error = S::Error;
    type Future = GuardFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let version = request.version();
        if let Err(refusal) = check::check(&mut request, self.settings.serves.as_deref()) {
            return GuardFuture::refused(version, refusal);
        }
        let (head, body) = request.into_parts();
        if body.is_end_stream() {
            let request = Request::from_parts(head, GuardBody::empty(body));
            return GuardFuture::inner(version, self.inner.call(request), None);
        }
        if self.settings.max_body.is_some_and(|max| body.size_hint().lower() > max) {
            return GuardFuture::refused(version, RequestRefusal::BodyTooLarge);
        }
        let (body, progress) = GuardBody::new(body, self.settings.max_body, self.settings.body_timeout);
        GuardFuture::inner(version, self.inner.call(Request::from_parts(head, body)), Some(progress))
    }
}

/// Response extension: the request was refused, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestRefusal {
    /// 400, 408, 414, 431 or 501: there was no request that may be served.
    Head(RefusedHead),
    /// 400: no `Host`, more than one, or one that is no host (RFC 9112 §3.2).
    BadHost,
    /// 400: the target's authority and `Host` disagree (RFC 9112 §3.2.2, RFC 9113 §8.3.1).
    HostMismatch,
    /// 400: a target in no form that is served here (RFC 9112 §3.2).
    BadTarget,
    /// 405: `CONNECT`, which is for tunnels to anywhere.
    Connect,
    /// 421: the host is not one that this connection's certificate vouches for.
    Misdirected,
    /// 413.
    BodyTooLarge,
    /// 408: the body came too slowly.
    BodyTooSlow,
    /// 400: the body ended early or broke its framing.
    BodyBroken,
}

impl RequestRefusal {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Head(RefusedHead::TargetTooLong) => StatusCode::URI_TOO_LONG,
            Self::Head(RefusedHead::TooLarge) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Head(RefusedHead::TooSlow) | Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Head(RefusedHead::Malformed | RefusedHead::Framing)
            | Self::BadHost
            | Self::HostMismatch
            | Self::BadTarget
            | Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::Head(RefusedHead::UnknownCoding) => StatusCode::NOT_IMPLEMENTED,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// Whether there was no valid request, whatever it was for.
    #[cfg(feature = "server")]
    pub(crate) fn is_malformed(self) -> bool {
        matches!(self, Self::Head(_) | Self::BadHost | Self::HostMismatch | Self::BadTarget | Self::Connect)
    }

    fn text(self) -> &'static str {
        match self {
            Self::Head(RefusedHead::TargetTooLong) => "URI Too Long\n",
            Self::Head(RefusedHead::TooLarge) => "Request Header Fields Too Large\n",
            Self::Head(RefusedHead::TooSlow) | Self::BodyTooSlow => "Request Timeout\n",
            Self::Head(RefusedHead::Malformed | RefusedHead::Framing)
            | Self::BadHost
            | Self::HostMismatch
            | Self::BadTarget
            | Self::BodyBroken => "Bad Request\n",
            Self::Head(RefusedHead::UnknownCoding) => "Not Implemented\n",
            Self::Connect => "Method Not Allowed\n",
            Self::Misdirected => "Misdirected Request\n",
            Self::BodyTooLarge => "Content Too Large\n",
        }
    }
}
