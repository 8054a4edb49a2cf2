//! One request and its response, from the one's head to the other's last byte.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use rproxy_cache::CacheStatus;
use rproxy_server::RefusedHead;
use rproxy_upstream::ProxyError;
use rproxy_ws_passthrough::{TunnelEnd, TunnelSummary};

use super::WorkerSinks;
use super::access_log::{Buffer, LoggedRequest, LoggedResponse};
use super::metrics::MethodLabel;
use crate::error_response::{ErrorReason, GrpcError};

/// Recorded when it is dropped, so that it can't be forgotten, whichever way it ends.
#[derive(Debug)]
pub(super) struct RequestRecord {
    sinks: Arc<WorkerSinks>,
    start: Instant,
    method: MethodLabel,
    bodiless: bool,
    status: Option<StatusCode>,
    bytes: u64,
    complete: bool,
    // Only where there is a log to tell.
    entry: Option<Box<LogEntry>>,
}

#[derive(Debug)]
struct LogEntry {
    request: LoggedRequest,
    response: LoggedResponse,
}

impl RequestRecord {
    pub(super) fn begin<B>(sinks: Arc<WorkerSinks>, request: &Request<B>) -> Self {
        // What stands in for a refused head has a method that nobody sent.
        let refused = request.extensions().get::<RefusedHead>().is_some();
        let method = if refused { MethodLabel::Other } else { MethodLabel::of(request.method()) };
        sinks.shard.request_started();
        let entry = sinks
            .access_log
            .is_some()
            .then(|| Box::new(LogEntry { request: LoggedRequest::of(request), response: LoggedResponse::default() }));
        Self {
            sinks,
            start: Instant::now(),
            method,
            bodiless: *request.method() == Method::HEAD && !refused,
            status: None,
            bytes: 0,
            complete: false,
            entry,
        }
    }

    /// The head of the response is there.
    pub(super) fn set_response<B: Body>(&mut self, response: &Response<B>) {
        // The form of gRPC has status 200, whatever happened.
        let rejected = match self.method {
            MethodLabel::Post if response.status() == StatusCode::OK => response.extensions().get::<GrpcError>(),
            _ => None,
        };
        let status = rejected.map_or(response.status(), |rejected| rejected.status);
        self.status = Some(status);
        // RFC 9112 §6.3: these have no body, whatever there is to be said of one.
        let bodiless = self.bodiless
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.complete = bodiless || response.body().is_end_stream();

        let reason = rejected.map(|rejected| rejected.reason).or_else(|| ErrorReason::of(response));
        let WorkerSinks { shard, warnings, .. } = &*self.sinks;
        if let Some(cache) = response.extensions().get::<CacheStatus>() {
            shard.count_cache_status(*cache);
        }
        if let Some(reason) = reason {
            shard.count_error(reason);
        }
        let error = response.extensions().get::<ProxyError>();
        if let (Some(error), Some(ErrorReason::Upstream(kind))) = (error, reason) {
            warnings.upstream_error(kind, error, self.start);
        }
        if let Some(entry) = &mut self.entry {
            entry.response.head(response, reason);
        }
        if let Some(end) = response.extensions().get::<TunnelEnd>()
            && let Some(entry) = self.entry.take()
        {
            // What there is to tell of a tunnel is known at its end.
            let mut tunnel = TunnelRecord::new(Arc::clone(&self.sinks), self.start, status, *entry);
            end.then(move |summary| tunnel.ended(summary));
        }
    }

    pub(super) fn add_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Whether nothing is missing from the body, as far as is known by now.
    pub(super) fn set_complete(&mut self, complete: bool) {
        self.complete = complete;
    }

    /// The body has failed. What the client does is not seen here, so it is for the upstream's sake.
    pub(super) fn fail(&mut self, why: &str) {
        self.complete = false;
        self.sinks.warnings.response_failed(why, Instant::now());
        if let Some(entry) = &mut self.entry {
            entry.response.set_error(why);
        }
    }

    #[cfg(test)]
    pub(super) fn has_no_log_entry(&self) -> bool {
        self.entry.is_none()
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let duration = self.start.elapsed();
        self.sinks.shard.request_ended(self.method, self.status, duration, self.bytes, self.complete);
        if let (Some(buffer), Some(entry)) = (&self.sinks.access_log, &mut self.entry) {
            entry.response.status = self.status;
            entry.response.bytes = self.bytes;
            entry.response.duration = duration;
            entry.response.aborted = !self.complete;
            entry.write(buffer);
        }
    }
}

impl LogEntry {
    /// Writes what is told, at the end of what it is about.
    fn write(&self, buffer: &Buffer) {
        let start = SystemTime::now().checked_sub(self.response.duration).unwrap_or(SystemTime::UNIX_EPOCH);
        buffer.write(start, &self.request, &self.response);
    }
}

/// The entry of a tunnel: written when it is dropped, so that one that is cut off has its entry, too.
struct TunnelRecord {
    sinks: Arc<WorkerSinks>,
    start: Instant,
    entry: LogEntry,
}

impl TunnelRecord {
    fn new(sinks: Arc<WorkerSinks>, start: Instant, status: StatusCode, entry: LogEntry) -> Self {
        let LogEntry { request, mut response } = entry;
        response.status = Some(status);
        response.aborted = true;
        Self { sinks, start, entry: LogEntry { request: request.detached(), response } }
    }

    fn ended(&mut self, summary: &TunnelSummary) {
        self.entry.response.aborted = false;
        self.entry.response.bytes = summary.bytes_from_upstream;
        self.entry.response.tunnel = Some(summary.clone());
    }
}

impl Drop for TunnelRecord {
    fn drop(&mut self) {
        if let Some(buffer) = &self.sinks.access_log {
            self.entry.response.duration = self.start.elapsed();
            self.entry.write(buffer);
        }
    }
}
