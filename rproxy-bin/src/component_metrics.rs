//! Metrics of the server, the tunnels, the cache, the rate limit store and the certificates.

use std::time::UNIX_EPOCH;

use rproxy_cache::CacheStats;
#[cfg(feature = "redis")]
use rproxy_rate_limit::{RedisStats, RedisStore};
use rproxy_server::RunningServer;
use rproxy_tls::Certificates;
use rproxy_ws_passthrough::{ClosedBy, TunnelStats, Tunnels};

use crate::close_codes::CloseCodes;
use crate::maintenance::SiteMaintenance;
use crate::observe::{LabelledValue, Metrics};
use crate::state::ProcessState;

/// Registers the metrics of all components.
pub(crate) fn register(
    state: &ProcessState,
    main: &RunningServer,
    tunnels: &Tunnels,
    certificates: &Option<Certificates>,
) {
    let metrics = &state.metrics();
    let (handle, tunnels) = (main.handle(), tunnels.clone());
    metrics.gauge("connections", "Open client connections", move || handle.connections() as u64);
    let handle = main.handle();
    let help = "Async tasks of the workers for client connections, HTTP/2 streams, tunnels and backend connections";
    metrics.gauge("tasks", help, move || handle.tasks() as u64);
    register_tunnels(metrics, tunnels, &state.close_codes);
    // A reload can replace the writer, and turn the log on.
    let log = state.clone();
    metrics.counter(
        "access_log_dropped",
        "Access log lines dropped because they were not written in time",
        move || log.access_log().map_or(0, |writer| writer.dropped()),
    );
    register_sites(metrics, state);
    register_maintenance(metrics, state);
    register_switches(metrics, state);
    // All sites have the same store.
    #[cfg(feature = "redis")]
    if let Some(store) = state.rate_limits().iter().find_map(|limit| limit.store.as_ref()) {
        register_rate_limit_store(metrics, store);
    }
    {
        let reading = |read: fn(CacheStats) -> u64| {
            let state = state.clone();
            move || state.cache().map_or(0, |store| read(store.stats()))
        };
        metrics.gauge("cache_entries", "Stored responses", reading(|stats| stats.entries));
        metrics.gauge("cache_bytes", "Memory used by stored responses", reading(|stats| stats.weighted_size));
        metrics.counter("cache_stored", "Responses stored", reading(|stats| stats.stored));
        metrics.counter("cache_evictions", "Responses evicted", reading(|stats| stats.evictions));
        metrics.counter("cache_loaded", "Responses loaded from disk", reading(|stats| stats.loaded));
        metrics.gauge("cache_disk_entries", "Responses stored on disk", reading(|stats| stats.tier.entries));
        metrics.gauge("cache_disk_bytes", "Disk space used by stored responses", reading(|stats| stats.tier.bytes));
    }
    if let Some(certificates) = certificates.clone() {
        let help = "Expiry of a certificate as a Unix timestamp; 0 if there is no certificate";
        metrics.gauges("certificate_not_after_seconds", help, move || {
            let expires = |status: rproxy_tls::CertificateStatus| {
                let since_epoch = status.not_after.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                let key_type = status.key_type.map_or("none", |key_type| key_type.as_str());
                let labels = vec![
                    ("names", status.names.join(",")),
                    ("source", status.source.as_str().to_owned()),
                    ("key_type", key_type.to_owned()),
                ];
                (labels, since_epoch.unwrap_or_default().as_secs())
            };
            certificates.status().into_iter().map(expires).collect()
        });
    }
}

fn register_sites(metrics: &Metrics, state: &ProcessState) {
    let state = state.clone();
    metrics.counters("site_requests", "Requests by site, route and status class.", move || {
        let counted = |label: crate::observe::SiteLabel| {
            let (site, route) = (label.site().to_owned(), label.route().to_owned());
            let labels =
                move |code: &str| vec![("site", site.clone()), ("route", route.clone()), ("code", code.to_owned())];
            label.counts().map(|(code, count)| (labels(code), count)).collect::<Vec<_>>()
        };
        state.labels().into_iter().flat_map(counted).collect()
    });
}

fn register_maintenance(metrics: &Metrics, state: &ProcessState) {
    let state = state.clone();
    metrics.gauges("maintenance", "Whether a site is in maintenance: 1 or 0", move || {
        let value = |maintenance: &SiteMaintenance| {
            let is_on = maintenance.status().retry_after.is_some();
            (vec![("site", maintenance.site().to_owned())], u64::from(is_on))
        };
        state.maintenance().all().map(value).collect()
    });
}

fn register_switches(metrics: &Metrics, state: &ProcessState) {
    let state = state.clone();
    metrics.counters("upstream_switches", "Switches of upstreams at run time, by outcome", move || {
        state.switches().counts().map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count)).into()
    });
}

#[cfg(feature = "redis")]
fn register_rate_limit_store(metrics: &Metrics, store: &RedisStore) {
    let (requests, connected, connections) = (store.clone(), store.clone(), store.clone());
    let help = "Rate limit store requests by outcome; every outcome except answered causes the fallback";
    metrics.counters("rate_limit_store_requests", help, move || {
        let RedisStats { succeeded, timed_out, not_connected, failed, .. } = requests.stats();
        let counts =
            [("answered", succeeded), ("timed_out", timed_out), ("not_connected", not_connected), ("failed", failed)];
        counts.map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count)).into()
    });
    let help = "Connections opened to the rate limit store";
    metrics.counter("rate_limit_store_connected", help, move || connected.stats().connections_opened);
    let help = "Open connections to the rate limit store";
    metrics.gauge("rate_limit_store_connections", help, move || connections.stats().open_connections);
}

fn register_tunnels(metrics: &Metrics, tunnels: Tunnels, codes: &CloseCodes) {
    let stats = |read: fn(TunnelStats) -> Vec<LabelledValue>| {
        let tunnels = tunnels.clone();
        move || read(tunnels.stats())
    };
    metrics.counters(
        "tunnel_bytes",
        "Bytes transferred through WebSocket and upgrade tunnels, by sender",
        stats(|stats| by_sender(stats.bytes_from_client, stats.bytes_from_upstream)),
    );
    metrics.counters(
        "tunnel_messages",
        "Whole messages transferred through WebSockets, by sender",
        stats(|stats| by_sender(stats.messages_from_client, stats.messages_from_upstream)),
    );
    metrics.counters(
        "tunnels_closed",
        "Closed tunnels, by closing side",
        stats(|stats| ClosedBy::ALL.map(|by| (vec![("by", by.as_str().to_owned())], stats.closed(by))).into()),
    );
    let codes = codes.clone();
    let help = "Closed tunnels, by close code of the closing side";
    metrics.counters("tunnel_close_codes", help, move || {
        codes.counts().map(|(code, count)| (vec![("code", code.to_owned())], count)).collect()
    });
    metrics.gauge("tunnels", "Open WebSocket and upgrade tunnels", move || tunnels.open_count() as u64);
}

fn by_sender(client: u64, upstream: u64) -> Vec<LabelledValue> {
    [("client", client), ("upstream", upstream)].map(|(from, count)| (vec![("from", from.to_owned())], count)).into()
}
