//! What happened: metrics always, a line per request where one is asked for.
//!
//! [`ObserveLayer`] is the outermost layer that answers, so that it sees every answer, and sees it to
//! its end: a request is recorded once, when its response *body* ends or is dropped. It reads what
//! the layers below decided from the extensions of the response.
//!
//! Without an access log a request costs two readings of the clock and a few additions to counters
//! that its worker has to itself; nothing is allocated and nothing is locked. With one, what the line
//! tells is kept from the request's start, and the line is appended to a buffer that a thread of its
//! own writes out: a slow reader of standard output costs lines ([counted](Metrics)), never time.

pub mod access_log;
mod body;
mod exchange;
mod future;
pub mod metrics;
mod warnings;

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

pub use self::access_log::AccessLog;
pub use self::body::ObserveBody;
use self::exchange::Exchange;
pub use self::future::ObserveFuture;
pub use self::metrics::Metrics;
use self::metrics::Shard;
use self::warnings::Warnings;

/// Records every request.
#[derive(Clone, Debug)]
#[must_use]
pub struct ObserveLayer {
    metrics: Metrics,
    access_log: Option<AccessLog>,
}

impl ObserveLayer {
    /// Counts into `metrics`.
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, access_log: None }
    }

    /// Writes to `access_log`, too.
    pub fn access_log(mut self, access_log: Option<AccessLog>) -> Self {
        self.access_log = access_log;
        self
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = ObserveService<S>;

    /// Services made one by one, as workers do, count apart from each other.
    fn layer(&self, inner: S) -> Self::Service {
        let lane = Lane {
            shard: self.metrics.shard(),
            access_log: self.access_log.as_ref().map(AccessLog::buffer),
            warnings: Warnings::default(),
        };
        ObserveService { inner, lane: Arc::new(lane) }
    }
}

/// Made by [`ObserveLayer`].
#[derive(Clone, Debug)]
pub struct ObserveService<S> {
    inner: S,
    lane: Arc<Lane>,
}

/// Where one worker records.
#[derive(Debug)]
struct Lane {
    shard: Shard,
    access_log: Option<access_log::Buffer>,
    warnings: Warnings,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ObserveService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body,
{
    type Response = Response<ObserveBody<ResBody>>;
    type Error = S::Error;
    type Future = ObserveFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let exchange = Exchange::begin(Arc::clone(&self.lane), &request);
        ObserveFuture::new(self.inner.call(request), exchange)
    }
}

#[cfg(test)]
mod tests;
