//! The content of an access log line: fields of a request and of its response.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, REFERER, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use rproxy_cache::CacheStatus;
use rproxy_client_ip::{ClientIp, PeerAddr};
use rproxy_core::{Authenticated, Rejection};
use rproxy_forward_headers::RequestId;
use rproxy_path_filter::PathFilterDecision;
use rproxy_rate_limit::RateLimitDecision;
use rproxy_request_guard::normalized_host;
use rproxy_server::RejectedHead;
use rproxy_upstream::ProxyError;
use rproxy_ws_passthrough::TunnelSummary;

use crate::observe::SiteLabel;

/// The fields of a request that the access log contains. They share memory with the request.
#[derive(Debug)]
pub(in crate::observe) struct LoggedRequest {
    pub(super) client: Option<IpAddr>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) scheme: Option<Scheme>,
    /// The request head, or `None` if it could not be parsed.
    pub(super) head: Option<RequestHead>,
}

#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) method: Method,
    uri: Uri,
    pub(super) version: Version,
    host: Option<HeaderValue>,
    pub(super) user_agent: Option<HeaderValue>,
    pub(super) referer: Option<HeaderValue>,
}

impl LoggedRequest {
    pub(in crate::observe) fn of<B>(request: &Request<B>) -> Self {
        let extensions = request.extensions();
        let peer = extensions.get::<PeerAddr>().map(|peer| peer.0);
        let client = extensions.get::<ClientIp>().map(|client| client.0);
        let is_rejected = extensions.get::<RejectedHead>().is_some();
        Self {
            client: client.or_else(|| peer.map(|peer| peer.ip().to_canonical())),
            peer,
            scheme: extensions.get::<Scheme>().cloned(),
            head: (!is_rejected).then(|| RequestHead::of(request)),
        }
    }
}

impl LoggedRequest {
    /// Copies the request fields, so that a long-lived record does not keep the read buffer allocated.
    pub(in crate::observe) fn detached(self) -> Self {
        Self { head: self.head.map(RequestHead::detached), ..self }
    }
}

impl RequestHead {
    fn of<B>(request: &Request<B>) -> Self {
        let field = |headers: &HeaderMap, name| headers.get(name).cloned();
        let headers = request.headers();
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            // As the backend receives it.
            host: normalized_host(request).or_else(|| field(headers, HOST)),
            user_agent: field(headers, USER_AGENT),
            referer: field(headers, REFERER),
        }
    }

    /// Copies the fields of the request head, so that they do not keep the read buffer allocated.
    fn detached(self) -> Self {
        let detached = |value: HeaderValue| HeaderValue::from_bytes(value.as_bytes()).unwrap_or(value);
        Self {
            uri: self.uri.to_string().parse().unwrap_or(self.uri),
            host: self.host.map(detached),
            user_agent: self.user_agent.map(detached),
            referer: self.referer.map(detached),
            ..self
        }
    }

    /// Returns the request target with its query, in origin-form if the target has a path.
    pub(super) fn target(&self) -> &str {
        match (self.uri.path_and_query(), self.uri.authority()) {
            (Some(target), _) => target.as_str(),
            (None, Some(authority)) => authority.as_str(),
            (None, None) => "",
        }
    }

    /// Returns the `Host` field, or the authority of an HTTP/2 request.
    pub(super) fn host(&self) -> Option<&[u8]> {
        let header = self.host.as_ref().map(HeaderValue::as_bytes);
        header.or_else(|| self.uri.authority().map(|authority| authority.as_str().as_bytes()))
    }

    pub(super) fn protocol(&self) -> &'static str {
        match self.version {
            Version::HTTP_09 => "HTTP/0.9",
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            Version::HTTP_3 => "HTTP/3.0",
            _ => "HTTP/1.1",
        }
    }
}

/// The fields of a response that the access log contains.
#[derive(Debug, Default)]
pub(in crate::observe) struct LoggedResponse {
    /// The status of the response, or `None` if the client disconnected before the response.
    pub(in crate::observe) status: Option<StatusCode>,
    pub(in crate::observe) bytes: u64,
    pub(in crate::observe) duration: Duration,
    pub(in crate::observe) aborted: bool,
    /// The site and the route that received the request, if several are configured.
    pub(super) site: Option<SiteLabel>,
    /// The user that a layer authenticated.
    pub(super) authenticated: Option<Authenticated>,
    pub(super) cache: Option<CacheStatus>,
    /// The reason of a rejection.
    pub(super) refused: Option<&'static str>,
    /// The rule that matches the path, if the request was rejected for it.
    pub(super) blocked: Option<Arc<str>>,
    pub(super) would_block: Option<Arc<str>>,
    /// Whether the request exceeded the rate limit in shadow mode.
    pub(super) would_limit: bool,
    /// The reason that the upstream sent no response or an incomplete response.
    pub(super) upstream_error: Option<String>,
    pub(super) request_id: Option<RequestId>,
    /// A summary of the tunnel that the response opened.
    pub(in crate::observe) tunnel: Option<TunnelSummary>,
}

impl LoggedResponse {
    pub(in crate::observe) fn head<B>(&mut self, response: &Response<B>, rejection: Option<&Rejection>) {
        let extensions = response.extensions();
        self.site = extensions.get().cloned();
        self.authenticated = extensions.get().cloned();
        self.cache = extensions.get().copied();
        self.refused = rejection.map(Rejection::reason);
        self.blocked = rejection.and_then(Rejection::rule).cloned();
        self.request_id = extensions.get().cloned();
        if rejection.is_some() {
            self.upstream_error = extensions.get::<ProxyError>().map(ToString::to_string);
        }
        if let Some(PathFilterDecision::WouldBlock { rule }) = extensions.get() {
            self.would_block = Some(Arc::clone(rule));
        }
        self.would_limit = matches!(extensions.get(), Some(RateLimitDecision::WouldReject { .. }));
    }

    /// Sets the reason that the backend aborted the response body.
    pub(in crate::observe) fn set_error(&mut self, why: &str) {
        self.upstream_error = Some(why.to_owned());
    }

    /// Returns the response status, or 499 (as in nginx) if the client disconnected before the response.
    pub(super) fn status(&self) -> u16 {
        self.status.map_or(499, |status| status.as_u16())
    }

    pub(super) fn milliseconds(&self) -> f64 {
        // In whole microseconds; finer differences are noise.
        self.duration.as_micros() as f64 / 1000.0
    }
}
