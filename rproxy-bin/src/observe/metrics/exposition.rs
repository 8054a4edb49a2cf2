//! Formats the metrics as OpenMetrics text.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::histogram::HistogramTotals;
use super::labels::{CACHE, CODES, METHODS, UPSTREAM_ERRORS};
use super::{Counters, Metrics, process};
use crate::error_response;

/// A metric of another component, whose values are read on each scrape.
pub(super) struct ExternalMetric {
    name: String,
    help: &'static str,
    read: Read,
}

enum Read {
    Counter(Box<dyn Fn() -> u64 + Send + Sync>),
    Counters(Box<dyn Fn() -> Vec<LabelledValue> + Send + Sync>),
    Gauge(Box<dyn Fn() -> u64 + Send + Sync>),
    Gauges(Box<dyn Fn() -> Vec<LabelledValue> + Send + Sync>),
}

/// The labels and the value of one sample of a metric.
pub type LabelledValue = (Vec<(&'static str, String)>, u64);

impl Metrics {
    /// Adds the gauge `rproxy_<name>`, whose value the function `read` returns. Replaces a metric of the same name.
    pub fn gauge(&self, name: &'static str, help: &'static str, read: impl Fn() -> u64 + Send + Sync + 'static) {
        self.register(name, help, Read::Gauge(Box::new(read)));
    }

    /// Adds the gauge `rproxy_<name>` with several labelled values.
    pub fn gauges(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Vec<LabelledValue> + Send + Sync + 'static,
    ) {
        self.register(name, help, Read::Gauges(Box::new(read)));
    }

    /// Adds the counter `rproxy_<name>_total`, whose value the function `read` returns.
    pub fn counter(&self, name: &'static str, help: &'static str, read: impl Fn() -> u64 + Send + Sync + 'static) {
        self.register(name, help, Read::Counter(Box::new(read)));
    }

    /// Adds the counter `rproxy_<name>_total` with several labelled values.
    pub fn counters(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Vec<LabelledValue> + Send + Sync + 'static,
    ) {
        self.register(name, help, Read::Counters(Box::new(read)));
    }

    fn register(&self, name: &str, help: &'static str, read: Read) {
        let name = format!("rproxy_{name}");
        let mut external = self.external();
        external.retain(|present| present.name != name);
        external.push(ExternalMetric { name, help, read });
    }

    fn external(&self) -> MutexGuard<'_, Vec<ExternalMetric>> {
        self.inner.external.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all metrics in the Prometheus text format, version 0.0.4.
    pub fn prometheus_text(&self) -> String {
        super::prometheus::from_openmetrics(&self.exposition())
    }

    /// Returns all metrics in the OpenMetrics text format, version 1.0.0.
    pub fn exposition(&self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::with_capacity(16 << 10);
        // Writing to a string does not fail; if it did, no metrics are better than half of them.
        match text::encode(&mut text, &registry) {
            Ok(()) => text,
            Err(error) => {
                tracing::error!(%error, "cannot encode metrics");
                "# EOF\n".to_owned()
            }
        }
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.requests(&mut families)?;
        self.decisions(&mut families)?;
        for ExternalMetric { name, help, read } in self.external().iter() {
            match read {
                Read::Counter(read) => families.counter(name, help, read())?,
                Read::Counters(read) => families.counters(name, help, read())?,
                Read::Gauge(read) => families.gauge(name, help, &read())?,
                Read::Gauges(read) => families.gauges(name, help, read())?,
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
        families.counters("rproxy_requests", "Completed requests by method and status code.", requests)?;
        families.gauge("rproxy_requests_in_flight", "Requests in flight.", &self.in_flight())?;

        let mut duration = HistogramTotals::default();
        for counters in &self.inner.shards {
            counters.duration.add_to(&mut duration);
        }
        families.histogram(
            "rproxy_request_duration_seconds",
            "Time from the request head to the end of the response.",
            &duration,
        )?;
        families.counter(
            "rproxy_response_body_bytes",
            "Bytes of response bodies sent to clients.",
            self.sum(|counters| &counters.body_bytes),
        )?;
        families.counter(
            "rproxy_requests_aborted",
            "Requests whose response was aborted.",
            self.sum(|counters| &counters.aborted),
        )
    }

    fn decisions(&self, families: &mut Families<'_>) -> fmt::Result {
        families.counters(
            "rproxy_cache_requests",
            "Requests on cached paths by cache status.",
            self.by_label("status", &CACHE, |counters| &counters.cache),
        )?;
        let mut rejections = Vec::new();
        for counters in &self.inner.shards {
            counters.rejections.add_to(&mut rejections);
        }
        families.counters(
            "rproxy_refused_requests",
            "Error responses generated by the proxy, by reason.",
            rejections.into_iter().map(|(reason, count)| ([("reason", reason)], count)),
        )?;
        families.counters(
            "rproxy_upstream_errors",
            "Failed upstream requests by error type (RFC 9209).",
            self.by_label("error", &UPSTREAM_ERRORS, |counters| &counters.upstream_errors),
        )?;
        families.counter(
            "rproxy_panics",
            "Panics while serving a request, each of which failed one request.",
            error_response::panics(),
        )
    }

    /// Returns the counters of one label array, including zeros, so that rates are correct from the first event.
    fn by_label<const N: usize>(
        &self,
        label: &'static str,
        values: &'static [&'static str; N],
        array: impl Fn(&Counters) -> &[AtomicU64; N],
    ) -> Vec<([(&'static str, &'static str); 1], u64)> {
        let counted = |index: usize| self.sum(|counters| &array(counters)[index]);
        values.iter().enumerate().map(|(index, value)| ([(label, *value)], counted(index))).collect()
    }
}

/// Encodes metric families in the OpenMetrics text format.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn process(&mut self) -> fmt::Result {
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        let mut family = self.0.encode_descriptor("rproxy_build", "Version of rproxy.", None, MetricType::Info)?;
        family.encode_info(&labels)?;

        let process = process::Process::read();
        if let Some(seconds) = process.cpu_seconds {
            let help = "CPU time used by the process.";
            let mut family = self.0.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            family.encode_counter(&seconds, NO_EXEMPLAR)?;
        }
        if let Some(bytes) = process.resident_bytes {
            self.gauge("process_resident_memory_bytes", "Resident memory of the process.", &bytes)?;
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

    fn gauges(&mut self, name: &str, help: &str, values: Vec<LabelledValue>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, observed: &HistogramTotals) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Histogram)?.encode_histogram::<[(&str, &str); 0]>(
            observed.seconds(),
            observed.count(),
            &observed.buckets(),
            None,
        )
    }
}

const NO_EXEMPLAR: Option<&Exemplar<[(&str, &str); 0], u64>> = None;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::MethodLabel;
    use http::StatusCode;
    use rproxy_cache::CacheStatus;
    use rproxy_core::Rejection;
    use rproxy_upstream::ProxyErrorKind;
    use std::collections::HashMap;
    use std::time::Duration;

    /// Parses OpenMetrics 1.0.0 text into a map from sample name and labels to value.
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
    fn exposition_adds_up_all_workers() {
        let metrics = Metrics::with_shards(2);
        let workers = [metrics.shard(), metrics.shard(), metrics.shard()];
        for shard in &workers {
            shard.request_started();
            shard.request_ended(MethodLabel::Get, Some(StatusCode::OK), Duration::from_millis(2), 10, true);
        }
        workers[0].request_started();
        workers[1].request_started();
        workers[1].request_ended(MethodLabel::Post, None, Duration::from_secs(100), 0, false);
        workers[0].count_cache_status(CacheStatus::Hit);
        workers[1].count_rejection(&Rejection::new("upstream", "upstream", StatusCode::BAD_GATEWAY));
        workers[1].count_upstream_error(ProxyErrorKind::ConnectionRefused);
        metrics.gauge("connections", "Replaced.", || 1);
        metrics.gauge("connections", "Open connections.", || 7);
        metrics.counter("stored", "Stored.", || 8);
        metrics.counters("closed", "Closed.", || vec![(vec![("by", "client".to_owned())], 6)]);
        metrics.gauges("expiry", "When.", || vec![(vec![("name", "a\"\\\nb".to_owned())], 9)]);

        let samples = parse(&metrics.exposition());
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
            ("rproxy_connections", 7.0),
            ("rproxy_stored_total", 8.0),
            ("rproxy_closed_total{by=\"client\"}", 6.0),
            (r#"rproxy_expiry{name="a\"\\\nb"}"#, 9.0),
        ] {
            assert_eq!(samples.get(series), Some(&value), "{series}");
        }
        assert!(samples.contains_key(&format!("rproxy_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))));
        assert!(samples["process_resident_memory_bytes"] > 1e5 && samples["process_open_fds"] >= 3.0);
        assert!(samples.contains_key("process_cpu_seconds_total"));
        assert!(!samples.keys().any(|series| series.contains("code=\"404\"")));
    }
}
