//! Records one request, from the request head to the end of the response body.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use rproxy_cache::CacheStatus;
use rproxy_core::Rejection;
use rproxy_rate_limit::RateLimitDecision;
use rproxy_server::RejectedHead;
use rproxy_upstream::ProxyError;
use rproxy_ws_passthrough::{TunnelHandle, TunnelSummary};

use super::access_log::{Buffer, LoggedRequest, LoggedResponse};
use super::metrics::MethodLabel;
use super::notices::{Client, Reporting};
use super::{SiteLabel, WorkerSinks};

/// The record of one request; dropping it updates the metrics and writes an access log entry.
#[derive(Debug)]
pub(super) struct RequestRecord {
    sinks: Arc<WorkerSinks>,
    start: Instant,
    method: MethodLabel,
    client: Client,
    bodiless: bool,
    status: Option<StatusCode>,
    bytes: u64,
    complete: bool,
    // `None` without an access log.
    entry: Option<Box<LogEntry>>,
}

#[derive(Debug)]
struct LogEntry {
    request: LoggedRequest,
    response: LoggedResponse,
}

impl RequestRecord {
    pub(super) fn begin<B>(sinks: Arc<WorkerSinks>, request: &Request<B>) -> Self {
        // The placeholder for a rejected head has a method that the client did not send.
        let refused = request.extensions().get::<RejectedHead>().is_some();
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
            client: Client::of(request),
            bodiless: *request.method() == Method::HEAD && !refused,
            status: None,
            bytes: 0,
            complete: false,
            entry,
        }
    }

    /// Records the response head in the entry of the request.
    pub(super) fn set_response<B: Body>(&mut self, response: &Response<B>) {
        let (status, rejection) = self.rejection(response);
        self.status = Some(status);
        if let Some(site) = response.extensions().get::<SiteLabel>() {
            site.count(status);
        }
        // RFC 9112 §6.3: these responses have no body.
        let bodiless = self.bodiless
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.complete = bodiless || response.body().is_end_stream();

        let WorkerSinks { shard, warnings, notices, .. } = &*self.sinks;
        if let Some(cache) = response.extensions().get::<CacheStatus>() {
            shard.count_cache_status(*cache);
        }
        if let Some(rejection) = rejection {
            shard.count_rejection(rejection);
            notices.rejected(rejection, status, self.client.address);
            if let Some(error) = response.extensions().get::<ProxyError>() {
                shard.count_upstream_error(error.kind());
                warnings.upstream_error(error, self.start);
            }
        }
        if self.client.reporting != Reporting::None
            && let Some(decision) = response.extensions().get::<RateLimitDecision>()
        {
            notices.counted(self.client, decision);
        }
        if let Some(entry) = &mut self.entry {
            entry.response.head(response, rejection);
        }
        if let Some(handle) = response.extensions().get::<TunnelHandle>()
            && let Some(entry) = self.entry.take()
        {
            // The log entry of a tunnel is written when the tunnel ends.
            let mut tunnel = TunnelRecord::new(Arc::clone(&self.sinks), self.start, status, *entry);
            handle.on_close(move |summary| tunnel.set_summary(summary));
        }
    }

    /// Returns the status of a response, and the rejection if it is one of a layer.
    ///
    /// A gRPC error response always has status 200: its status is that of the rejection. A rejected head has no method.
    fn rejection<'a, B>(&self, response: &'a Response<B>) -> (StatusCode, Option<&'a Rejection>) {
        let status = response.status();
        match (self.method, status) {
            (MethodLabel::Post | MethodLabel::Other, StatusCode::OK) => {
                let rejection = response.extensions().get::<Rejection>();
                (rejection.map_or(status, Rejection::status), rejection)
            }
            _ if status.is_client_error() || status.is_server_error() => (status, response.extensions().get()),
            _ => (status, None),
        }
    }

    pub(super) fn add_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Sets whether the response body is complete according to the bytes and frames so far.
    pub(super) fn set_complete(&mut self, complete: bool) {
        self.complete = complete;
    }

    /// Records that the response body failed. Errors of the client connection are not visible here, so the upstream
    /// failed.
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
    /// Writes the access log entry of a finished request or tunnel.
    fn write(&self, buffer: &Buffer) {
        let start = SystemTime::now().checked_sub(self.response.duration).unwrap_or(SystemTime::UNIX_EPOCH);
        buffer.write(start, &self.request, &self.response);
    }
}

/// The record of a tunnel; dropping it writes an access log entry, even for an aborted tunnel.
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

    fn set_summary(&mut self, summary: &TunnelSummary) {
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
