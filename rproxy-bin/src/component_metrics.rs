//! What the parts know of themselves, shown among the metrics.

use std::time::UNIX_EPOCH;

use rproxy_cache::CacheStats;
#[cfg(feature = "redis")]
use rproxy_rate_limit::{RedisStats, RedisStore};
use rproxy_server::Running;
use rproxy_tls::Certificates;
use rproxy_ws_passthrough::{ClosedBy, TunnelStats, Tunnels};

use crate::close_codes::CloseCodes;
use crate::from_config::ProcessState;
use crate::observe::{LabelledValue, Metrics};

/// Adds to the metrics of `shared`.
pub(crate) fn register(state: &ProcessState, main: &Running, tunnels: &Tunnels, certificates: &Option<Certificates>) {
    let metrics = state.observe.metrics();
    let (handle, tunnels) = (main.handle(), tunnels.clone());
    metrics.gauge("connections", "Open client connections", move || handle.connections() as u64);
    let handle = main.handle();
    let help = "Tasks of the workers: of connections, streams and tunnels, and of what watches over backends";
    metrics.gauge("tasks", help, move || handle.tasks() as u64);
    register_tunnels(metrics, tunnels, &state.close_codes);
    if let Some(writer) = state.observe.writer().cloned() {
        metrics.counter("access_log_dropped", "Lines that nobody took in time", move || writer.dropped());
    }
    #[cfg(feature = "redis")]
    if let Some(store) = state.rate_limit.as_ref().and_then(|limit| limit.store.as_ref()) {
        register_rate_limit_store(metrics, store);
    }
    if let Some(store) = &state.cache {
        let reading = |read: fn(CacheStats) -> u64| {
            let store = store.clone();
            move || read(store.stats())
        };
        metrics.gauge("cache_entries", "Stored responses", reading(|stats| stats.entries));
        metrics.gauge("cache_bytes", "Memory that stored responses take", reading(|stats| stats.weighted_size));
        metrics.counter("cache_stored", "Responses stored", reading(|stats| stats.stored));
        metrics.counter("cache_evictions", "Responses evicted", reading(|stats| stats.evictions));
        metrics.counter("cache_loaded", "Resources that came back from disk", reading(|stats| stats.loaded));
        metrics.gauge("cache_disk_entries", "Resources on disk", reading(|stats| stats.tier.entries));
        metrics.gauge("cache_disk_bytes", "What resources on disk take there", reading(|stats| stats.tier.bytes));
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

#[cfg(feature = "redis")]
fn register_rate_limit_store(metrics: &Metrics, store: &RedisStore) {
    let (requests, connected, connections) = (store.clone(), store.clone(), store.clone());
    let help = "Requests to the store of rate limits, by what came of them; all but those answered fell back";
    metrics.counters("rate_limit_store_requests", help, move || {
        let RedisStats { succeeded, timed_out, not_connected, failed, .. } = requests.stats();
        let counts =
            [("answered", succeeded), ("timed_out", timed_out), ("not_connected", not_connected), ("failed", failed)];
        counts.map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count)).into()
    });
    let help = "Connections with the store of rate limits that were opened";
    metrics.counter("rate_limit_store_connected", help, move || connected.stats().connections_opened);
    let help = "Open connections with the store of rate limits";
    metrics.gauge("rate_limit_store_connections", help, move || connections.stats().open_connections);
}

fn register_tunnels(metrics: &Metrics, tunnels: Tunnels, codes: &CloseCodes) {
    let stats = |read: fn(TunnelStats) -> Vec<LabelledValue>| {
        let tunnels = tunnels.clone();
        move || read(tunnels.stats())
    };
    metrics.counters(
        "tunnel_bytes",
        "Bytes through the tunnels of WebSockets and other upgrades, by who sent them",
        stats(|stats| by_sender(stats.bytes_from_client, stats.bytes_from_upstream)),
    );
    metrics.counters(
        "tunnel_messages",
        "Whole messages through WebSockets, by who sent them",
        stats(|stats| by_sender(stats.messages_from_client, stats.messages_from_upstream)),
    );
    metrics.counters(
        "tunnels_closed",
        "Tunnels that have ended, by who ended them",
        stats(|stats| ClosedBy::ALL.map(|by| (vec![("by", by.as_str().to_owned())], stats.closed(by))).into()),
    );
    let codes = codes.clone();
    let help = "Tunnels that have ended, by the code of the Close of whoever ended them";
    metrics.counters("tunnel_close_codes", help, move || {
        codes.counts().map(|(code, count)| (vec![("code", code.to_owned())], count)).collect()
    });
    metrics.gauge("tunnels", "Open tunnels of WebSockets and other upgrades", move || tunnels.open() as u64);
}

fn by_sender(client: u64, upstream: u64) -> Vec<LabelledValue> {
    [("client", client), ("upstream", upstream)].map(|(from, count)| (vec![("from", from.to_owned())], count)).into()
}
