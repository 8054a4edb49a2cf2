//! The stack of layers of one site or route.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use rproxy_access::AddressFilterLayer;
use rproxy_cache::{CacheLayer, DefaultLifetimeLayer};
use rproxy_client_cert::ClientCertificateLayer;
use rproxy_compression::CompressionLayer;
use rproxy_core::OptionalLayer;
use rproxy_forward_headers::ForwardHeadersLayer;
use rproxy_header_rules::HeaderRulesLayer;
use rproxy_maintenance::MaintenanceLayer;
use rproxy_path_filter::PathFilterLayer;
use rproxy_rate_limit::RateLimitLayer;
use rproxy_request_guard::{GuardBody, RequestGuardLayer};
use rproxy_security_headers::SecurityHeadersLayer;
use rproxy_target_rules::TargetRulesLayer;
use rproxy_ws_passthrough::WsPassthroughLayer;
use tower::{BoxError, Service, ServiceBuilder};

use super::authentication::{AuthClients, Authentication};
use super::handler::{Handler, HandlerService};
use crate::error_response::{ErrorResponseLayer, mark_backend_error};

/// The layers of one site or route, from the client to the backend.
#[derive(Clone, Debug)]
pub(crate) struct SiteStack {
    pub(crate) response_rules: HeaderRulesLayer,
    pub(crate) error_response: ErrorResponseLayer,
    pub(crate) security_headers: SecurityHeadersLayer,
    pub(crate) address_filter: Option<AddressFilterLayer>,
    pub(crate) rate_limit: Option<RateLimitLayer>,
    pub(crate) guard: RequestGuardLayer,
    pub(crate) maintenance: MaintenanceLayer,
    pub(crate) path_filter: Option<PathFilterLayer>,
    pub(crate) ws_passthrough: WsPassthroughLayer,
    pub(crate) forward_headers: ForwardHeadersLayer,
    pub(crate) authentication: Option<Authentication>,
    pub(crate) client_certificate: ClientCertificateLayer,
    pub(crate) target_rules: Option<TargetRulesLayer>,
    pub(crate) request_rules: HeaderRulesLayer,
    pub(crate) cache: Option<CacheLayer>,
    pub(crate) default_lifetime: DefaultLifetimeLayer,
    pub(crate) compression: Option<CompressionLayer>,
    pub(crate) handler: Handler,
}

impl SiteStack {
    /// Wraps `inner` in the layers, with the first layer closest to the client. `clients` connect to authentication services.
    pub(crate) fn wrap<B, S, R>(
        &self,
        inner: S,
        clients: &mut AuthClients,
    ) -> impl Service<
        Request<B>,
        Response = Response<impl Body<Data = Bytes, Error = BoxError> + Send + use<B, S, R>>,
        Error = Infallible,
        Future: Send,
    >
    + Clone
    + Send
    + 'static
    + use<B, S, R>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
        S: Service<Request<GuardBody<B>>, Response = Response<R>, Error = Infallible, Future: Send + 'static>
            + Clone
            + Send
            + 'static,
        R: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
    {
        ServiceBuilder::new()
            // The header rules of the operator win over the fields of all layers.
            .layer(self.response_rules.clone())
            // Error responses in the format that the client prefers. Catches panics.
            .layer(self.error_response.clone())
            // Outside of every layer that rejects, so that error responses have these fields, too.
            .layer(self.security_headers.clone())
            // 403. It only needs the client address.
            .layer(OptionalLayer::new(self.address_filter.clone()))
            // 429. Before the guard, so that malformed requests count, too: it only needs the client address.
            .layer(OptionalLayer::new(self.rate_limit.clone()))
            // Rejects malformed and ambiguous requests with 400, before other layers interpret them.
            .layer(self.guard.clone())
            // 503 while the site is in maintenance. After the rate limit and the guard, whose rejections stay the same, and before
            // everything that the site does.
            .layer(self.maintenance.clone())
            // Rejects blocked paths with 404.
            .layer(OptionalLayer::new(self.path_filter.clone()))
            // Forwards the handshake, then tunnels the bytes past the layers below.
            .layer(self.ws_passthrough.clone())
            // Sets the forwarding headers, before the cache compares request headers (`Vary`).
            .layer(self.forward_headers.clone())
            // 401, 429, or the response of an authentication service. After spoofed fields were removed, and before the cache.
            .layer(OptionalLayer::new(self.authentication.as_ref().map(|authentication| authentication.layer(clients))))
            // Sets the client certificate header, after spoofed ones were removed.
            .layer(self.client_certificate.clone())
            // Redirects, rewrites and fixed responses, after the scheme is known. The path filter checks rewritten paths, too.
            .layer(OptionalLayer::new(self.target_rules.clone()))
            // After spoofed fields were removed, and before the cache compares request headers.
            .layer(self.request_rules.clone())
            // Error pages replace the errors of the backend, also from the cache, and not the responses of the layers above.
            .map_response(mark_backend_error)
            // Responds to a cache hit. An empty body lets the cache repeat a request.
            .layer(OptionalLayer::new(self.cache.clone().map(|cache| cache.empty_body(GuardBody::<B>::default))))
            // Lifetimes for responses without caching fields, which the cache and browsers store.
            .layer(self.default_lifetime.clone())
            // Below the cache: a response is compressed once and served many times.
            .layer(OptionalLayer::new(self.compression))
            // Files and the backends, or a redirect.
            .service(HandlerService::new(self.handler.clone(), inner))
    }
}
