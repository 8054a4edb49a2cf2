//! The Prometheus text format 0.0.4, for scrapers that do not accept OpenMetrics.

use std::fmt::Write;

/// Converts OpenMetrics text to the Prometheus text format, version 0.0.4.
///
/// The samples are the same. The metadata of a counter has the name of its samples, with `_total`; units and the end
/// marker do not exist.
pub(super) fn from_openmetrics(text: &str) -> String {
    let mut converted = String::with_capacity(text.len());
    let mut help: Option<(&str, &str)> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = Some(rest.split_once(' ').unwrap_or((rest, "")));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some((_, text)) = help.take().filter(|(family, _)| *family == name) {
                let _ = writeln!(converted, "# HELP {name}{suffix} {text}");
            }
            let _ = writeln!(converted, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            converted.push_str(line);
            converted.push('\n');
        }
    }
    converted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_text_names_counters_with_total_suffix() {
        let openmetrics = "# HELP a_requests Requests.\n# TYPE a_requests counter\na_requests_total{code=\"2xx\"} 3\n\
             # HELP a_open Open.\n# TYPE a_open gauge\n# UNIT a_open bytes\na_open 1\n\
             # HELP a_build Build.\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n# EOF\n";
        assert_eq!(
            from_openmetrics(openmetrics),
            "# HELP a_requests_total Requests.\n# TYPE a_requests_total counter\na_requests_total{code=\"2xx\"} 3\n\
             # HELP a_open Open.\n# TYPE a_open gauge\na_open 1\n\
             # HELP a_build_info Build.\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n"
        );
    }
}
