//! What the parts know of themselves, shown among the metrics.

use std::time::UNIX_EPOCH;

use rproxy_cache::CacheStats;
use rproxy_server::Running;
use rproxy_tls::Certificates;
use rproxy_ws_passthrough::Tunnels;

use crate::assemble::Shared;

/// Adds to the metrics of `shared`.
pub(crate) fn show(shared: &Shared, main: &Running, tunnels: &Tunnels, certificates: &Option<Certificates>) {
    let metrics = shared.observe.metrics();
    let (handle, tunnels) = (main.handle(), tunnels.clone());
    metrics.gauge("connections", "Open client connections", move || handle.connections() as u64);
    metrics.gauge("tunnels", "Open WebSocket tunnels", move || tunnels.open() as u64);
    if let Some(writer) = shared.observe.writer().cloned() {
        metrics.counter("access_log_dropped", "Lines that nobody took in time", move || writer.dropped());
    }
    if let Some(store) = &shared.cache {
        let reading = |read: fn(CacheStats) -> u64| {
            let store = store.clone();
            move || read(store.stats())
        };
        metrics.gauge("cache_entries", "Stored responses", reading(|stats| stats.entries));
        metrics.gauge("cache_bytes", "Memory that stored responses take", reading(|stats| stats.weighted_size));
        metrics.counter("cache_stored", "Responses stored", reading(|stats| stats.stored));
        metrics.counter("cache_evictions", "Responses evicted", reading(|stats| stats.evictions));
    }
    if let Some(certificates) = certificates.clone() {
        let help = "When a certificate expires, in seconds since 1970; 0 while there is none";
        metrics.gauges("certificate_not_after_seconds", help, move || {
            let expires = |status: rproxy_tls::CertificateStatus| {
                let since_epoch = status.not_after.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                let labels = vec![("names", status.names.join(",")), ("source", status.source.as_str().to_owned())];
                (labels, since_epoch.unwrap_or_default().as_secs())
            };
            certificates.status().into_iter().map(expires).collect()
        });
    }
}
