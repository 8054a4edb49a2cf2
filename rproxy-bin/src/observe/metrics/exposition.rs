//! The counters as OpenMetrics text, with what other parts of the proxy know.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;
use rproxy_cache::CacheStore;
use rproxy_server::Handle;
use rproxy_tls::Certificates;
use rproxy_ws_passthrough::Tunnels;

use super::histogram::Observed;
use super::labels::{CACHE, CODES, METHODS, UPSTREAM_ERRORS};
use super::{Counters, Metrics, process};
use crate::problem::{self, Refusal};

/// Another part of the proxy that has numbers. It is asked whenever somebody reads the metrics.
#[derive(Clone)]
#[non_exhaustive]
pub enum Source {
    /// The connections of a server.
    Server(Handle),
    /// What the cache holds.
    Cache(CacheStore),
    /// When certificates expire.
    Certificates(Certificates),
    /// The WebSockets that are open.
    Tunnels(Tunnels),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "Server",
            Self::Cache(_) => "Cache",
            Self::Certificates(_) => "Certificates",
            Self::Tunnels(_) => "Tunnels",
        })
    }
}

impl Metrics {
    /// All of it in the OpenMetrics text format, version 1.0.0.
    pub fn openmetrics(&self, sources: Vec<Source>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Everything { metrics: self.clone(), sources }));
        let mut text = String::with_capacity(16 << 10);
        // A string can be written to; but half an exposition is worse than none.
        match text::encode(&mut text, &registry) {
            Ok(()) => text,
            Err(error) => {
                tracing::error!(%error, "metrics can't be written");
                "# EOF\n".to_owned()
            }
        }
    }
}

#[derive(Debug)]
struct Everything {
    metrics: Metrics,
    sources: Vec<Source>,
}

impl Collector for Everything {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.metrics.requests(&mut families)?;
        self.metrics.decisions(&mut families)?;
        families.servers(self.sources.iter().filter_map(|source| match source {
            Source::Server(handle) => Some(handle),
            _ => None,
        }))?;
        for source in &self.sources {
            match source {
                Source::Server(_) => {}
                Source::Cache(store) => families.cache(store)?,
                Source::Certificates(certificates) => families.certificates(certificates)?,
                Source::Tunnels(tunnels) => {
                    families.gauge("rproxy_websocket_tunnels", "Open WebSocket tunnels.", &tunnels.open())?;
                }
            }
        }
        families.process()
    }
}

impl Metrics {
    fn requests(&self, families: &mut Families<'_>) -> fmt::Result {
        let mut requests = Vec::new();
        for (row, method) in METHODS.iter().enumerate() {
            for (column, code) in CODES.iter().enumerate() {
                let count = self.sum(|counters| &counters.requests[row][column]);
                if count > 0 {
                    requests.push(([("method", *method), ("code", *code)], count));
                }
            }
        }
        families.counters("rproxy_requests", "Requests whose response has ended, by method and status.", requests)?;
        families.gauge("rproxy_requests_in_flight", "Requests whose response has not ended.", &self.in_flight())?;

        let mut duration = Observed::default();
        for counters in &self.shared.shards {
            counters.duration.add_to(&mut duration);
        }
        families.histogram(
            "rproxy_request_duration_seconds",
            "Time from the head of a request to the end of its response.",
            &duration,
        )?;
        families.counter(
            "rproxy_response_body_bytes",
            "Bytes of response bodies, as given to clients' connections.",
            self.sum(|counters| &counters.body_bytes),
        )?;
        families.counter(
            "rproxy_requests_aborted",
            "Requests whose response did not get to its end.",
            self.sum(|counters| &counters.aborted),
        )
    }

    fn decisions(&self, families: &mut Families<'_>) -> fmt::Result {
        families.counters(
            "rproxy_cache_requests",
            "Requests that the cache applies to, by what it did.",
            self.by_label("status", &CACHE, |counters| &counters.cache),
        )?;
        families.counters(
            "rproxy_refused_requests",
            "Requests that the proxy answered itself with an error, by reason.",
            self.by_label("reason", &Refusal::REASONS, |counters| &counters.refused),
        )?;
        families.counters(
            "rproxy_upstream_errors",
            "Requests that got no good answer from the upstream, by the error types of RFC 9209.",
            self.by_label("error", &UPSTREAM_ERRORS, |counters| &counters.upstream_errors),
        )?;
        families.counter("rproxy_panics", "Panics, each of which cost one request.", problem::panics())?;
        let dropped = self.shared.lines_dropped.load(Ordering::Relaxed);
        families.counter("rproxy_access_log_dropped_lines", "Lines that could not be written in time.", dropped)
    }

    /// The counters of one array, zeros included, so that a rate can be told from the first event on.
    fn by_label<const N: usize>(
        &self,
        label: &'static str,
        values: &'static [&'static str; N],
        array: impl Fn(&Counters) -> &[AtomicU64; N],
    ) -> Vec<([(&'static str, &'static str); 1], u64)> {
        let counted = |place: usize| self.sum(|counters| &array(counters)[place]);
        values.iter().enumerate().map(|(place, value)| ([(label, *value)], counted(place))).collect()
    }
}

/// Writes families of metrics.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn servers<'a>(&mut self, handles: impl Iterator<Item = &'a Handle>) -> fmt::Result {
        let connections: usize = handles.map(Handle::connections).sum();
        self.gauge("rproxy_connections", "Open client connections.", &connections)
    }

    fn cache(&mut self, store: &CacheStore) -> fmt::Result {
        let stats = store.stats();
        self.gauge("rproxy_cache_entries", "Resources in the cache.", &stats.entries)?;
        self.gauge("rproxy_cache_bytes", "Bytes that they take.", &stats.weighted_size)?;
        self.gauge("rproxy_cache_capacity_bytes", "Bytes that they may take.", &stats.capacity)?;
        self.counter("rproxy_cache_stored", "Responses stored.", stats.stored)?;
        self.counter("rproxy_cache_evictions", "Resources dropped to make room.", stats.evictions)
    }

    fn certificates(&mut self, certificates: &Certificates) -> fmt::Result {
        let mut family = self.0.encode_descriptor(
            "rproxy_certificate_expiry_seconds",
            "When a certificate expires, in Unix time; 0 while there is none.",
            None,
            MetricType::Gauge,
        )?;
        for status in certificates.status() {
            let expiry = status.not_after.map_or(0, unix_seconds);
            let labels = [("names", status.names.join(",")), ("source", status.source.as_str().to_owned())];
            family.encode_family(&labels)?.encode_gauge(&expiry)?;
        }
        Ok(())
    }

    fn process(&mut self) -> fmt::Result {
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        let mut family = self.0.encode_descriptor("rproxy_build", "What is running.", None, MetricType::Info)?;
        family.encode_info(&labels)?;

        let process = process::Process::read();
        if let Some(seconds) = process.cpu_seconds {
            let help = "Processor time of the process.";
            let mut family = self.0.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            family.encode_counter(&seconds, NO_EXEMPLAR)?;
        }
        if let Some(bytes) = process.resident_bytes {
            self.gauge("process_resident_memory_bytes", "Memory of the process.", &bytes)?;
        }
        if let Some(open) = process.open_descriptors {
            self.gauge("process_open_fds", "Open file descriptors of the process.", &open)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Counter)?.encode_counter(&value, NO_EXEMPLAR)
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_counter(&value, NO_EXEMPLAR)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: &impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(value)
    }

    fn histogram(&mut self, name: &str, help: &str, observed: &Observed) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Histogram)?.encode_histogram::<[(&str, &str); 0]>(
            observed.seconds(),
            observed.count(),
            &observed.buckets(),
            None,
        )
    }
}

const NO_EXEMPLAR: Option<&Exemplar<[(&str, &str); 0], u64>> = None;

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::MethodLabel;
    use http::StatusCode;
    use rproxy_cache::CacheStatus;
    use rproxy_upstream::ProxyErrorKind;
    use std::collections::HashMap;
    use std::time::Duration;

    /// Reads an exposition by the rules of OpenMetrics 1.0.0; samples by name and labels.
    fn parse(text: &str) -> HashMap<String, f64> {
        let lines = text.strip_suffix("# EOF\n").expect("the marker at the end");
        let (mut samples, mut family, mut seen) = (HashMap::new(), (String::new(), String::new()), Vec::new());
        for line in lines.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let name = help.split(' ').next().unwrap().to_owned();
                assert!(!seen.contains(&name), "{name} twice");
                seen.push(name);
                continue;
            }
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(seen.last().map(String::as_str), Some(name), "HELP comes first");
                family = (name.to_owned(), kind.to_owned());
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let suffix = name.strip_prefix(&*family.0).unwrap_or_else(|| panic!("{line} in {family:?}"));
            assert!(match &*family.1 {
                "counter" => suffix == "_total",
                "gauge" => suffix.is_empty(),
                "info" => suffix == "_info",
                "histogram" => matches!(suffix, "_sum" | "_count" | "_bucket"),
                other => panic!("{other}"),
            });
            assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{series} twice");
        }
        samples
    }

    #[test]
    fn what_was_counted_on_all_workers_is_exposed() {
        let metrics = Metrics::new(2);
        let workers = [metrics.shard(), metrics.shard(), metrics.shard()];
        for shard in &workers {
            shard.began();
            shard.ended(MethodLabel::Get, Some(StatusCode::OK), Duration::from_millis(2), 10, true);
        }
        workers[0].began();
        workers[1].began();
        workers[1].ended(MethodLabel::Post, None, Duration::from_secs(100), 0, false);
        workers[0].cached(CacheStatus::Hit);
        workers[1].refused(Refusal::Upstream(ProxyErrorKind::ConnectionRefused));
        metrics.lines_dropped().fetch_add(7, Ordering::Relaxed);

        let samples = parse(&metrics.openmetrics(vec![Source::Cache(CacheStore::in_memory(1000))]));
        for (series, value) in [
            ("rproxy_requests_total{method=\"GET\",code=\"200\"}", 3.0),
            ("rproxy_requests_total{method=\"POST\",code=\"none\"}", 1.0),
            ("rproxy_requests_in_flight", 1.0),
            ("rproxy_request_duration_seconds_count", 4.0),
            ("rproxy_request_duration_seconds_sum", 100.006),
            ("rproxy_request_duration_seconds_bucket{le=\"0.001\"}", 0.0),
            ("rproxy_request_duration_seconds_bucket{le=\"0.0025\"}", 3.0),
            ("rproxy_request_duration_seconds_bucket{le=\"60.0\"}", 3.0),
            ("rproxy_request_duration_seconds_bucket{le=\"+Inf\"}", 4.0),
            ("rproxy_response_body_bytes_total", 30.0),
            ("rproxy_requests_aborted_total", 1.0),
            ("rproxy_cache_requests_total{status=\"hit\"}", 1.0),
            ("rproxy_cache_requests_total{status=\"miss\"}", 0.0),
            ("rproxy_refused_requests_total{reason=\"upstream\"}", 1.0),
            ("rproxy_refused_requests_total{reason=\"blocked_path\"}", 0.0),
            ("rproxy_upstream_errors_total{error=\"connection_refused\"}", 1.0),
            ("rproxy_access_log_dropped_lines_total", 7.0),
            ("rproxy_cache_capacity_bytes", 1000.0),
            ("rproxy_connections", 0.0),
        ] {
            assert_eq!(samples.get(series), Some(&value), "{series}");
        }
        assert!(samples.contains_key(&format!("rproxy_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))));
        assert!(samples["process_resident_memory_bytes"] > 1e5 && samples["process_open_fds"] >= 3.0);
        assert!(samples.contains_key("process_cpu_seconds_total"));
        assert!(!samples.keys().any(|series| series.contains("code=\"404\"")));
    }
}
