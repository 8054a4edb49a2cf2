//! Records requests in metrics and in an optional access log.
//!
//! [`ObserveLayer`] is the outermost layer that responds, so it sees every response to its end: a request is recorded
//! once, when its response *body* ends or is dropped. The decisions of the inner layers are read from the extensions
//! of the response.
//!
//! Without an access log, a request costs two readings of the clock and a few additions to counters of its worker,
//! without allocations or locks. With an access log, the request's fields are kept until the end, and the line is
//! appended to a buffer that a separate thread writes out. A slow reader of standard output causes
//! [dropped](Writer::dropped) lines, but never delays requests.

mod access_log;
mod body;
mod future;
mod metrics;
mod notices;
mod record;
mod site;
mod warnings;

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

pub use self::access_log::{Format, Writer};
pub use self::body::ResponseBody;
pub use self::future::ResponseFuture;
use self::metrics::Shard;
pub(crate) use self::metrics::Totals;
pub use self::metrics::{LabelledValue, Metrics};
pub(crate) use self::notices::Notices;
use self::record::RequestRecord;
pub use self::site::SiteLabel;
use self::warnings::Warnings;

/// Layer that records every request in metrics and the access log.
#[derive(Clone, Debug)]
#[must_use]
pub struct ObserveLayer {
    metrics: Metrics,
    access_log: Option<(Format, Writer)>,
    notices: Notices,
}

impl ObserveLayer {
    /// Creates a layer that counts requests in `metrics`, and writes an access log if one is given.
    pub fn new(metrics: Metrics, access_log: Option<(Format, Writer)>) -> Self {
        Self { metrics, access_log, notices: Notices::default() }
    }

    /// Replaces the access log of this layer.
    pub(crate) fn with_access_log(self, access_log: Option<(Format, Writer)>) -> Self {
        Self { access_log, ..self }
    }

    /// Returns the log messages about rejected requests.
    pub(crate) fn notices(&self) -> Notices {
        self.notices.clone()
    }

    /// Returns the metrics in which requests are recorded.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns the writer of the access log, or `None` if there is no access log.
    pub fn writer(&self) -> Option<&Writer> {
        self.access_log.as_ref().map(|(_, writer)| writer)
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = ObserveService<S>;

    /// Creates a service with a separate set of counters. Call this once per worker.
    fn layer(&self, inner: S) -> Self::Service {
        let sinks = WorkerSinks {
            shard: self.metrics.shard(),
            access_log: self.access_log.as_ref().map(|(format, writer)| writer.buffer(*format)),
            warnings: Warnings::default(),
            notices: self.notices.clone(),
        };
        ObserveService { inner, sinks: Arc::new(sinks) }
    }
}

/// Middleware that records requests in metrics and the access log. See [`ObserveLayer`].
#[derive(Clone, Debug)]
pub struct ObserveService<S> {
    inner: S,
    sinks: Arc<WorkerSinks>,
}

/// The counters, the access log buffer and the log throttle of one worker.
#[derive(Debug)]
struct WorkerSinks {
    shard: Shard,
    access_log: Option<access_log::Buffer>,
    warnings: Warnings,
    notices: Notices,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ObserveService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let record = RequestRecord::begin(Arc::clone(&self.sinks), &request);
        ResponseFuture::new(self.inner.call(request), record)
    }
}

#[cfg(test)]
mod tests;
