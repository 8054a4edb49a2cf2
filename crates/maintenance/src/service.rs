//! A service that rejects requests during maintenance.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use rproxy_client_ip::{AddressRules, ClientIp};
use rproxy_core::{Rejection, ResponseBody};
use tower_service::Service;

use crate::future::ResponseFuture;
use crate::switch::Maintenance;

/// A service that rejects requests during maintenance, see [`MaintenanceLayer`](crate::MaintenanceLayer).
#[derive(Clone, Debug)]
pub struct MaintenanceService<S> {
    inner: S,
    config: Arc<Config>,
}

/// The parts that a layer shares with its services.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) maintenance: Maintenance,
    /// The rules that allow only the addresses of exempt clients.
    // Boxed, because most layers have none.
    pub(crate) exempt: Option<Box<AddressRules>>,
}

impl<S> MaintenanceService<S> {
    pub(crate) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }

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

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for MaintenanceService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        match self.config.maintenance.retry_after() {
            Some(retry_after) if !self.config.is_exempt(&request) => ResponseFuture::response(rejection(retry_after)),
            _ => ResponseFuture::inner(self.inner.call(request)),
        }
    }
}

impl Config {
    fn is_exempt<B>(&self, request: &Request<B>) -> bool {
        let (Some(exempt), Some(client)) = (&self.exempt, request.extensions().get::<ClientIp>()) else { return false };
        exempt.decide(client.0).is_allowed()
    }
}

fn rejection(retry_after: Duration) -> Response<&'static str> {
    Rejection::new("maintenance", "maintenance", StatusCode::SERVICE_UNAVAILABLE)
        .with_message("This site is in maintenance; please try again later.")
        .with_retry_after(retry_after)
        .into_response("Service Unavailable: in maintenance\n")
}
