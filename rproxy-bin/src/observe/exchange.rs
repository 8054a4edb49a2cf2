//! One request and its response, from the one's head to the other's last byte.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use rproxy_cache::CacheStatus;
use rproxy_server::RefusedHead;
use rproxy_upstream::ProxyError;
use rproxy_ws_passthrough::{TunnelEnd, TunnelSummary};

use super::Lane;
use super::access_log::{Asked, Buffer, Told};
use super::metrics::MethodLabel;
use crate::problem::{GrpcRejection, Refusal};

/// Recorded when it is dropped, so that it can't be forgotten, whichever way it ends.
#[derive(Debug)]
pub(super) struct Exchange {
    lane: Arc<Lane>,
    start: Instant,
    method: MethodLabel,
    bodiless: bool,
    status: Option<StatusCode>,
    bytes: u64,
    complete: bool,
    // Only where there is a log to tell.
    line: Option<Box<Line>>,
}

#[derive(Debug)]
struct Line {
    asked: Asked,
    told: Told,
}

impl Exchange {
    pub(super) fn begin<B>(lane: Arc<Lane>, request: &Request<B>) -> Self {
        // What stands in for a refused head has a method that nobody sent.
        let refused = request.extensions().get::<RefusedHead>().is_some();
        let method = if refused { MethodLabel::Other } else { MethodLabel::of(request.method()) };
        lane.shard.began();
        let line =
            lane.access_log.is_some().then(|| Box::new(Line { asked: Asked::of(request), told: Told::default() }));
        Self {
            lane,
            start: Instant::now(),
            method,
            bodiless: *request.method() == Method::HEAD && !refused,
            status: None,
            bytes: 0,
            complete: false,
            line,
        }
    }

    /// The head of the response is there.
    pub(super) fn answered<B: Body>(&mut self, response: &Response<B>) {
        // The form of gRPC has status 200, whatever happened.
        let rejected = match self.method {
            MethodLabel::Post if response.status() == StatusCode::OK => response.extensions().get::<GrpcRejection>(),
            _ => None,
        };
        let status = rejected.map_or(response.status(), |rejected| rejected.status);
        self.status = Some(status);
        // RFC 9112 §6.3: these have no body, whatever there is to be said of one.
        let bodiless = self.bodiless
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.complete = bodiless || response.body().is_end_stream();

        let refusal = rejected.map(|rejected| rejected.refusal).or_else(|| Refusal::of(response));
        let Lane { shard, warnings, .. } = &*self.lane;
        if let Some(cache) = response.extensions().get::<CacheStatus>() {
            shard.cached(*cache);
        }
        if let Some(refusal) = refusal {
            shard.refused(refusal);
        }
        let error = response.extensions().get::<ProxyError>();
        if let (Some(error), Some(Refusal::Upstream(kind))) = (error, refusal) {
            warnings.upstream(kind, error, self.start);
        }
        if let Some(line) = &mut self.line {
            line.told.head(response, refusal);
        }
        if let Some(end) = response.extensions().get::<TunnelEnd>()
            && let Some(line) = self.line.take()
        {
            // What there is to tell of a tunnel is known at its end.
            let mut tunnel = Tunnel::new(Arc::clone(&self.lane), self.start, status, *line);
            end.then(move |summary| tunnel.ended(summary));
        }
    }

    pub(super) fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Whether nothing is missing from the body, as far as is known by now.
    pub(super) fn set_complete(&mut self, complete: bool) {
        self.complete = complete;
    }

    /// The body has failed. What the client does is not seen here, so it is for the upstream's sake.
    pub(super) fn broke_off(&mut self, why: &str) {
        self.complete = false;
        self.lane.warnings.broke_off(why, Instant::now());
        if let Some(line) = &mut self.line {
            line.told.broke_off(why);
        }
    }

    #[cfg(test)]
    pub(super) fn keeps_nothing(&self) -> bool {
        self.line.is_none()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let duration = self.start.elapsed();
        self.lane.shard.ended(self.method, self.status, duration, self.bytes, self.complete);
        if let (Some(buffer), Some(line)) = (&self.lane.access_log, &mut self.line) {
            line.told.status = self.status;
            line.told.bytes = self.bytes;
            line.told.duration = duration;
            line.told.aborted = !self.complete;
            line.write(buffer);
        }
    }
}

impl Line {
    /// Writes what is told, at the end of what it is about.
    fn write(&self, buffer: &Buffer) {
        let began = SystemTime::now().checked_sub(self.told.duration).unwrap_or(SystemTime::UNIX_EPOCH);
        buffer.write(began, &self.asked, &self.told);
    }
}

/// The line of a tunnel: written when it is dropped, so that one that is cut off has its line, too.
struct Tunnel {
    lane: Arc<Lane>,
    start: Instant,
    line: Line,
}

impl Tunnel {
    fn new(lane: Arc<Lane>, start: Instant, status: StatusCode, line: Line) -> Self {
        let Line { asked, mut told } = line;
        told.status = Some(status);
        told.aborted = true;
        Self { lane, start, line: Line { asked: asked.apart(), told } }
    }

    fn ended(&mut self, summary: &TunnelSummary) {
        self.line.told.aborted = false;
        self.line.told.bytes = summary.bytes_from_upstream;
        self.line.told.tunnel = Some(summary.clone());
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if let Some(buffer) = &self.lane.access_log {
            self.line.told.duration = self.start.elapsed();
            self.line.write(buffer);
        }
    }
}
