//! The layers in front of all sites, and the selection of the site for a request.

mod router;
mod worker_upstreams;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use rproxy_client_ip::ClientIpLayer;
use rproxy_request_guard::GuardBody;
use rproxy_router::RouteTable;
use rproxy_server::TlsInfo;
use rproxy_tls::Certificates;
use rproxy_upstream::Backends;
use tower::{BoxError, Service, ServiceBuilder};

use self::router::SiteRouter;
pub(crate) use self::worker_upstreams::WorkerUpstreams;
use crate::config::{Config, TlsHost};
use crate::layers::{StackError, request_guard};
use crate::observe::{ObserveLayer, SiteLabel};
use crate::site::{AuthClients, SiteStack};
use crate::state::ProcessState;

/// The complete stack of layers between a server and the backends. See [`stack`](crate::stack()).
#[derive(Clone, Debug)]
pub struct Stack {
    pub(crate) client_ip: ClientIpLayer,
    pub(crate) observe: ObserveLayer,
    pub(crate) routes: Routes,
    /// The backends of all sites and routes, without duplicates.
    pub(crate) backends: Vec<Backends>,
}

/// The stacks of all sites and routes, and the table that maps requests to them.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    pub(crate) table: Arc<RouteTable>,
    /// The index of each site's stack, by the index of the site in the table.
    pub(crate) sites: Arc<[usize]>,
    /// The stacks of all sites. The stack of a site precedes those of its routes.
    pub(crate) stacks: Vec<SiteStack>,
    /// The index into the list of backends, for each stack.
    pub(crate) backends: Vec<usize>,
    /// The name of each stack in logs and metrics; empty if no sites and routes are configured.
    pub(crate) labels: Arc<[SiteLabel]>,
    /// The index of the stack that rejects unknown hosts and ambiguous paths.
    pub(crate) rejecting: usize,
}

impl Stack {
    /// Wraps `inner` in the layers of all sites, in order from the client to the backend.
    pub fn wrap<B, S, R>(
        &self,
        inner: S,
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
            + Sync
            + 'static,
        R: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
    {
        self.route(vec![inner; self.routes.stacks.len()])
    }

    /// Returns a service for one worker: the layers around the backends, with a separate connection pool.
    pub fn service<B>(
        &self,
    ) -> impl Service<
        Request<B>,
        Response = Response<impl Body<Data = Bytes, Error = BoxError> + Send + use<B>>,
        Error = Infallible,
        Future: Send,
    >
    + Clone
    + Send
    + 'static
    + use<B>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        self.worker_service(&mut WorkerUpstreams::default())
    }

    /// Returns a service for one worker, with the connection pools that its previous service had.
    pub(crate) fn worker_service<B>(
        &self,
        upstreams: &mut WorkerUpstreams<B>,
    ) -> impl Service<
        Request<B>,
        Response = Response<impl Body<Data = Bytes, Error = BoxError> + Send + use<B>>,
        Error = Infallible,
        Future: Send,
    >
    + Clone
    + Send
    + 'static
    + use<B>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let upstreams = upstreams.replace(&self.backends);
        self.route(self.routes.backends.iter().map(|index| upstreams[*index].clone()).collect())
    }

    /// Returns the layers in front of all sites, around a router that selects the stack for each request.
    fn route<B, S, R>(
        &self,
        inner: Vec<S>,
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
            + Sync
            + 'static,
        R: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
    {
        let mut clients = AuthClients::default();
        let stacks = self.routes.stacks.iter().zip(inner).map(|(stack, inner)| stack.wrap(inner, &mut clients));
        ServiceBuilder::new()
            // The client address, which logs, limits and header fields use.
            .layer(self.client_ip.clone())
            // Records every response, and its body to the end.
            .layer(self.observe.clone())
            .service(SiteRouter::new(&self.routes, stacks.collect()))
    }

    /// Returns a future that runs the health checks of all backends until it is dropped.
    pub fn run_health_checks(&self) -> impl Future<Output = ()> + Send + use<> {
        let checks: Vec<_> = self.backends.iter().map(Backends::run_health_checks).collect();
        async move {
            futures_util::future::join_all(checks).await;
        }
    }

    /// Rejects requests for hosts that neither the certificates nor `hosts` cover with 421.
    pub(crate) fn with_certificates(mut self, certificates: Certificates, hosts: Vec<TlsHost>) -> Self {
        let hosts: Arc<[TlsHost]> = hosts.into();
        for stack in &mut self.routes.stacks {
            let (certificates, hosts, notices) = (certificates.clone(), Arc::clone(&hosts), self.observe.notices());
            stack.guard = stack.guard.clone().restrict_hosts(move |extensions, host| {
                let Some(tls) = extensions.get::<TlsInfo>() else { return true };
                let name = tls.server_name.as_deref();
                let is_served = certificates.covers(name, host) || hosts.iter().any(|served| served.matches(host));
                if !is_served {
                    notices.unserved_host(host, &request_guard::misdirected());
                }
                is_served
            });
        }
        self
    }
}

/// Returns descriptions of the layers, in order from the client to the backends, for `--check`.
pub fn layers(config: &Config) -> Vec<String> {
    [
        Some(config.client_ip.describe()),
        Some("Observe          metrics, access log".to_owned()),
        config.header_rules.describe_response(),
        Some(config.error_pages.describe()),
        Some(config.security_headers.describe()),
        config.access.describe_address_filter(),
        config.rate_limit.describe(),
        Some("RequestGuard     rejects malformed and ambiguous requests".to_owned()),
        config.maintenance.describe(),
        config.path_filter.describe(),
        Some(config.websocket.describe()),
        Some(config.forward_headers.describe()),
        config.access.describe_basic_auth(),
        config.access.describe_forward_auth(),
        config.tls.describe(),
        config.routing.describe_target_rules(),
        config.header_rules.describe_request(),
        config.cache.describe(),
        config.compression.describe(),
        config.static_files.describe_static_files(),
        config.static_files.describe_send_file().filter(|_| !config.serves_files_only()),
        Some(config.upstream.describe()).filter(|_| !config.serves_files_only()),
        config.application.describe(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Builds the stack of layers that `config` describes, for use in another program.
///
/// The server must add the peer address to each request, as `rproxy_client_ip::PeerAddr` or, with the feature
/// `axum`, as axum's `ConnectInfo<SocketAddr>`. Without it, every response is a 500.
///
/// # Errors
///
/// Returns an error for problems that validation of the configuration cannot find: see [`StackError`].
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = rproxy::Config::default();
/// let stack = rproxy::stack(&config)?;
/// let app: axum::Router = axum::Router::new().fallback_service(stack.service::<axum::body::Body>());
/// # let _ = app;
/// # Ok(())
/// # }
/// ```
pub fn stack(config: &Config) -> Result<Stack, StackError> {
    ProcessState::open(config)?.stack(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use http_body_util::{BodyExt, Full};
    use rproxy_client_ip::PeerAddr;
    use rproxy_core::{Rejection, RejectionDetail};
    use rproxy_server::LoopbackClient;
    use tower::{ServiceExt, service_fn};

    /// A service of another program, which rejects all requests.
    async fn closed<B>(_: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
        let rejection = Rejection::new("office_hours", "closed", StatusCode::FORBIDDEN)
            .with_message("Open from 9 to 17.")
            .with_detail(RejectionDetail::Setting("OPENING_HOURS"));
        Ok(rejection.into_response(Full::from("Forbidden\n")))
    }

    #[tokio::test]
    async fn rejection_by_a_custom_layer_is_formatted_and_counted() {
        let stack = stack(&Config::default()).unwrap();
        let service = stack.wrap(service_fn(closed));
        let answer = async |accept: &str| {
            let request = Request::get("/")
                .header("host", "localhost")
                .header("accept", accept)
                .extension(PeerAddr("127.0.0.1:4711".parse().unwrap()))
                .extension(LoopbackClient);
            let request = request.body(Full::<Bytes>::default()).unwrap();
            let (head, body) = service.clone().oneshot(request).await.unwrap().into_parts();
            assert_eq!(head.headers["proxy-status"], "rproxy; error=http_request_denied");
            String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
        };
        assert!(answer("application/json").await.contains(r#""status":403,"detail":"Open from 9 to 17.""#));
        let page = answer("text/html").await;
        assert!(page.contains("<p>Open from 9 to 17.</p>"), "{page}");
        assert!(page.contains("Rejected by office_hours with 403: closed (setting OPENING_HOURS)."), "{page}");
        let metrics = stack.observe.metrics().exposition();
        assert!(metrics.contains("rproxy_refused_requests_total{reason=\"closed\"} 2"), "{metrics}");
    }
}
