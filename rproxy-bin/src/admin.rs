//! The admin listener, which serves health checks, metrics, cache purges the maintenance switch and the switch of upstreams. It is never the public listener.

mod listener;
mod maintenance;
mod parameters;
mod purge;
mod upstream;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use rproxy_cache::CacheStore;
use serde_json::json;
use tower::BoxError;

pub(crate) use self::listener::{AddressChange, AdminListener};
use self::maintenance::MaintenanceRequest;
use self::parameters::Parameters;
use self::purge::{FindSite, PurgeRequest};
use crate::ErrorChain;
use crate::maintenance::SiteMaintenances;
use crate::site::SiteHosts;
use crate::state::ProcessState;

/// The HTTP service of the admin listener.
#[derive(Clone)]
pub(crate) struct Admin {
    inner: Arc<Inner>,
}

struct Inner {
    metrics: Box<dyn Fn(MetricsFormat) -> String + Send + Sync>,
    cache: Box<dyn Fn() -> Option<CacheStore> + Send + Sync>,
    ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// The function that returns all hosts of the site with a given name or host.
    site: Box<FindSite>,
    maintenance: Box<dyn Fn() -> SiteMaintenances + Send + Sync>,
    /// The upstreams that can be switched.
    upstreams: ProcessState,
    /// The accepted host names, in lower case.
    hosts: RwLock<Vec<String>>,
}

impl Admin {
    /// Creates the service of the admin listener.
    ///
    /// `metrics` returns the metrics as OpenMetrics text; `ready` returns the reason if the proxy should get no
    /// traffic.
    pub(crate) fn new(
        metrics: impl Fn(MetricsFormat) -> String + Send + Sync + 'static,
        cache: impl Fn() -> Option<CacheStore> + Send + Sync + 'static,
        ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
        site: impl Fn(&str) -> Option<SiteHosts> + Send + Sync + 'static,
        maintenance: impl Fn() -> SiteMaintenances + Send + Sync + 'static,
        upstreams: ProcessState,
    ) -> Self {
        let (metrics, cache, ready, site) = (Box::new(metrics), Box::new(cache), Box::new(ready), Box::new(site));
        let maintenance = Box::new(maintenance);
        Self {
            inner: Arc::new(Inner { metrics, cache, ready, site, maintenance, upstreams, hosts: RwLock::default() }),
        }
    }

    /// Sets the host names of accepted requests, besides IP addresses and `localhost`.
    pub(crate) fn set_hosts(&self, names: &[String]) {
        let names = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        *self.inner.hosts.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    pub(crate) async fn answer<B>(self, request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible>
    where
        B: Body<Error: Into<BoxError>>,
    {
        let mut response = self.respond(request).await;
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    async fn respond<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Error: Into<BoxError>>,
    {
        let (parts, body) = request.into_parts();
        if !self.inner.is_accepted_host(&parts.headers) {
            return text(StatusCode::MISDIRECTED_REQUEST, "unknown host; add it to admin_hosts\n");
        }
        let read = matches!(parts.method, Method::GET | Method::HEAD);
        let cache = (self.inner.cache)();
        match (parts.uri.path(), &cache) {
            ("/healthz", _) if read => text(StatusCode::OK, "ok\n"),
            ("/readyz", _) if read => match (self.inner.ready)() {
                Ok(()) => text(StatusCode::OK, "ready\n"),
                Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            },
            ("/metrics", _) if read => {
                let format = MetricsFormat::of(&parts.headers);
                typed(StatusCode::OK, format.content_type(), (self.inner.metrics)(format))
            }
            ("/cache/stats" | "/cache/purge", None) => text(StatusCode::NOT_FOUND, "the response cache is disabled\n"),
            ("/cache/stats", Some(store)) if read => stats(store),
            ("/cache/purge", Some(_)) | ("/maintenance" | "/upstream", _)
                if parts.method == Method::POST && is_cross_site(&parts.headers) =>
            {
                text(StatusCode::FORBIDDEN, "cross-site requests are not allowed\n")
            }
            ("/cache/purge", Some(store)) if parts.method == Method::POST => {
                let query = parts.uri.query().unwrap_or_default();
                let parameters = Parameters::read(query, &parts.headers, body).await;
                match parameters.and_then(|parameters| PurgeRequest::parse(&parameters, &self.inner.site)) {
                    Ok(purges) => json(&json!({ "purged": purges.apply(store) })),
                    Err(error) => text(error.status(), format!("{error}\n")),
                }
            }
            ("/maintenance", _) if read => json(&maintenance::status((self.inner.maintenance)().all())),
            ("/maintenance", _) if parts.method == Method::POST => {
                let query = parts.uri.query().unwrap_or_default();
                let sites = (self.inner.maintenance)();
                let parameters = Parameters::read(query, &parts.headers, body).await;
                match parameters.and_then(|parameters| MaintenanceRequest::parse(&parameters, &sites)) {
                    Ok(request) => match request.apply() {
                        Ok(status) => json(&status),
                        Err(reason) => text(StatusCode::CONFLICT, format!("{reason}\n")),
                    },
                    Err(error) => text(error.status(), format!("{error}\n")),
                }
            }
            ("/upstream", _) if read => json(&upstream::status(&self.inner.upstreams.switchable_upstreams())),
            ("/upstream", _) if parts.method == Method::POST => {
                let query = parts.uri.query().unwrap_or_default();
                let parameters = Parameters::read(query, &parts.headers, body).await;
                match parameters.and_then(|parameters| upstream::parse(&parameters)) {
                    Ok(request) => match self.inner.upstreams.switch(&request).await {
                        Ok(switched) => json(&upstream::outcome(&switched)),
                        Err(error) => text(upstream::status_code(&error), format!("{}\n", ErrorChain(&error))),
                    },
                    Err(error) => text(error.status(), format!("{error}\n")),
                }
            }
            ("/healthz" | "/readyz" | "/metrics" | "/cache/stats", _) => not_allowed("GET, HEAD"),
            ("/cache/purge", _) => not_allowed("POST"),
            ("/maintenance" | "/upstream", _) => not_allowed("GET, HEAD, POST"),
            _ => text(StatusCode::NOT_FOUND, "Not Found\n"),
        }
    }
}

impl Inner {
    /// Returns whether `Host` is an IP address, `localhost` or an accepted name.
    ///
    /// Any website can let its own name resolve to the address of this listener (DNS rebinding); the browser then
    /// treats both as one origin. Only the name in `Host` tells them apart. Browsers always send `Host`.
    fn is_accepted_host(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(HOST) else { return true };
        let Some(host) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else { return false };
        let name = host.host().to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        address.parse::<IpAddr>().is_ok() || name == "localhost" || self.has_host(name)
    }

    fn has_host(&self, name: &str) -> bool {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().any(|host| host == name)
    }
}

/// Returns whether a browser sent the request for a page of another site (CSRF).
fn is_cross_site(headers: &HeaderMap) -> bool {
    // Browsers send one of these fields with every POST; other clients send neither.
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    match site {
        Some(site) => !matches!(site, b"same-origin" | b"none"),
        None => headers.contains_key(ORIGIN),
    }
}

/// The text format in which metrics are exposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricsFormat {
    /// The Prometheus text format, version 0.0.4, which is the default.
    Prometheus,
    /// The OpenMetrics text format, version 1.0.0, for clients that accept it.
    OpenMetrics,
}

impl MetricsFormat {
    fn of(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        match accepted.flat_map(|value| value.split(',')).any(|range| range.trim().starts_with(OPENMETRICS)) {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

const OPENMETRICS: &str = "application/openmetrics-text";

fn stats(store: &CacheStore) -> Response<Full<Bytes>> {
    let stats = store.stats();
    json(&json!({
        "hits": stats.hits,
        "misses": stats.misses,
        "collapsed": stats.coalesced,
        "stored": stats.stored,
        "evictions": stats.evictions,
        "entries": stats.entries,
        "weighted_size": stats.weighted_size,
        "capacity": stats.capacity,
        "loaded": stats.loaded,
        "disk_entries": stats.tier.entries,
        "disk_bytes": stats.tier.bytes,
        "disk_dropped": stats.tier.dropped,
    }))
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn json(value: &serde_json::Value) -> Response<Full<Bytes>> {
    typed(StatusCode::OK, "application/json", format!("{value}\n"))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests;
