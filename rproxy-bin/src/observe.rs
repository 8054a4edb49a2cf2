//! What happened: metrics always, a line per request where one is asked for.
//!
//! [`ObserveLayer`] is the outermost layer that answers, so that it sees every answer, and sees it to
//! its end: a request is recorded once, when its response *body* ends or is dropped. It reads what
//! the layers below decided from the extensions of the response.
//!
//! Without an access log a request costs two readings of the clock and a few additions to counters
//! that its worker has to itself; nothing is allocated and nothing is locked. With one, what the line
//! tells is kept from the request's start, and the line is appended to a buffer that a thread of its
//! own writes out: a slow reader of standard output costs lines ([counted](Writer::dropped)), never time.

mod access_log;
mod body;
mod future;
mod metrics;
mod record;
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
pub use self::metrics::{LabelledValue, Metrics};
use self::record::RequestRecord;
use self::warnings::Warnings;

/// Records every request.
#[derive(Clone, Debug)]
#[must_use]
pub struct ObserveLayer {
    metrics: Metrics,
    access_log: Option<(Format, Writer)>,
}

impl ObserveLayer {
    /// Counts into `metrics`, and writes a line for each request, if it is told how and where.
    pub fn new(metrics: Metrics, access_log: Option<(Format, Writer)>) -> Self {
        Self { metrics, access_log }
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where the access log goes.
    pub fn writer(&self) -> Option<&Writer> {
        self.access_log.as_ref().map(|(_, writer)| writer)
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = ObserveService<S>;

    /// Services made one by one, as workers do, count apart from each other.
    fn layer(&self, inner: S) -> Self::Service {
        let sinks = WorkerSinks {
            shard: self.metrics.shard(),
            access_log: self.access_log.as_ref().map(|(format, writer)| writer.buffer(*format)),
            warnings: Warnings::default(),
        };
        ObserveService { inner, sinks: Arc::new(sinks) }
    }
}

/// Made by [`ObserveLayer`].
#[derive(Clone, Debug)]
pub struct ObserveService<S> {
    inner: S,
    sinks: Arc<WorkerSinks>,
}

/// Where one worker records.
#[derive(Debug)]
struct WorkerSinks {
    shard: Shard,
    access_log: Option<access_log::Buffer>,
    warnings: Warnings,
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
